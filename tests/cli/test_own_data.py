"""`--data.dataset`: a class of the user's own through the whole command line."""

import pytest
import torch
import yaml
from PIL import Image

import seg as library
from tests.cli.test_app import checkpoint_of, per_class, seg
from tests.conftest import LIGHT, SMALL
from tests.data.test_datamodule import write_split

pytestmark = pytest.mark.slow

ON_CPU = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
MORE = [*LIGHT, "--data.class_names=[ground,object]"]
POLICY = ["--model.loss=CrossEntropyLoss", "--model.loss.weight=median_frequency"]
CONSTANT = ["--model.lr_scheduler=ConstantLR", "--model.lr_scheduler.factor=1.0"]
OWN = ["--data.dataset=tests.own_data.Pairs"]
SAMPLER = ["--data.sampler=seg.data.ClassFirstSampler"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_split(folder, "train", [(40, 50)] * 8)
    write_split(folder, "val", [(40, 50), (32, 48), (40, 50)])
    write_split(folder, "test", [(40, 50)] * 2)
    return folder


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """Two epochs of the user's own class, resumed between them, and of files; the folders."""
    folder = tmp_path_factory.mktemp("runs")
    common = [*SMALL, *MORE, *POLICY, *SAMPLER, *CONSTANT, "--trainer.default_root_dir", folder]
    own, files = folder / "Pairs" / "version_0", folder / "files" / "version_0"
    assert seg("fit", *common, *OWN, f"--data.dataset.folder={data}") == 0
    goes_on = ["--ckpt_path", own / "checkpoints" / "last.ckpt", "--trust", "tests"]
    assert seg("fit", *ON_CPU, *goes_on, "--trainer.max_epochs=2") == 0
    more = ["--data.root", data, "--name", "files", "--trainer.max_epochs=2"]
    assert seg("fit", *common, *more) == 0
    return own, files


def test_a_run_of_ones_own_class_ends_as_one_of_the_same_files(runs):
    own, files = runs
    assert per_class(own) == per_class(files)
    last = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in runs]
    assert [checkpoint["global_step"] for checkpoint in last] == [4, 4]
    states = [checkpoint["state_dict"] for checkpoint in last]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    assert (own / "previews").exists()
    stored = yaml.safe_load((own / "config.yaml").read_text())["data"]["dataset"]
    assert stored["class_path"] == "tests.own_data.Pairs"
    assert stored["init_args"]["with_sizes"] is True


@pytest.mark.parametrize("command", ["validate", "test"])
def test_its_checkpoint_is_judged_when_the_package_is_trusted(runs, command, tmp_path, capsys):
    own, files = runs
    given = [command, *ON_CPU, "--data.num_workers=0"]
    refused = [*given, "--ckpt_path", checkpoint_of(own), "--output", tmp_path / "refused"]
    assert seg(*refused) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("seg: ")]
    assert "data.dataset.class_path names tests.own_data.Pairs" in line
    assert "if you trust it, add --trust tests" in line
    for run, more in ((own, ["--trust", "tests"]), (files, [])):
        output = ["--output", tmp_path / run.parent.name]
        assert seg(*given, "--ckpt_path", checkpoint_of(run), *more, *output) == 0
    assert per_class(tmp_path / "Pairs") == per_class(tmp_path / "files")


def test_its_checkpoint_predicts_files_and_is_calibrated(runs, data, tmp_path):
    trusted = ["--ckpt_path", checkpoint_of(runs[0]), "--trust", "tests"]
    folder, output = data / "images" / "test", tmp_path / "predictions"
    assert seg("predict", *ON_CPU, *trusted, "--data.predict", folder, "--output", output) == 0
    with Image.open(output / "00.png") as image:
        assert image.size == (50, 40)
    target = tmp_path / "calibrated.ckpt"
    assert seg("calibrate", *trusted, "--output", target) == 0
    module = library.load(target, trust="tests")
    assert module.logit_bias.shape == (2,) and module.class_names == ["ground", "object"]


def test_an_audit_of_ones_own_class_names_the_split_that_it_lacks(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = [*OWN, f"--data.dataset.folder={data}"]
    given = [*own, "--data.class_names=[ground,object]", "--data.test_split=unseen"]
    assert seg("audit", *given, "--output", tmp_path / "audit") == 0
    page = (tmp_path / "audit" / "audit.json").read_text()
    assert "FileNotFoundError" in page and "unseen" in page


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--data.dataset=tests.own_data.Missing"], "tests.own_data.Missing"),
        (["--data.dataset=torch.nn.Linear"], "torch.nn.Linear"),
        (OWN, "folder"),
        ([*OWN, "--data.dataset.folder=none"], "FileNotFoundError"),
    ],
    ids=["no class", "no data set", "argument", "folder"],
)
def test_a_class_that_makes_no_data_is_refused(given, message, tmp_path, capsys):
    common = [*SMALL, *MORE, "--trainer.default_root_dir", tmp_path]
    try:
        status = seg("fit", *common, *given)
    except SystemExit as error:
        status = error.code
    assert status == 2
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed
