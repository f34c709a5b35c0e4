"""Softmax focal loss against its formula and against cross-entropy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seg.losses import FocalLoss, binary_focal_loss, focal_loss

ALPHA = torch.tensor([0.5, 2.0, 0.7, 1.0, 0.3], dtype=torch.float64)
GAMMAS = [0, 0.1, 0.5, 1, 2, 5]


def sample(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 5, 7, 6, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 5, (2, 7, 6), generator=generator)
    target = target.masked_fill(torch.rand(2, 7, 6, generator=generator) < 0.2, 255)
    return logits.to(dtype).requires_grad_(), target


def listing(logits: Tensor, target: Tensor, alpha: Tensor, gamma: float) -> float:
    """The formula in NumPy, pixel by pixel."""
    total = divisor = 0.0
    pixels = logits.detach().movedim(1, -1).reshape(-1, logits.shape[1]).numpy()
    for scores, label in zip(pixels, target.reshape(-1).tolist(), strict=True):
        if label == 255:
            continue
        p = np.exp(scores[label]) / np.exp(scores).sum()
        total += -alpha[label].item() * (1 - p) ** gamma * np.log(p)
        divisor += alpha[label].item()
    return total / divisor


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("alpha", [torch.ones(5), ALPHA], ids=["plain", "weighted"])
def test_it_equals_its_formula(alpha: Tensor, gamma: float) -> None:
    logits, target = sample()
    loss = focal_loss(logits, target, alpha, gamma)
    assert loss.item() == pytest.approx(listing(logits, target, alpha, gamma), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [None, ALPHA], ids=["plain", "weighted"])
def test_zero_gamma_equals_cross_entropy(alpha: Tensor | None, dtype: torch.dtype) -> None:
    logits, target = sample(dtype)
    alpha = None if alpha is None else alpha.to(dtype)
    ulp = torch.finfo(dtype).eps
    for reduction, rtol in (("none", ulp), ("mean", 2 * ulp)):  # the mean is rounded twice
        ours = focal_loss(logits, target, alpha, 0.0, reduction=reduction)
        reference = F.cross_entropy(logits, target, alpha, ignore_index=255, reduction=reduction)
        torch.testing.assert_close(ours, reference, rtol=rtol, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(ours, logits), torch.autograd.grad(reference, logits)
    )


@pytest.mark.parametrize("gamma", GAMMAS)
def test_probabilities_give_the_expected_loss_over_the_classes(gamma: float) -> None:
    logits, _ = sample()
    q = torch.rand(logits.shape, dtype=torch.float64).softmax(1)
    shape = (2, 7, 6)
    total = divisor = 0.0
    for c in range(5):
        label = torch.full(shape, c)
        single = focal_loss(logits, label, ALPHA, gamma, reduction="none")
        total += (q[:, c] * single).sum()
        divisor += (q[:, c] * ALPHA[c]).sum()
    torch.testing.assert_close(
        focal_loss(logits, q, ALPHA, gamma), total / divisor, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("form", ["ids", "probabilities"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_certain_pixels_have_a_finite_gradient(gamma: float, dtype: torch.dtype, form: str) -> None:
    margins = torch.tensor([0, 1, 10, 16.6, 20, 88, 103, 700, 1e4, -1e4], dtype=torch.float64)
    logits = torch.stack([margins, torch.zeros_like(margins)], 1).to(dtype).requires_grad_()
    target = torch.zeros(len(margins), dtype=torch.long)
    soft = F.one_hot(target, 2).to(dtype)
    loss = focal_loss(logits, target if form == "ids" else soft, gamma=gamma, reduction="sum")
    (slope,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert slope.isfinite().all()
    assert slope[-1, 0] == -1  # the pixel that is certainly wrong has the slope of cross-entropy
    assert (slope[-3:-1].double().abs() < 1e-30).all()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_gradient_of_confident_pixels_keeps_its_precision(gamma: float) -> None:
    margin = torch.tensor([5.0, 10.0, 20.0], dtype=torch.float64)
    logits = torch.stack([margin, torch.zeros(3)], 1).requires_grad_()
    loss = focal_loss(logits, torch.zeros(3, dtype=torch.long), gamma=gamma, reduction="sum")
    (slope,) = torch.autograd.grad(loss, logits)
    miss = torch.sigmoid(-margin)  # d/dz of -(1-p)^γ log p, written in 1 - p
    nll = F.softplus(-margin)
    expected = -(miss**gamma) * (gamma * (1 - miss) * nll + miss)
    torch.testing.assert_close(slope[:, 0], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_two_classes_with_logits_0_and_z_equal_the_sigmoid_loss_of_z(gamma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    z = 4 * torch.randn(2, 1, 9, 8, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 2, (2, 9, 8), generator=generator)
    logits = torch.cat([torch.zeros_like(z), z], 1)
    alpha = torch.tensor([0.75, 0.25], dtype=torch.float64)
    torch.testing.assert_close(
        focal_loss(logits, target, alpha, gamma, reduction="none"),
        binary_focal_loss(z, target, 0.25, gamma, reduction="none"),
        rtol=1e-9,
        atol=1e-14,
    )


def test_the_mean_does_not_depend_on_the_size_of_the_image() -> None:
    logits, target = sample()
    tiled = focal_loss(logits.tile(1, 1, 2, 3), target.tile(1, 2, 3))
    torch.testing.assert_close(tiled, focal_loss(logits, target), rtol=1e-12, atol=0)


@pytest.mark.parametrize("gamma", [-1.0, float("nan"), float("inf")])
def test_a_gamma_that_favours_easy_pixels_is_refused(gamma: float) -> None:
    logits, target = sample()
    with pytest.raises(ValueError, match=rf"gamma={gamma}.*>= 0"):
        FocalLoss(gamma=gamma)
    with pytest.raises(ValueError, match=rf"gamma={gamma}.*>= 0"):
        focal_loss(logits, target, gamma=gamma)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_a_loss_scale_keeps_the_small_gradients_of_a_large_image_in_fp16(
    gamma: float, classes: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, classes, 512, 512, generator=generator).half()
    target = torch.randint(0, classes, (1, 512, 512), generator=generator)
    slopes = []
    for scale, dtype in ((65536, torch.float16), (1, torch.float64)):
        leaf = logits.to(dtype).requires_grad_()
        (slope,) = torch.autograd.grad(scale * focal_loss(leaf, target, gamma=gamma), leaf)
        slopes.append(slope.double() / scale)
    assert (slopes[0] - slopes[1]).norm() < 1e-3 * slopes[1].norm()
