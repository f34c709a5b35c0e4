import logging

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from torch import nn

from seg.errors import InputError
from seg.networks import (
    load_encoder_weights,
    load_network_weights,
    normalisation,
    read_weights,
)

pytestmark = pytest.mark.slow


def unet(classes=3, in_channels=3, encoder="resnet18"):
    return smp.Unet(encoder, encoder_weights=None, classes=classes, in_channels=in_channels)


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(0)
    return unet()


def test_encoder_weights_from_safetensors_are_taken_bit_for_bit(source, tmp_path):
    save_file(source.encoder.state_dict(), tmp_path / "encoder.safetensors")
    network = unet()
    load_encoder_weights(network, tmp_path / "encoder.safetensors")
    for name, tensor in source.encoder.state_dict().items():
        assert torch.equal(network.encoder.state_dict()[name], tensor), name


PREFIXES = ["module.", "encoder.", "backbone.", "model.", "net.", "module.model.", "_orig_mod."]
PREFIXES += ["model._orig_mod.encoder.", "module.net.backbone.", "network.encoder.model."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_usual_prefixes_of_names_are_understood(source, tmp_path, prefix):
    state = {prefix + k: v for k, v in source.encoder.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "encoder.pth")
    network = unet()
    load_encoder_weights(network, tmp_path / "encoder.pth")
    assert torch.equal(network.encoder.conv1.weight, source.encoder.conv1.weight)


def test_real_pretrained_weights_fill_the_whole_encoder(shared_data):
    path = shared_data / "weights" / "tf_efficientnet_lite0.imagenet.safetensors"
    network = unet(encoder="tu-tf_efficientnet_lite0")
    load_encoder_weights(network, path)
    weights = read_weights(path)
    for name, tensor in network.encoder.model.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    assert normalisation(network, 3) == ([0.5] * 3, [0.5] * 3)


def test_a_stem_of_more_channels_repeats_the_pretrained_ones_at_the_same_response(source, tmp_path):
    save_file(source.encoder.state_dict(), tmp_path / "encoder.safetensors")
    network = unet(in_channels=6)
    load_encoder_weights(network, tmp_path / "encoder.safetensors")
    image = torch.rand(1, 3, 32, 32)
    expected = source.encoder.conv1(image)
    found = network.encoder.conv1(torch.cat([image, image], dim=1))
    torch.testing.assert_close(found, expected)


def test_what_did_not_fit_is_reported(source, tmp_path, caplog):
    state = dict(source.encoder.state_dict()) | {"fc.weight": torch.zeros(7, 512)}
    del state["layer4.1.bn2.weight"]
    torch.save(state, tmp_path / "encoder.pth")
    with caplog.at_level(logging.INFO):
        load_encoder_weights(unet(), tmp_path / "encoder.pth")
    assert "made anew: layer4.1.bn2.weight (512,)" in caplog.text
    assert "Not taken from it: fc.weight (7, 512)" in caplog.text


def test_a_file_that_fits_nothing_is_refused(tmp_path):
    save_file({"nothing.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"none of its 1 tensors fits .*nothing\.weight"):
        load_encoder_weights(unet(), tmp_path / "other.safetensors")


def test_a_network_without_an_encoder_takes_no_encoder_weights(tmp_path):
    with pytest.raises(InputError, match="Conv2d has no encoder"):
        load_encoder_weights(nn.Conv2d(3, 2, 1), tmp_path / "any.pth")


@pytest.mark.parametrize("key", ["model_state_dict", "state_dict_ema", "model_ema", "model"])
def test_weights_are_found_under_the_keys_of_training_programs(key, source, tmp_path):
    state = {"epoch": 3, key: {f"net.{k}": v for k, v in source.state_dict().items()}}
    torch.save(state, tmp_path / "run.pth")
    network = unet()
    load_network_weights(network, tmp_path / "run.pth")
    for name, tensor in source.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


def test_of_two_sets_of_weights_the_one_taken_is_named(source, tmp_path, caplog):
    ema = {k: torch.zeros_like(v) for k, v in source.state_dict().items()}
    content = {"state_dict": source.state_dict(), "state_dict_ema": ema}
    torch.save(content, tmp_path / "run.pth")
    network = unet()
    with caplog.at_level(logging.INFO):
        load_network_weights(network, tmp_path / "run.pth")
    assert "of state_dict and state_dict_ema, state_dict is taken." in caplog.text
    assert torch.equal(network.encoder.conv1.weight, source.encoder.conv1.weight)


def test_a_compiled_network_gives_its_weights_and_takes_those_of_another(source, tmp_path):
    whole = torch.compile(unet())
    part = unet()
    part.encoder.layer1 = torch.compile(part.encoder.layer1)
    torch.save(source.state_dict(), tmp_path / "source.pth")
    for number, network in enumerate((whole, part)):
        assert any("_orig_mod." in name for name in network.state_dict())
        load_network_weights(network, tmp_path / "source.pth")
        path = tmp_path / f"{number}.pth"
        torch.save(
            {"state_dict": {f"network.{k}": v for k, v in network.state_dict().items()}}, path
        )
        fresh = unet()
        load_network_weights(fresh, path)
        for name, tensor in source.state_dict().items():
            assert torch.equal(fresh.state_dict()[name], tensor), name


def test_weights_of_another_network_fit_by_no_stripping_of_names(tmp_path):
    state = {f"model.encoder.layer1.{k}": torch.zeros(64) for k in ("bn1.weight", "bn1.bias")}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(InputError, match="none of its 2 tensors fits"):
        load_encoder_weights(unet(), tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("list.pth", [torch.zeros(3)], "holds a list; expected a state_dict"),
        ("tensor.pth", torch.zeros(3), "holds a Tensor; expected a state_dict"),
        ("numbered.pth", {0: torch.zeros(3)}, "holds no tensors by name"),
        ("text.pth", b"no weights", "cannot be read as weights"),
        ("text.safetensors", b"no weights", "cannot be read as weights"),
        ("empty.safetensors", b"", "cannot be read as weights"),
        ("page.bin", b"<!DOCTYPE html>", "cannot be read as weights"),
    ],
)
def test_a_file_of_something_else_is_refused_in_one_line(name, content, said, tmp_path):
    path = tmp_path / name
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(InputError) as caught:
        read_weights(path)
    (line,) = str(caught.value).splitlines()
    assert name in line
    assert said in line
    assert "state_dict" in line


def test_a_missing_or_unsafe_weights_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such weights file"):
        read_weights(tmp_path / "missing.pth")
    torch.save(unet(), tmp_path / "pickled.pth")
    with pytest.raises(InputError, match="without running code"):
        read_weights(tmp_path / "pickled.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(InputError, match="no tensors by name"):
        read_weights(tmp_path / "empty.pth")


def test_another_number_of_classes_makes_only_the_head_anew(source, tmp_path, caplog):
    state = {f"network.{k}": v for k, v in source.state_dict().items()}
    torch.save({"state_dict": state | {"loss.weight": torch.ones(3)}}, tmp_path / "run.ckpt")
    network = unet(classes=5)
    with caplog.at_level(logging.INFO):
        load_network_weights(network, tmp_path / "run.ckpt")
    for name, tensor in network.state_dict().items():
        if not name.startswith("segmentation_head.0"):
            assert torch.equal(tensor, source.state_dict()[name]), name
    assert "made anew: segmentation_head.0.weight (5, 16, 3, 3)" in caplog.text
