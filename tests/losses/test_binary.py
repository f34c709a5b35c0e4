"""Binary losses against torch's and torchvision's."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from seg.losses import (
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    binary_cross_entropy,
    binary_focal_loss,
)


def sample(channels: int) -> tuple[Tensor, Tensor]:
    """Float64 logits (N, C, *d) and uint8 labels in the same shape, a fifth of them ignored."""
    generator = torch.Generator().manual_seed(channels)
    logits = 3 * torch.randn(3, channels, 6, 5, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 2, logits.shape, generator=generator, dtype=torch.uint8)
    target[torch.rand(logits.shape, generator=generator) < 0.2] = 255
    return logits.requires_grad_(), target


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("pos_weight", [None, [2.5], [0.5, 1.0, 2.0, 4.0]], ids=str)
def test_cross_entropy_equals_torch_over_the_valid_elements(
    pos_weight: list[float] | None, reduction: str, channels: int
) -> None:
    logits, target = sample(channels)
    weight = None if pos_weight is None else torch.tensor(pos_weight[:channels]).double()
    kept = target != 255
    expanded = torch.ones(()) if weight is None else weight.view(-1, 1, 1).expand_as(logits)[kept]
    reference = F.binary_cross_entropy_with_logits(
        logits[kept], target[kept].double(), pos_weight=expanded, reduction=reduction
    )
    ours = binary_cross_entropy(logits, target, weight, reduction=reduction)
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(ours, logits),
        torch.autograd.grad(reference, logits),
        rtol=1e-11,
        atol=1e-18,
    )


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("alpha", [None, 0.25, 0.9])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_equals_torchvision_over_the_valid_elements(
    gamma: float, alpha: float | None, reduction: str, channels: int
) -> None:
    logits, target = sample(channels)
    kept = target != 255
    reference = sigmoid_focal_loss(
        logits[kept], target[kept].double(), -1 if alpha is None else alpha, gamma, reduction
    )
    ours = binary_focal_loss(logits, target, alpha, gamma, reduction=reduction)
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(ours, logits),
        torch.autograd.grad(reference, logits),
        rtol=1e-9,
        atol=1e-15,
    )


@pytest.mark.parametrize("loss", [binary_cross_entropy, binary_focal_loss])
def test_a_target_with_or_without_the_channel_gives_the_same(loss: object) -> None:
    logits, target = sample(1)
    mean = loss(logits, target)
    assert torch.equal(loss(logits, target[:, 0]), mean)
    assert loss(logits, target, reduction="none").shape == (3, 1, 6, 5)
    single = loss(logits, target[:, 0], reduction="none")
    assert single.shape == (3, 6, 5)
    for image in range(3):  # no sample sees another's labels
        alone = loss(logits[image : image + 1], target[image : image + 1, 0], reduction="none")
        assert torch.equal(single[image], alone[0])


@pytest.mark.parametrize("loss", [binary_cross_entropy, binary_focal_loss])
def test_bool_and_probability_targets_equal_their_ids(loss: object) -> None:
    logits, target = sample(1)
    labels = target == 1
    assert torch.equal(loss(logits, labels), loss(logits, labels.long()))
    assert torch.equal(loss(logits, labels.double()), loss(logits, labels.long()))
    soft = torch.full_like(logits, 0.3)
    mixed = 0.3 * loss(logits, torch.ones_like(labels)) + 0.7 * loss(logits, ~labels & False)
    if loss is binary_cross_entropy:
        torch.testing.assert_close(loss(logits, soft), mixed, rtol=1e-12, atol=0)
    else:
        reference = sigmoid_focal_loss(logits, soft, reduction="mean")
        torch.testing.assert_close(loss(logits, soft), reference, rtol=1e-12, atol=0)


def test_confident_pixels_keep_their_loss_in_single_precision() -> None:
    logits = torch.tensor([[-40.0, -20.0, 20.0, 40.0]]).T
    target = torch.tensor([0, 0, 1, 1])
    loss = binary_cross_entropy(logits, target, reduction="none")
    expected = torch.log1p(torch.exp(torch.tensor([-40.0, -20.0, -20.0, -40.0]).double()))
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("gamma", [0, 0.1, 0.5, 1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_certain_pixels_have_a_finite_focal_gradient(dtype: torch.dtype, gamma: float) -> None:
    margins = torch.tensor([[0, 10, 20, 88, 103.5, 110, 700, 1e4]], dtype=dtype).T
    for sign, label in ((1, 1), (-1, 0)):
        logits = (sign * margins).requires_grad_()
        target = torch.full((8,), label)
        loss = binary_focal_loss(logits, target, None, gamma, reduction="sum")
        (slope,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite()
        assert slope.isfinite().all()
        assert (slope[-2:].double().abs() < 1e-30).all()


@pytest.mark.parametrize("loss", [BinaryCrossEntropyLoss(), BinaryFocalLoss()], ids=repr)
def test_one_logit_serves_two_classes_and_no_more(loss: object) -> None:
    assert loss.channels(2) == 1
    for classes in (1, 3):
        with pytest.raises(ValueError, match=rf"{classes} classes.*\[background, foreground\]"):
            loss.channels(classes)
        with pytest.raises(ValueError, match="softmax"):
            loss.bind(classes)


@pytest.mark.parametrize("value", [0.5, 1.2, -0.1])
def test_a_probability_outside_0_to_1_is_refused_and_one_within_is_not(value: float) -> None:
    logits = torch.zeros(2, 1, 3)
    target = torch.full((2, 3), value)
    if value == 0.5:
        torch.testing.assert_close(binary_cross_entropy(logits, target), torch.tensor(2.0).log())
        return
    with pytest.raises(ValueError, match=rf"{value}.*\[0, 1\]"):
        binary_cross_entropy(logits, target)


@pytest.mark.parametrize("alpha", [-0.1, 1.5])
def test_an_alpha_that_is_no_share_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=rf"{alpha}.*\[0, 1\]"):
        BinaryFocalLoss(alpha=alpha)
    with pytest.raises(ValueError, match=rf"{alpha}.*\[0, 1\]"):
        binary_focal_loss(torch.zeros(1, 1), torch.zeros(1), alpha=alpha)


def test_a_foreground_weight_for_each_channel_must_fit_the_channels() -> None:
    with pytest.raises(ValueError, match=r"pos_weight.*\(3,\).*4 channels"):
        binary_cross_entropy(*sample(4), torch.ones(3))
