"""What is found out of a network before the first step, and that it stays as it was."""

import logging

import pytest
import segmentation_models_pytorch as smp
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from seg.errors import InputError
from seg.inference.input_sizes import InputSizes
from seg.losses import BinaryCrossEntropyLoss, CrossEntropyLoss
from seg.module import SegmentationModule
from seg.training.output_check import check_output, output_of
from seg.training.preflight import check_unused
from tests.own_networks import SegFormer, Stride16, ViT
from tests.test_module import NAMES, trainer


def smp_network(name="Unet", classes=3, encoder="resnet18", **settings):
    return getattr(smp, name)(encoder, encoder_weights=None, classes=classes, **settings)


def module_of(network, names=NAMES, loss=None, **settings):
    return SegmentationModule(network, loss or CrossEntropyLoss(), names, **settings)


class ByValue(nn.Module):
    """Asks for a value in its forward pass, which a tensor without values has not."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        self.devices = []

    def forward(self, images):
        self.devices.append(images.device.type)
        return self.layer(images) * (2 if images.mean().item() < 9 else 1)


class Recorder(nn.Module):
    """Notes on which devices it ran, in a list that its copies share."""

    ran: list[str] = []  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        self.dropout = nn.Dropout()

    def forward(self, images):
        self.ran.append(images.device.type)
        return self.dropout(self.layer(images))


def test_a_network_is_tried_without_values_where_it_can_be():
    Recorder.ran.clear()
    network = Recorder()
    found = output_of(network, torch.zeros(1, 3, 512, 384), InputSizes())
    assert Recorder.ran == ["meta"]
    assert found.shape == (1, 3, 512, 384)
    assert next(network.parameters()).device.type == "cpu"


def test_a_network_that_asks_for_a_value_is_tried_with_values():
    network = ByValue()
    assert output_of(network, torch.zeros(1, 3, 20, 30), InputSizes()).shape == (1, 3, 20, 30)
    assert network.devices == []  # it was a copy


def test_trying_leaves_modes_weights_statistics_and_random_numbers_as_they_were():
    for network in (smp_network(), ByValue(), Recorder()):
        network.train()
        frozen = next(m for m in network.modules() if not list(m.children()))
        frozen.eval()
        modes = [module.training for module in network.modules()]
        before = {key: value.clone() for key, value in network.state_dict().items()}
        random = torch.get_rng_state()
        check_output(module_of(network), (64, 64))
        assert [module.training for module in network.modules()] == modes
        assert not frozen.training
        assert torch.equal(torch.get_rng_state(), random)
        assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
        assert all(parameter.grad is None for parameter in network.parameters())


def test_a_network_that_cannot_be_copied_keeps_the_modes_that_a_user_set():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train()
    network.made_by = (i for i in range(3))  # a generator cannot be copied
    network[1].eval()
    statistics = network[1].running_mean.clone()
    assert check_output(module_of(network), (8, 8)) == []
    assert (network.training, network[1].training) == (True, False)
    assert torch.equal(network[1].running_mean, statistics)


SWIN = "tu-swin_tiny_patch4_window7_224"
OF_ONE_SIZE = [
    ("PAN", {"encoder": "resnet18"}, (128, 128)),
    ("DPT", {"encoder": "tu-vit_tiny_patch16_224"}, (224, 224)),
    ("Unet", {"encoder": SWIN}, (224, 224)),
    ("DeepLabV3Plus", {"encoder": "resnet18"}, (96, 64)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings", "size"), OF_ONE_SIZE, ids=lambda x: str(x))
def test_a_network_is_tried_at_the_crops_size(name, settings, size):
    module = module_of(smp_network(name, **settings))
    # smp's ViT encoder keeps the norm and the head of the classifier, which nothing depends on
    of_dpt = {
        f"encoder.model.{x}" for x in ("norm.weight", "norm.bias", "head.weight", "head.bias")
    }
    assert set(check_output(module, size)) == (of_dpt if name == "DPT" else set())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "size", "settings"),
    [
        (lambda: ViT(3), (224, 224), {}),
        (lambda: ViT(3), (128, 96), {"input_size": [224, 224]}),
        (lambda: smp_network("Unet", 3, SWIN), (64, 96), {"input_size": [224, 224]}),
        (lambda: SegFormer(3), (50, 70), {"input_stride": 32}),
        (lambda: Stride16(3), (30, 50), {"input_stride": 16}),
        (lambda: lraspp_mobilenet_v3_large(weights_backbone=None, num_classes=3), (64, 80), {}),
    ],
)
def test_networks_of_other_libraries_are_taken(network, size, settings):
    assert check_output(module_of(network(), **settings), size) == []


def test_a_size_that_a_network_does_not_take_is_refused_in_one_line():
    with pytest.raises(InputError) as caught:
        check_output(module_of(ViT(3)), (128, 96))
    (line,) = str(caught.value).splitlines()
    assert "ViT fails on an image of 128 x 96: AssertionError" in line
    assert "model.input_stride or model.input_size" in line


def test_of_crops_whose_size_is_not_known_only_what_is_found_is_judged():
    assert check_output(module_of(ViT(3)), None) == []
    with pytest.raises(InputError, match="expected logits"):
        check_output(module_of(smp_network(classes=4)), None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "names"),
    [
        ("softmax2d", NAMES),
        ("sigmoid", NAMES),
        ("tanh", NAMES),
        ("sigmoid", ["ground", "crack"]),
    ],
)
def test_an_activation_under_a_loss_of_logits_is_refused(activation, names):
    binary = len(names) == 2
    loss = BinaryCrossEntropyLoss() if binary else CrossEntropyLoss()
    network = smp_network(classes=1 if binary else 3, activation=activation)
    kind = activation.removesuffix("2d")
    with pytest.raises(InputError, match=rf"Unet ends in a {kind}, but \w+ takes logits"):
        check_output(module_of(network, names, loss), (32, 32))


class Functional(nn.Module):
    """A network of one's own that ends in a function, before it brings its output to full size."""

    def __init__(self, function):
        super().__init__()
        self.layer, self.function = nn.Conv2d(3, 3, 2, 2), function

    def forward(self, images):
        scores = self.function(self.layer(images))
        return nn.functional.interpolate(scores, scale_factor=2, mode="bilinear")


def test_an_activation_that_is_a_function_is_refused_and_a_bounded_logit_within_is_not():
    for function in (torch.sigmoid, lambda x: x.softmax(1), torch.tanh):
        with pytest.raises(InputError, match="ends in a"):
            check_output(module_of(Functional(function)), (32, 32))
    for function in (torch.relu, lambda x: 30 * torch.tanh(x / 30), lambda x: x * x.sigmoid()):
        assert check_output(module_of(Functional(function)), (32, 32)) == []


def test_an_argmax_a_pooled_output_and_a_part_of_the_image_are_refused():
    for network in (
        smp_network(activation="argmax2d"),
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1)),
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Conv2d(3, 4, 1),
        nn.Conv2d(3, 3, 3),
        nn.Upsample(scale_factor=2),
    ):
        with pytest.raises(InputError, match=r"expected logits \(1, 3, 64, 64\)"):
            check_output(module_of(network), (64, 64))


def test_a_head_that_no_loss_trains_is_named(caplog):
    caplog.set_level(logging.INFO, "seg")
    network = smp_network(aux_params={"classes": 4})
    unused = check_output(module_of(network), (32, 32))
    assert set(unused) == {"classification_head.3.weight", "classification_head.3.bias"}
    assert "Unet gives 2 outputs, of which the first is trained and used. Unused: " in caplog.text
    assert "classification_head.3.weight" in caplog.text


def test_a_head_that_no_loss_trains_is_refused_under_ddp_that_would_wait_for_it(tmp_path):
    for strategy, refused in (
        (DDPStrategy(), True),
        (DDPStrategy(find_unused_parameters=True), False),
        ("auto", False),
    ):
        runner = trainer(tmp_path, strategy=strategy)
        check_unused(runner, "Unet", [])
        if refused:
            with pytest.raises(InputError, match=r"trains head\.weight of Unet.*aux_params"):
                check_unused(runner, "Unet", ["head.weight"])
        else:
            check_unused(runner, "Unet", ["head.weight"])
