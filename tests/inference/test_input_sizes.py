"""Images made to fit networks of other libraries, and logits brought back."""

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import nn

from seg.errors import InputError
from seg.inference import predict_logits
from seg.inference.input_sizes import InputSizes, explained, logits_of, network_logits
from tests.own_networks import SegFormer, Stride16, ViT
from tests.split_worker import LOSSES, class_names


def to_size(logits, size):
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def images_of(height, width, count=2):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(64, 96), (50, 70), (33, 31), (1, 200)])
def test_a_segformers_images_are_padded_to_its_stride_and_its_logits_cropped(size):
    torch.manual_seed(0)
    network, images = SegFormer(5).eval(), images_of(*size)
    height, width = size
    fitted = -(-height // 32) * 32, -(-width // 32) * 32
    padded = torch.zeros(2, 3, *fitted)
    padded[..., :height, :width] = images
    with torch.no_grad():
        low = network.model(padded).logits
        assert low.shape[-2:] == (fitted[0] // 4, fitted[1] // 4)
        expected = to_size(low, fitted)[..., :height, :width]
        for found in (
            network_logits(network, images, InputSizes.of(network, 32)),
            predict_logits(network, images, None, InputSizes.of(network, 32)),
        ):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("size", [(224, 224), (96, 160), (301, 250)])
def test_a_vits_images_are_resized_to_its_size_and_its_logits_back(size):
    torch.manual_seed(0)
    network, images = ViT(5).eval(), images_of(*size)
    sizes = InputSizes.of(network, size=[224, 224])
    shape = {"size": (224, 224), "mode": "bilinear", "align_corners": False}
    with torch.no_grad():
        fitted = images if size == (224, 224) else F.interpolate(images, **shape, antialias=True)
        expected = to_size(network(fitted), size)
        assert torch.equal(predict_logits(network, images, None, sizes), expected)
        mask = predict_logits(network, images, (100, 40), sizes)
        torch.testing.assert_close(mask, to_size(expected, (100, 40)))
        with pytest.raises(AssertionError, match="224"):
            network(images_of(96, 160))


@pytest.mark.parametrize("size", [(32, 48), (30, 47)])
def test_of_a_tuple_the_first_is_taken_in_training_and_in_evaluation(size):
    network, images = Stride16(5), images_of(*size)
    sizes = InputSizes.of(network, 16)
    padded = torch.zeros(2, 3, 32, 48)
    padded[..., : size[0], : size[1]] = images
    expected = to_size(network(padded)[0], (32, 48))[..., : size[0], : size[1]]
    assert torch.equal(network_logits(network, images, sizes), expected)
    assert torch.equal(predict_logits(network, images, None, sizes), expected)


def test_logits_are_found_in_every_form_that_networks_give_them_in():
    logits = torch.zeros(1, 2, 4, 4)
    for output in (logits, (logits, 1), [logits], {"logits": logits}, {"out": logits, "aux": 0}):
        assert logits_of(output) is logits
    for output in (None, (), ("mask",), {"mask": logits}, 3.0):
        with pytest.raises(InputError, match=r"model.network gives a \w+; expected logits"):
            logits_of(output)


def test_deterministic_logits_of_other_libraries_depend_on_no_other_image():
    for network, sizes in ((SegFormer(3), {"stride": 32}), (ViT(3, side=32), {"size": [32, 32]})):
        network.eval()
        given = InputSizes.of(network, **sizes)
        images = images_of(40, 56, count=3)
        torch.use_deterministic_algorithms(True)
        with torch.no_grad():
            alone = [predict_logits(network, x, None, given) for x in images.split(1)]
            assert torch.equal(predict_logits(network, images, None, given), torch.cat(alone))
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", ["Unet", "FPN", "PSPNet"])
def test_an_smp_networks_training_logits_are_its_own_to_the_bit_and_as_its_own_tensor(name):
    torch.manual_seed(0)
    network = getattr(smp, name)("resnet18", encoder_weights=None, classes=4)
    given, images = [], images_of(64, 96)
    network.register_forward_hook(lambda module, args, output: given.append((args[0], output)))
    found = network_logits(network, images, InputSizes.of(network))
    ((seen, output),) = given
    assert seen is images
    assert found is output


def test_an_smp_network_is_trained_on_crops_that_do_not_divide():
    network = smp.FPN("resnet18", encoder_weights=None, classes=4)
    assert network_logits(network, images_of(50, 70), InputSizes.of(network)).shape[-2:] == (50, 70)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"stride": 0}, "model.input_stride 0: expected a positive multiple of 1"),
        ({"size": [224]}, r"model.input_size \[224\]: expected a height and a width"),
        ({"size": [0, 5]}, r"model.input_size \[0, 5\]: expected a height and a width"),
        ({"size": [64, 64], "stride": 16}, "resized or padded, not both"),
    ],
)
def test_sizes_that_cannot_be_are_refused(given, error):
    with pytest.raises(InputError, match=error):
        InputSizes.of(nn.Conv2d(3, 2, 1), **given)


def test_a_size_that_contradicts_an_smp_networks_own_stride_is_refused():
    network = smp.FPN("resnet18", encoder_weights=None)
    with pytest.raises(InputError, match="multiple of 32, which FPN states"):
        InputSizes.of(network, 16)
    with pytest.raises(InputError, match="a size that divides by 32"):
        InputSizes.of(network, size=[224, 200])
    assert InputSizes.of(network, size=[224, 224]) == InputSizes(32, (224, 224))


def test_an_error_of_another_cause_is_left_as_it_is():
    network, images = nn.Conv2d(3, 2, 1), images_of(8, 12)
    memory = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate; set max_split_size_mb")
    for error in (ValueError("no such mode"), RuntimeError("CUDA error: no kernel"), memory):
        assert explained(network, images, error) is None
    for error in (
        RuntimeError(
            "Wrong input shape height=8, width=12. Expected image height divisible by 32."
        ),
        RuntimeError("Sizes of tensors must match except in dimension 1."),
        AssertionError("Input height (8) doesn't match model (224)."),
    ):
        try:
            raise error
        except Exception as raised:
            said = str(explained(network, images, raised))
        assert "Conv2d fails on an image of 8 x 12" in said
        assert "model.input_stride" in said


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_logits_whose_padding_was_cut_off_is_that_of_a_copy(name, memory_format):
    generator = torch.Generator().manual_seed(0)
    loss, copied = LOSSES[name](), LOSSES[name]()
    classes = len(class_names(loss))
    channels = loss.channels(classes)
    padded = torch.randn(2, channels, 32, 48, generator=generator).to(memory_format=memory_format)
    target = torch.randint(0, classes, (2, 30, 41), generator=generator).byte()
    target[:, :3] = 255
    for one in (loss, copied):
        one.bind(classes)
    padded.requires_grad_()
    copy = padded.detach()[..., :30, :41].contiguous(memory_format=memory_format).requires_grad_()
    found, expected = loss(padded[..., :30, :41], target), copied(copy, target)
    (slope,), (reference,) = (torch.autograd.grad(*x) for x in ((found, padded), (expected, copy)))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(slope[..., :30, :41], reference)
    assert slope[..., 30:, :].abs().sum() + slope[..., 41:].abs().sum() == 0
