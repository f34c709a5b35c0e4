"""Online hard example mining against NumPy's sort."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seg.losses.cross_entropy import cross_entropy
from seg.losses.ohem import OhemCrossEntropyLoss, ohem_cross_entropy

WEIGHT = torch.tensor([0.5, 2.0, 0.0, 1.0, 0.3], dtype=torch.float64)
FRACTIONS = [0.01, 0.25, 0.5, 0.9, 1.0]


def sample(ignored: float = 0.3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 5, 7, 6, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 5, (2, 7, 6), generator=generator)
    target[torch.rand(2, 7, 6, generator=generator) < ignored] = 255
    return logits.requires_grad_(), target


def reference(logits: Tensor, target: Tensor, weight: Tensor, fraction: float) -> float:
    """The hardest share in NumPy, from a list of the valid pixels alone."""
    pixels = logits.detach().movedim(1, -1).reshape(-1, logits.shape[1]).numpy()
    ids = target.reshape(-1).numpy()
    pixels, ids = pixels[ids != 255], ids[ids != 255]
    p = np.exp(pixels) / np.exp(pixels).sum(1, keepdims=True)
    weights = weight.numpy()[ids]
    losses = -weights * np.log(p[np.arange(len(ids)), ids])
    kept = np.argsort(-losses, kind="stable")[: math.ceil(fraction * len(ids))]
    return float(losses[kept].sum() / weights[kept].sum())


@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_it_is_the_mean_of_the_hardest_valid_pixels(weight: Tensor | None, fraction: float) -> None:
    logits, target = sample()
    loss = ohem_cross_entropy(logits, target, fraction, weight)
    weights = torch.ones(5, dtype=torch.float64) if weight is None else weight
    assert loss.item() == pytest.approx(reference(logits, target, weights, fraction), rel=1e-12)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_the_whole_share_is_cross_entropy(reduction: str, weight: Tensor | None) -> None:
    logits, target = sample()
    soft = torch.rand(logits.shape, dtype=torch.float64).softmax(1)
    for labels in (target, soft):
        ours = ohem_cross_entropy(logits, labels, 1.0, weight, reduction=reduction)
        whole = cross_entropy(logits, labels, weight, reduction=reduction)
        assert torch.equal(ours, whole)
        (slope,) = torch.autograd.grad(ours.sum(), logits)
        assert torch.equal(slope, torch.autograd.grad(whole.sum(), logits)[0])


@pytest.mark.parametrize("ignored", [0.0, 0.5, 0.9])
def test_ignored_pixels_do_not_count_in_the_share(ignored: float) -> None:
    logits, target = sample(ignored)
    losses = ohem_cross_entropy(logits, target, 0.25, reduction="none")
    valid = (target != 255).sum().item()
    assert (losses > 0).sum() == math.ceil(0.25 * valid)
    assert (losses[target == 255] == 0).all()
    single = F.cross_entropy(logits, target, ignore_index=255, reduction="none")
    kept = losses > 0
    torch.testing.assert_close(losses[kept], single[kept], rtol=1e-12, atol=0)
    assert single[kept].min() >= single[~kept].max()


def test_only_the_kept_pixels_have_a_gradient() -> None:
    logits, target = sample()
    losses = ohem_cross_entropy(logits, target, 0.25, reduction="none")
    (slope,) = torch.autograd.grad(losses.sum(), logits)
    assert torch.equal((slope != 0).any(1), losses > 0)


def test_equally_hard_pixels_are_kept_by_position() -> None:
    losses = ohem_cross_entropy(
        torch.zeros(1, 2, 8), torch.tensor([[0, 255, 1, 0, 1, 0, 0, 255]]), 0.5, reduction="none"
    )
    assert torch.equal(losses > 0, torch.tensor([[1, 0, 1, 1, 0, 0, 0, 0]], dtype=torch.bool))


@pytest.mark.parametrize("fraction", [0.07, 0.14, 0.28, 0.55])
def test_the_share_of_a_hundred_pixels_is_rounded_like_the_decimal_it_is_written_as(
    fraction: float,
) -> None:
    losses = ohem_cross_entropy(
        torch.zeros(1, 2, 100), torch.zeros(1, 100, dtype=torch.long), fraction, reduction="none"
    )
    assert (losses > 0).sum() == round(100 * fraction)


def test_the_smallest_share_keeps_one_pixel() -> None:
    logits, target = sample()
    losses = ohem_cross_entropy(logits, target, 1e-12, reduction="none")
    assert (losses > 0).sum() == 1
    assert losses.max() == ohem_cross_entropy(logits, target, 1.0, reduction="none").max()


def test_valid_pixels_of_a_class_of_weight_zero_count_in_the_share() -> None:
    target = torch.tensor([[0, 0, 0, 0, 0, 0, 1, 1, 255]])
    losses = ohem_cross_entropy(
        torch.zeros(1, 2, 9), target, 0.5, torch.tensor([0.0, 1.0]), reduction="none"
    )
    assert torch.equal(losses > 0, target == 1)


def test_probabilities_are_ranked_by_their_cross_entropy() -> None:
    logits, _ = sample()
    q = torch.rand(logits.shape, dtype=torch.float64).softmax(1)
    q[:, :, :3] = 255
    single = F.cross_entropy(logits[:, :, 3:], q[:, :, 3:], reduction="none").reshape(-1)
    expected = single.sort(descending=True).values[: math.ceil(0.25 * single.numel())].mean()
    torch.testing.assert_close(ohem_cross_entropy(logits, q, 0.25), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("ignore_index", [-100, 0])
def test_another_ignore_index_may_lie_outside_the_dtype_of_the_target(ignore_index: int) -> None:
    logits, target = sample()
    target = target.masked_fill(target == 255, 0)
    expected = ohem_cross_entropy(
        logits, target.masked_fill(target == ignore_index, 255), reduction="none"
    )
    ours = ohem_cross_entropy(
        logits, target.to(torch.uint8), ignore_index=ignore_index, reduction="none"
    )
    assert torch.equal(ours, expected)


def test_probabilities_divide_by_the_expected_weight_of_the_kept_pixels() -> None:
    logits, target = sample(0.0)
    one_hot = F.one_hot(target, 5).movedim(-1, 1).double()
    torch.testing.assert_close(
        ohem_cross_entropy(logits, one_hot, 0.3, WEIGHT),
        ohem_cross_entropy(logits, target, 0.3, WEIGHT),
        rtol=1e-12,
        atol=0,
    )


@pytest.mark.parametrize("fraction", [0.25, 1.0])
@pytest.mark.parametrize("value", [0.0, torch.inf, torch.nan])
def test_all_ignored_is_zero_with_a_zero_gradient(value: float, fraction: float) -> None:
    logits = torch.full((2, 3, 4), value, requires_grad=True)
    loss = OhemCrossEntropyLoss(fraction)(logits, torch.full((2, 4), 255, dtype=torch.uint8))
    (slope,) = torch.autograd.grad(loss, logits)
    assert loss == 0
    assert (slope == 0).all()


def test_the_gradient_is_that_of_finite_differences() -> None:
    logits, target = sample()
    loss = OhemCrossEntropyLoss(0.4, WEIGHT.tolist())
    few, labels = logits.detach()[:, :, :2, :3].requires_grad_(), target[:, :2, :3]
    assert torch.autograd.gradcheck(lambda z: loss(z, labels), few)
    assert torch.autograd.gradgradcheck(lambda z: loss(z, labels), few)


def test_a_label_that_is_no_class_is_refused_however_easy_the_pixel() -> None:
    logits, target = sample()
    target[0, 0, 0] = 17
    with pytest.raises(ValueError, match=r"\b17\b"):
        ohem_cross_entropy(logits, target, 0.01)


def test_a_pixel_with_a_nan_is_kept_and_seen() -> None:
    logits, target = sample(0.0)
    for nan in (torch.nan, -torch.nan):
        poisoned = logits.detach().clone()
        poisoned[0, 2, 3, 3] = nan
        assert ohem_cross_entropy(poisoned, target, 0.01).isnan()


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_a_fraction_that_is_no_share_is_refused(fraction: float) -> None:
    logits, target = sample()
    with pytest.raises(ValueError, match=rf"fraction={fraction}.*\(0, 1\]"):
        OhemCrossEntropyLoss(fraction=fraction)
    with pytest.raises(ValueError, match=rf"fraction={fraction}.*\(0, 1\]"):
        ohem_cross_entropy(logits, target, fraction)


def test_a_policy_weighs_what_is_ranked() -> None:
    logits, target = sample()
    loss = OhemCrossEntropyLoss(0.3, "inverse_frequency")
    loss.set_class_counts([10, 20, 30, 40, 50])
    expected = ohem_cross_entropy(logits, target, 0.3, loss.weight)
    assert torch.equal(loss(logits, target), expected)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_compiled_loss_agrees(backend: str) -> None:
    torch.compiler.reset()
    logits, target = sample()
    loss = OhemCrossEntropyLoss(0.3, WEIGHT.tolist())
    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    value, expected = compiled(logits, target), loss(logits, target)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(
        torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits)
    )


def test_an_exported_loss_agrees() -> None:
    logits, target = sample()
    loss = OhemCrossEntropyLoss(0.3)
    exported = torch.export.export(loss, (logits.detach(), target)).module()
    torch.testing.assert_close(exported(logits.detach(), target), loss(logits, target).detach())
