"""Encoders by name, and what is said where there is none or the hub cannot be reached."""

import pytest
import segmentation_models_pytorch as smp
import torch
from huggingface_hub import constants
from torch import nn

from seg.cli import app as cli
from seg.errors import InputError
from seg.networks import check_encoder, hub_normalisation, normalisation
from tests.conftest import SYNTHETIC

pytestmark = pytest.mark.slow


@pytest.fixture
def unreachable_hub(tmp_path, monkeypatch):
    """A hub that is switched off, with nothing fetched before."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_statistics_repeat_over_further_channels_and_default_to_imagenets():
    network = smp.Unet("resnet18", encoder_weights=None)
    mean, std = normalisation(network, 4)
    assert mean == [0.485, 0.456, 0.406, 0.485]
    assert std == [0.229, 0.224, 0.225, 0.229]
    assert normalisation(nn.Conv2d(1, 2, 1), 1) == ([0.485], [0.229])


def test_statistics_of_an_encoder_of_timm_are_those_of_its_weights():
    found = hub_normalisation("tu-tf_efficientnet_lite0.in1k", "imagenet", 3)
    assert found == ([0.5] * 3, [0.5] * 3)
    assert hub_normalisation("my_encoder", "imagenet", 3) is None


@pytest.mark.parametrize(
    "name", ["resnet18", "mit_b0", "tu-resnet10t", "tu-resnet10t.c3_in1k", None]
)
def test_an_encoder_that_smp_has_is_taken(name):
    check_encoder(name)
    if name is not None:
        network = smp.Unet(name, encoder_weights=None)
        assert isinstance(network.encoder, torch.nn.Module)


@pytest.mark.parametrize(
    ("name", "like"), [("resnet19", "resnet18"), ("tu-resnet10", "tu-resnet10t")]
)
def test_an_encoder_that_smp_has_not_is_refused_with_names_like_it(name, like, capsys):
    assert cli.main(["fit", *SYNTHETIC, f"--model.network.encoder_name={name}"]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "seg: error" in x]
    assert f"encoder_name {name}: smp has no such encoder; names like it are" in line
    assert like in line


@pytest.mark.filterwarnings("ignore:For 'tu-'")  # smp wants true there, and its type a text
@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet10t"])
@pytest.mark.parametrize("mean", [[], ["--model.mean=[0,0,0]", "--model.std=[1,1,1]"]])
def test_weights_that_cannot_be_fetched_are_said_in_one_line(
    encoder, mean, unreachable_hub, tmp_path, capsys
):
    args = [f"--model.network.encoder_name={encoder}", "--model.network.encoder_weights=imagenet"]
    folder = f"--trainer.default_root_dir={tmp_path}"
    assert cli.main(["fit", *SYNTHETIC, *args, *mean, folder]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "seg: error" in x]
    assert "the hub cannot be reached" in line
    assert "model.encoder_weights" in line


def test_weights_of_smp_that_cannot_be_fetched_are_said_in_one_line_in_python(unreachable_hub):
    with pytest.raises(InputError, match="the hub cannot be reached"):
        hub_normalisation("resnet18", "imagenet", 3)
