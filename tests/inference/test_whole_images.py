import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import nn

from seg.inference import labels, pixel_stride, predict_logits


def test_a_network_that_takes_any_size_sees_the_image_unpadded():
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x.shape[-2:])
            return x

    assert predict_logits(Spy(), torch.zeros(1, 3, 37, 41), None).shape == (1, 3, 37, 41)
    assert seen == [(37, 41)]


@pytest.mark.parametrize("size", [(64, 96), (50, 70), (33, 31)])
def test_a_network_that_asks_for_a_stride_is_padded_and_cropped(size):
    network = smp.FPN("resnet18", encoder_weights=None, classes=4).eval().double()
    assert pixel_stride(network) == 32
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        found = predict_logits(network, images, None)
        height, width = -(-size[0] // 32) * 32, -(-size[1] // 32) * 32
        padded = torch.zeros(2, 3, height, width, dtype=torch.float64)
        padded[..., : size[0], : size[1]] = images
        expected = network(padded)[..., : size[0], : size[1]]
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
def test_deterministic_logits_of_an_image_are_the_same_to_the_bit_in_any_batch():
    network = smp.Unet("resnet18", encoder_weights=None, classes=4).eval()
    images = torch.rand(5, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    torch.use_deterministic_algorithms(True)
    with torch.no_grad():
        alone = torch.cat([predict_logits(network, image[None], (70, 90)) for image in images])
        for size in (2, 3, 5):
            batches = [predict_logits(network, x, (70, 90)) for x in images.split(size)]
            assert torch.equal(torch.cat(batches), alone)


def test_logits_are_brought_to_the_masks_size_before_the_class_is_chosen():
    logits = torch.randn(1, 3, 6, 8)
    found = predict_logits(nn.Identity(), logits, (12, 16))
    expected = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, expected)


def test_labels_are_the_largest_logit_or_for_one_logit_its_sign():
    logits = torch.randn(2, 5, 4, 4)
    assert (labels(logits).numpy() == logits.numpy().argmax(1)).all()
    one = torch.tensor([[[[-1.0, 0.0, 2.0]]]])
    assert labels(one).tolist() == [[[0, 0, 1]]]
    assert labels(one).dtype == torch.uint8


@pytest.mark.parametrize("bias", [None, [1.0, -2.0, 0.5]])
def test_a_pixel_with_a_logit_of_nan_has_no_class_and_one_of_infinity_has(bias):
    logits = torch.zeros(1, 3, 1, 4)
    logits[0, 1, 0, 0] = torch.nan
    logits[0, 2, 0, 1] = torch.inf
    logits[0, [0, 2], 0, 2] = -torch.inf
    logits[0, :, 0, 3] = torch.tensor([torch.nan, torch.inf, 0.0])
    found = labels(logits, None if bias is None else torch.tensor(bias))
    assert found.tolist() == [[[255, 2, 1, 255]]]
    one = torch.tensor([[[[torch.nan, torch.inf, -torch.inf]]]])
    assert labels(one).tolist() == [[[255, 1, 0]]]
