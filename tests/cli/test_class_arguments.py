"""Which arguments a class gets that is put in another's place: its own."""

import inspect
import json
import logging

import pytest
import segmentation_models_pytorch as smp
import torch
import yaml
from torch import nn

from seg.checkpoint_files.contents import read_config
from seg.cli import app as cli
from tests.conftest import SYNTHETIC

pytestmark = pytest.mark.slow

OWN = "tests.cli.test_class_arguments.Own"


class Own(nn.Conv2d):
    """A network of one's own whose arguments have names that U-Net's have, with other values."""

    def __init__(
        self,
        classes: int = 2,
        in_channels: int = 4,
        encoder_depth: int = 3,
        encoder_weights: str | None = None,
        decoder_interpolation: str = "bicubic",
    ):
        super().__init__(in_channels, classes, 1)
        self.given = encoder_depth, encoder_weights, decoder_interpolation


def parsed(capsys, *args):
    """The whole configuration that the arguments stand for."""
    with pytest.raises(SystemExit):
        cli.main(["fit", *map(str, args), "--print_config"])
    return yaml.safe_load(capsys.readouterr().out)


def own_defaults(constructor):
    parameters = inspect.signature(constructor).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return json.loads(json.dumps(defaults))


def as_yaml(folder, key, class_path, **init_args):
    path = folder / f"{key}.yaml"
    value = {"class_path": class_path} | ({"init_args": init_args} if init_args else {})
    path.write_text(yaml.safe_dump({"model": {key: value}}))
    return path


NETWORKS = ["PSPNet", "PAN", "FPN", "DeepLabV3Plus", "Linknet", "MAnet", "UPerNet", "Segformer"]


@pytest.mark.parametrize("given", ["yaml", "command line"])
@pytest.mark.parametrize("name", NETWORKS)
def test_another_network_takes_nothing_of_the_default_ones_arguments(name, given, tmp_path, capsys):
    path = f"segmentation_models_pytorch.{name}"
    if given == "yaml":
        args = ["-c", as_yaml(tmp_path, "network", path, encoder_name="resnet50")]
    else:
        args = [f"--model.network={path}", "--model.network.encoder_name=resnet50"]
    found = parsed(capsys, *args)["model"]["network"]
    expected = own_defaults(getattr(smp, name)) | {"encoder_name": "resnet50"}
    assert {k: found["init_args"][k] for k in expected} == expected


@pytest.mark.parametrize("given", ["yaml", "command line"])
@pytest.mark.parametrize(
    ("key", "path", "unlike"),
    [
        ("optimizer", "torch.optim.SGD", {"weight_decay": 0.0, "lr": 0.001}),
        ("optimizer", "torch.optim.RMSprop", {"weight_decay": 0.0, "lr": 0.01}),
        ("lr_scheduler", "torch.optim.lr_scheduler.PolynomialLR", {"power": 1.0, "total_iters": 5}),
        ("loss", "seg.losses.FocalLoss", {"gamma": 2.0, "label_smoothing": 0.0}),
    ],
)
def test_another_loss_optimiser_or_schedule_takes_its_own_defaults(
    key, path, unlike, given, tmp_path, capsys
):
    before = {
        "optimizer": ("torch.optim.AdamW", {"lr": 0.5, "weight_decay": 0.25}),
        "lr_scheduler": ("seg.optim.PolynomialDecay", {"power": 3.0}),
        "loss": ("seg.losses.CrossEntropyLoss", {"label_smoothing": 0.125}),
    }[key]
    first = tmp_path / "first"
    first.mkdir()
    after = ["-c", as_yaml(tmp_path, key, path)] if given == "yaml" else [f"--model.{key}={path}"]
    for args in (after, ["-c", as_yaml(first, key, before[0], **before[1]), *after]):
        found = parsed(capsys, *args)["model"][key]["init_args"]
        assert {k: found[k] for k in unlike} == unlike


def test_the_same_class_by_another_path_keeps_its_arguments(capsys):
    path = "segmentation_models_pytorch.decoders.unet.model.Unet"
    found = parsed(capsys, f"--model.network={path}")["model"]["network"]["init_args"]
    assert (found["encoder_name"], found["encoder_weights"]) == ("resnet18", None)


def test_what_was_given_to_the_class_before_is_named_once(tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO, "seg")
    parsed(capsys, "--model.network=segmentation_models_pytorch.FPN")
    assert "takes no argument" not in caplog.text
    given = ["--model.network.encoder_name=resnet50", "--model.network.decoder_attention_type=scse"]
    parsed(capsys, *given, "--model.network=segmentation_models_pytorch.FPN")
    said = "FPN takes no argument of Unet before it: encoder_name, decoder_attention_type; give"
    assert caplog.text.count(said) == 1


@pytest.fixture(scope="module")
def unet_run(tmp_path_factory):
    """The last checkpoint of a run with a U-Net that was given arguments."""
    folder = tmp_path_factory.mktemp("runs")
    given = ["--model.network.decoder_interpolation=bilinear", "--model.network.encoder_depth=4"]
    given += ["--model.network.decoder_channels=[16,16,8,8]"]
    given += ["--model.network.encoder_name=tu-test_resnet"]
    args = ["fit", *SYNTHETIC, *given, f"--trainer.default_root_dir={folder}"]
    assert cli.main(args) == 0
    (path,) = folder.glob("*/version_0/checkpoints/last.ckpt")
    return path


def test_a_resumed_run_keeps_its_networks_arguments_and_no_default_of_the_program(unet_run, capsys):
    stored = read_config(str(unet_run), [])["model"]["network"]
    found = parsed(capsys, f"--ckpt_path={unet_run}")["model"]["network"]
    assert found == stored
    assert found["init_args"]["encoder_depth"] == 4


@pytest.mark.parametrize("option", ["ckpt_path", "model.init_from"])
def test_a_network_in_place_of_a_checkpoints_takes_none_of_its_arguments(option, unet_run, capsys):
    args = [f"--{option}={unet_run}", "--model.network=segmentation_models_pytorch.FPN"]
    found = parsed(capsys, *args)["model"]["network"]["init_args"]
    expected = own_defaults(smp.FPN)
    compared = expected.keys() - {"classes", "in_channels"}
    assert {k: found[k] for k in compared} == {k: expected[k] for k in compared}


def test_a_network_of_ones_own_is_filled_in_and_trains_with_its_own_defaults(tmp_path):
    args = ["fit", *SYNTHETIC, f"--trainer.default_root_dir={tmp_path}"]
    assert cli.main([*args, f"--model.network={OWN}"]) == 0
    (path,) = tmp_path.glob("*/version_0/checkpoints/last.ckpt")
    stored = read_config(str(path), ["tests"])["model"]["network"]["init_args"]
    assert stored == own_defaults(Own) | {"classes": 5, "in_channels": 3}
    weights = torch.load(path, weights_only=True)["state_dict"]
    assert weights["network.weight"].shape == (5, 3, 1, 1)


@pytest.mark.parametrize("given", ["--model.encoder_weights", "--model.network.encoder_weights"])
def test_a_network_of_ones_own_gets_the_name_of_its_encoder_weights(given, tmp_path):
    args = ["fit", *SYNTHETIC, f"--trainer.default_root_dir={tmp_path}"]
    assert cli.main([*args, f"--model.network={OWN}", f"{given}=mine"]) == 0
    (path,) = tmp_path.glob("*/version_0/config.yaml")
    model = yaml.safe_load(path.read_text())["model"]
    assert model["network"]["init_args"]["encoder_weights"] == "mine"
    assert model["mean"] is None


def test_weights_that_the_encoder_has_not_are_refused_in_one_line(capsys):
    args = ["--model.network.encoder_name=resnet18", "--model.encoder_weights=imagnet"]
    assert cli.main(["fit", *SYNTHETIC, *args]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "imagnet" in x]
    assert "encoder_weights imagnet of resnet18" in line
    assert "'imagenet', 'ssl', 'swsl'" in line
    assert "set it to null" in line
