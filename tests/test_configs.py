"""Every shipped configuration and every command of the documentation, run on small data."""

import re
import shlex
import shutil
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
import yaml
from jsonargparse import Namespace

from seg.audit import recommend
from seg.cli import app as cli
from seg.cli.command_table import COMMANDS, TRAINER
from seg.cli.linking import link_network
from seg.cli.shipped_configs import with_shipped_paths
from seg.errors import InputError
from tests.conftest import LIGHT, SMALL, write_pairs

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(ROOT.glob("configs/*/*.yaml"))
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*/*.md")), ROOT / "docs/start.md"]
OWNED = {
    "data": [("data",)],
    "loss": [("model", "loss")],
    "network": [("model", "network"), ("model", "encoder_lr_factor")],
    "optimizer": [("model", "optimizer"), ("model", "lr_scheduler")],
    "trainer": [("trainer",), ("checkpoint",)],
    "callbacks": [("trainer", "callbacks+")],
    "logger": [("trainer", "logger"), ("trainer", "logger+")],
    "experiment": [("data",), ("model",), ("trainer",), ("checkpoint",)],
}
PACKAGES = {"logger/wandb": "wandb", "logger/mlflow": "mlflow"}
"""What a shipped configuration needs beside `seg`."""
# on a machine of any kind, one process, a few steps
HERE = ["--trainer.devices=1", "--trainer.num_nodes=1", "--trainer.strategy=auto"]
HERE += ["--trainer.sync_batchnorm=false"]
HERE += ["--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"]
HERE += ["--trainer.num_sanity_val_steps=0", "--data.eval_batch_size=1"]


def name(path):
    return f"{path.parent.name}/{path.stem}"


@pytest.fixture(scope="module")
def folder_data(tmp_path_factory):
    """Data of two classes in the layouts of folder.yaml and binary.yaml."""
    root = tmp_path_factory.mktemp("data")
    write_pairs(root / "folder" / "images", root / "folder" / "masks", 10, (72, 80), [0, 1])
    for split in ("train", "val"):
        images, masks = (root / "binary" / kind / split for kind in ("images", "masks"))
        write_pairs(images, masks, 8, (72, 80), [0, 255])
    return root


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory):
    """Weights of the EfficientNet-Lite0 encoder as a local file, random ones."""
    network = smp.Unet("tu-tf_efficientnet_lite0", encoder_weights=None)
    path = tmp_path_factory.mktemp("weights") / "encoder.pth"
    torch.save(network.encoder.model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def finished_runs(camvid_like, tmp_path_factory):
    """The folder `runs` with the finished run `camvid`."""
    folder = tmp_path_factory.mktemp("finished")
    data = ["-c", str(ROOT / "configs/data/camvid.yaml"), "--data.root", str(camvid_like)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["fit", *data, *SMALL, *LIGHT, *HERE, "--name", "camvid"]) == 0
    return folder / "runs"


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_a_config_states_its_own_part_only_and_begins_with_its_command(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 30
    assert re.match(r"# (seg fit|torchrun .* -m seg fit) ", lines[0])
    own = path.stem if path.parent.name == "experiment" else name(path)
    assert re.search(rf"-c {own}\b", lines[0])
    content = yaml.safe_load(path.read_text())
    owned = OWNED[path.parent.name]
    for key, value in content.items():
        parts = [(key, inner) for inner in value] if (key,) not in owned else [(key,)]
        assert set(parts) <= set(owned)


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_a_shipped_config_is_taken_by_the_program(path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    args = shlex.split(path.read_text().splitlines()[0], comments=False)
    args = ["data/folder" if arg == "mine.yaml" else arg for arg in args[args.index("fit") :]]
    with pytest.raises(SystemExit) as ended:
        cli.main([*args, "--print_config"])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    assert set(yaml.safe_load(path.read_text())) <= set(yaml.safe_load(printed.out))


LOSS = yaml.safe_load((ROOT / "configs/experiment/rare.yaml").read_text())["model"]["loss"]


def facts(*size, pixels, component):
    """As `seg.audit` finds them, where a rare class is in each of 100 images."""
    rows = [("frequent", 300 * pixels), ("rare", pixels)]
    classes = [
        {"name": name, "pixels": n, "share": n / (301 * pixels), "images": 100}
        | {"median_component": component}
        for name, n in rows
    ]
    sizes = {"median": list(size), "smaller_than_crop": 0, "crop_share": 0.5}
    return {"imbalance_ratio": 300.0, "images": 100, "classes": classes, "sizes": sizes}


def test_the_recipe_for_rare_classes_is_what_an_audit_recommends_that_knows_no_more():
    shipped = yaml.safe_load((ROOT / "configs/experiment/rare.yaml").read_text())
    found = recommend(facts(512, 512, pixels=9000, component=2000.0), (256, 256))
    assert found.config == shipped


def test_the_recipe_for_camvid_is_what_an_audit_of_it_recommends():
    shipped = yaml.safe_load((ROOT / "configs/experiment/camvid.yaml").read_text())
    data = yaml.safe_load((ROOT / "configs/data/camvid.yaml").read_text())["data"]
    of_camvid = facts(360, 480, pixels=9000, component=400.0)
    found = recommend(of_camvid, tuple(data["crop_size"]), data["resize"]).config
    assert shipped["data"] == data | found["data"]
    assert shipped["model"]["loss"] == found["model"]["loss"]


@pytest.mark.parametrize("recipe", ["binary_rare", "finetune", "large"])
def test_a_recipe_that_is_not_plain_has_the_loss_for_rare_classes(recipe):
    text = (ROOT / f"configs/experiment/{recipe}.yaml").read_text()
    assert yaml.safe_load(text)["model"]["loss"] == LOSS


def test_the_whole_recipes_are_these():
    names = {path.stem for path in CONFIGS if path.parent.name == "experiment"}
    known = {"baseline", "binary_rare", "camvid", "finetune", "large", "quickstart", "rare"}
    assert names == known


def texts_of(args):
    """What the configurations say that a command names."""
    paths = []
    for option, value in pairwise(args):
        if option in ("-c", "--config"):
            with suppress(InputError):  # of what another command writes first
                paths.append(Path(with_shipped_paths([option, value])[1]))
    return "".join(path.read_text() for path in paths if path.is_file())


def shortened(command, tmp_path, camvid_like, folder_data, encoder_file):
    """The arguments of a command, its placeholders filled in, made short."""
    args = shlex.split(command, comments=True)
    args = args[args.index("seg") + 1 :]
    if "mine.yaml" in args:  # it names its own data
        args = ["data/folder" if arg == "mine.yaml" else arg for arg in args]
        args += ["--data.root", "PATH"]
    text = command + texts_of(args)
    is_own = any(word in text for word in ("mine.yaml", "-c data/folder", "folder.yaml"))
    binary = "255: 1" in text
    data = folder_data / ("binary" if binary else "folder") if is_own or binary else camvid_like
    places = {"PATH": data, "FILE": encoder_file, "FOLDER": camvid_like / "test"}
    args = [str(places.get(arg, arg)) for arg in args]
    if args[0] == "fit" and "--ckpt_path" not in args:
        args += ["--trainer.default_root_dir", str(tmp_path)]
    if COMMANDS[args[0]].module != TRAINER:
        return args if args[0] in ("compare", "export", "init") else [*args, "--data.num_workers=0"]
    quick = [arg for arg in SMALL if args[0] == "fit" or "max_epochs" not in arg]
    # an ImageNet download is the hub's to test; a checkpoint has no weights to ask for
    hub = ["--model.network.encoder_weights=null"] if "imagenet" in text else []
    if args[0] != "fit":
        return [*args, *quick, *hub]
    words = ("network/", "encoder", "ckpt_path", "init_from", "-c large", "-c quickstart")
    has_network = any(word in command for word in words)
    small = ["--data.resize=[40,56]"] if "resize: [480" in text else []
    seldom = ["--trainer.check_val_every_n_epoch=1"] if "check_val" in text else []
    if not has_network:
        small += LIGHT
    elif "ckpt_path" not in command:  # a resumed run keeps its batches
        small += ["--data.batch_size=2"]
    return [*args, *quick, *small, *seldom, *hub, *HERE]


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_a_shipped_config_trains_by_the_command_it_begins_with(
    path, tmp_path, monkeypatch, camvid_like, folder_data, encoder_file
):
    if package := PACKAGES.get(name(path)):
        pytest.importorskip(package, reason=f"{package} is not installed")
    # a file of the run beside its folder lies here, and not in the project
    monkeypatch.chdir(tmp_path if path.parent.name == "logger" else ROOT)
    command = path.read_text().splitlines()[0].removeprefix("# ")
    args = shortened(command, tmp_path, camvid_like, folder_data, encoder_file)
    if name(path) == "logger/wandb":
        args.append("--trainer.logger.offline=true")
    if "warmup_steps" in path.read_text():
        args.append("--model.lr_scheduler.warmup_steps=1")
    assert cli.main(args) == 0
    assert list(tmp_path.glob("*/version_0/checkpoints/best.ckpt"))


def documented_commands():
    pages = [page.read_text() for page in PAGES]
    blocks = [block for page in pages for block in re.findall(r"```bash\n(.*?)```", page, re.S)]
    lines = dict.fromkeys(line for block in blocks for line in block.splitlines())
    return [line for line in lines if re.match(r"(seg|torchrun .* -m seg) ", line)]


@pytest.mark.slow
@pytest.mark.parametrize("command", documented_commands())
def test_a_command_of_the_documentation_runs(
    command, tmp_path, monkeypatch, camvid_like, folder_data, encoder_file, finished_runs
):
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    mine = tmp_path / "configs/data/mine.yaml"
    shutil.copy(tmp_path / "configs/data/folder.yaml", mine)
    monkeypatch.chdir(tmp_path)
    for run in {"camvid", *re.findall(r"runs/(\w+)/", command)}:
        # a copy of its own: resuming and judging write beside the checkpoint
        shutil.copytree(finished_runs / "camvid", tmp_path / "runs" / run)
    args = shortened(command, tmp_path / "out", camvid_like, folder_data, encoder_file)
    if "-c mine.yaml" in command:
        assert cli.main(["init", str(folder_data / "folder")]) == 0
    if "audit/recommended.yaml" in command:
        data = ["-c", "configs/data/camvid.yaml", "--data.root", str(camvid_like)]
        assert cli.main(["audit", *data, "--data.crop_size=[32,32]"]) == 0
    if "-calibrated.ckpt" in command:
        path = args[args.index("--ckpt_path") + 1].replace("-calibrated", "")
        assert cli.main(["calibrate", "--ckpt_path", path]) == 0
    if "fit --ckpt_path" in command and "--trainer.max_epochs" not in command:
        args.append("--trainer.max_epochs=2")
    assert cli.main(args) == 0


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, finished_runs):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    monkeypatch.chdir(finished_runs.parent)
    found = {}
    exec(code, found)  # trusted: it is our own documentation
    assert found["class_ids"].shape == (1, 240, 320)
    assert found["class_ids"].dtype == torch.uint8


def test_the_documentation_names_only_files_that_exist():
    text = "".join(page.read_text() for page in [*PAGES, ROOT / "CONTRIBUTING.md"])
    named = set(re.findall(r"(?:configs|scripts|seg|tests)/[\w/.-]*\.(?:yaml|sh|py)", text))
    made = {"configs/data/mine.yaml"}
    assert {path for path in named - made if not (ROOT / path).exists()} == set()
    assert "seg/module.py" in named


def test_weights_by_hub_name_are_left_to_the_networks_own_loading(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "seg.cli.linking.hub_normalisation", lambda *a: asked.append(a) or ([0.5] * 3, [0.25] * 3)
    )
    init_args = Namespace(encoder_name="resnet34", encoder_weights=None)
    network = Namespace(class_path="segmentation_models_pytorch.Unet", init_args=init_args)
    loss = Namespace(class_path="seg.losses.CrossEntropyLoss")
    model = Namespace(
        network=network,
        loss=loss,
        class_names=["a", "b"],
        in_channels=3,
        encoder_weights="imagenet",
        init_from=None,
        mean=None,
        std=None,
    )
    link_network(model, weights_given=False)
    assert init_args.encoder_weights == "imagenet"
    assert model.encoder_weights is None
    assert model.mean == [0.5] * 3
    assert asked == [("resnet34", "imagenet", 3)]
    link_network(model, weights_given=True)
    assert init_args.encoder_weights is None
