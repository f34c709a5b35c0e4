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


@pytest.mark.parametrize("prefix", ["module.", "encoder.", "backbone.", "model."])
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


def test_statistics_repeat_over_further_channels_and_default_to_imagenets(source):
    mean, std = normalisation(source, 4)
    assert mean == [0.485, 0.456, 0.406, 0.485]
    assert std == [0.229, 0.224, 0.225, 0.229]
    assert normalisation(nn.Conv2d(1, 2, 1), 1) == ([0.485], [0.229])
