"""What users get wrong is told in one line, and nothing is left behind."""

from pathlib import Path

import lightning as L
import pytest

from seg.cli import app as cli
from tests.conftest import LIGHT, SYNTHETIC

pytestmark = pytest.mark.slow

OLD = Path(__file__).resolve().parents[1] / "files" / "version_0_1.ckpt"
FIT = ["fit", *SYNTHETIC, *LIGHT]
STOP = "trainer.callbacks"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch, camvid_like):
    """The folder that `~` stands for, and in which the commands are given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "camvid").symlink_to(camvid_like)
    content = OLD.read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.ckpt").touch()
    (tmp_path / "tabs.yaml").write_text("data:\n\tbatch_size: 2\n")
    return tmp_path


def told(args, capsys):
    """The message of a command that is refused."""
    try:
        status = cli.main([str(arg) for arg in args])
    except SystemExit as ended:  # of a parser
        status = ended.code
    assert status == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert not Path("runs").exists()
    return error[error.index("seg: error: ") :].removeprefix("seg: error: ").strip()


NO_CHECKPOINT = "not a checkpoint that can be read safely: expected a whole .ckpt file of `seg fit`"
CASES = [
    (["fit", "-c", "tabs.yaml"], "config: line 2 begins with what YAML cannot take, such as a tab"),
    (["test", "--ckpt_path=nowhere.ckpt"], "nowhere.ckpt: no such checkpoint; give the path of"),
    (["test", "--ckpt_path=camvid"], "camvid: no such checkpoint; give the path of a .ckpt file."),
    (["test", "--ckpt_path=cut.ckpt"], f"cut.ckpt: {NO_CHECKPOINT}"),
    (["calibrate", "--ckpt_path=empty.ckpt"], f"empty.ckpt: {NO_CHECKPOINT}"),
    (["fit", "--model.init_from=tabs.yaml"], f"tabs.yaml: {NO_CHECKPOINT}"),
    (["export", "--ckpt_path", OLD, "--size", "320", "480"],
     "size: expected tuple[int, int] or null; got 320; write several as [320,...], without spaces"),
    ([*FIT, "--data.crop_size=[-3,32]"], "data.crop_size [-3, 32] must be [height, width]"),
    ([*FIT, "--model.network.encoder_depth=9"], "model.network: "),
    ([*FIT, "--trainer.val_check_interval=1.5"], "You have passed invalid value 1.5 for val_check"),
    ([*FIT, "--trainer.strategy=nope"], "You selected an invalid strategy name: `strategy='nope'`"),
    ([*FIT, f"--{STOP}+=EarlyStopping", f"--{STOP}.monitor=val/miou", f"--{STOP}.mode=foo"],
     "lightning.pytorch.callbacks.EarlyStopping: `mode` can be min, max, got foo"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "said"), CASES, ids=lambda value: str(value)[-60:])
def test_it_is_told_in_one_line_that_names_the_key(args, said, capsys):
    message = told(args, capsys)
    assert message.startswith(said)
    assert "\n" not in message


def test_a_loss_whose_weights_are_of_other_classes_is_refused(capsys):
    message = told_of_run([*FIT, "--model.loss=FocalLoss", "--model.loss.alpha=[1,2]"], capsys)
    assert message.startswith(
        "seg: error: model.loss: alpha of shape (2,) for logits of 5 channels"
    )


def test_a_rate_that_the_optimiser_refuses_is_told_with_its_key(capsys):
    message = told_of_run([*FIT, "--model.optimizer.lr=-1"], capsys)
    assert message == "seg: error: model.optimizer: Invalid learning rate: -1.0"


def told_of_run(args, capsys):
    """The last line of a run that had begun."""
    assert cli.main(args) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.strip().splitlines()[-1]


PLACES = [
    ("--data.root=~/camvid/train", "no such folders {}/train/train and {}/train/trainannot"),
    ("--data.images={split}/nothing", "{}/train/nothing: no such folder (data.images: "),
    ("--data.masks={split}nothing", "{}/trainnothing: no such folder (data.masks: "),
    ("--data.masks={split}annot/{stem}_L.png", "no mask in {}/trainannot is called 00_L.png"),
]


@pytest.mark.parametrize(("given", "sought"), PLACES)
def test_a_wrong_place_is_told_with_what_was_sought_there(given, sought, home, capsys):
    message = told(["audit", "-c", "data/camvid", "--data.root=~/camvid", given], capsys)
    assert sought.replace("{}", str(home / "camvid")) in message


ROOTS = ["--data.root=~/camvid", "--data.root=camvid", "--data.root=./camvid", "root: ~/"]


@pytest.mark.parametrize("root", ROOTS)
def test_a_root_is_taken_from_home_or_from_here(root, home, capsys):
    if root.startswith("root"):
        Path("mine.yaml").write_text("data: {root: ~/camvid}\n")
        root = "--config=mine.yaml"
    assert cli.main(["audit", "-c", "data/camvid", root, "--data.num_workers=0"]) == 0
    assert (home / "audit" / "audit.json").is_file()


class OwnNetwork(L.LightningModule):
    """Fails by itself."""

    def __init__(self, classes: int):
        raise ValueError("a fault of its own")


def test_a_fault_of_a_class_of_ones_own_keeps_its_traceback():
    with pytest.raises(ValueError, match="a fault of its own"):
        cli.main(["fit", *SYNTHETIC, f"--model.network={__name__}.OwnNetwork"])
