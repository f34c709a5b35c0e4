"""Lovász-Softmax against the definition of the Lovász extension, prefix by prefix."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seg.losses.lovasz import LovaszLoss, lovasz_softmax_loss

every_form = pytest.mark.parametrize("per_image", [False, True], ids=["batch", "per_image"])
every_target = pytest.mark.parametrize("soft", [False, True], ids=["ids", "probabilities"])


def sample(shape: tuple[int, ...] = (3, 5, 4), soft: bool = False) -> tuple[Tensor, Tensor]:
    """Float64 logits of 4 classes, of which the last is nowhere; a quarter of the pixels ignored"""
    generator = torch.Generator().manual_seed(len(shape))
    size = (shape[0], 4, *shape[1:])
    logits = 2 * torch.randn(size, generator=generator, dtype=torch.float64)
    ignored = torch.rand(shape, generator=generator) < 0.25
    if soft:
        q = torch.rand(size, generator=generator, dtype=torch.float64)
        q[:, 3] = 0
        q = (q * (q > 0.3)).div(q.sum(1, keepdim=True))
        return logits.requires_grad_(), q.masked_fill(ignored.unsqueeze(1), 255)
    target = torch.randint(0, 3, shape, generator=generator)
    return logits.requires_grad_(), target.masked_fill(ignored, 255)


def jaccard_loss(q: np.ndarray, wrong: np.ndarray) -> float:
    """1 - IoU of a class with shares q (P,) if exactly the pixels `wrong` (P,) are predicted wrong.

    A wrong pixel of the class is missed, a wrong pixel of another is added to the union.
    """
    return 1 - q[~wrong].sum() / (q.sum() + (1 - q[wrong]).sum())


def lovasz_extension(errors: np.ndarray, q: np.ndarray) -> float:
    """Σ e_i (Δ of the i hardest - Δ of the i - 1 hardest), each Δ from scratch."""
    total, before = 0.0, 0.0
    wrong = np.zeros(len(q), dtype=bool)
    for i in np.argsort(-errors, kind="stable"):
        wrong[i] = True
        after = jaccard_loss(q, wrong)
        total += errors[i] * (after - before)
        before = after
    return total


def reference(logits: Tensor, target: Tensor) -> float | None:
    """The loss of logits (N, C, *d) as one image, None without a valid pixel."""
    pixels = logits.detach().movedim(1, -1).reshape(-1, logits.shape[1]).numpy()
    if target.is_floating_point():
        q = target.movedim(1, -1).reshape(-1, logits.shape[1]).numpy()
        valid = q[:, 0] != 255
    else:
        ids = target.reshape(-1).numpy()
        valid = ids != 255
        q = np.eye(256)[ids][:, : logits.shape[1]]
    pixels, q = pixels[valid], q[valid]
    p = np.exp(pixels) / np.exp(pixels).sum(1, keepdims=True)
    losses = [lovasz_extension(abs(q[:, c] - p[:, c]), q[:, c]) for c in range(4) if q[:, c].any()]
    return float(np.mean(losses)) if losses else None


def gradient(loss: LovaszLoss, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    value = loss(logits, target)
    return value.detach(), torch.autograd.grad(value.sum(), logits)[0]


@every_target
@pytest.mark.parametrize("shape", [(40,), (4, 9), (3, 6, 5), (2, 3, 4, 3)], ids=len)
def test_the_batch_as_one_image_equals_the_definition(shape: tuple[int, ...], soft: bool) -> None:
    logits, target = sample(shape, soft)
    loss = lovasz_softmax_loss(logits, target)
    assert loss.item() == pytest.approx(reference(logits, target), rel=1e-12)


@every_target
def test_each_image_equals_the_definition(soft: bool) -> None:
    logits, target = sample((4, 6, 5), soft)
    target[2] = 255
    expected = [reference(logits[i : i + 1], target[i : i + 1]) for i in range(4)]
    assert expected[2] is None
    expected[2] = 0.0
    losses = lovasz_softmax_loss(logits, target, per_image=True, reduction="none")
    assert losses.tolist() == pytest.approx(expected, rel=1e-12)
    mean = lovasz_softmax_loss(logits, target, per_image=True)
    assert mean.item() == pytest.approx(sum(expected) / 3, rel=1e-12)


def test_of_certain_predictions_it_is_one_minus_the_mean_iou_of_the_classes_present() -> None:
    _, target = sample((2, 9, 8))
    predicted = torch.randint(0, 4, target.shape, generator=torch.Generator().manual_seed(1))
    logits = 1e4 * F.one_hot(predicted, 4).movedim(-1, 1).double()
    valid = target != 255
    ious = []
    for c in range(3):
        own, claimed = valid & (target == c), valid & (predicted == c)
        ious.append(((own & claimed).sum() / (own | claimed).sum()).item())
    loss = lovasz_softmax_loss(logits, target)
    assert loss.item() == pytest.approx(1 - np.mean(ious), rel=1e-6)


def test_a_perfect_prediction_has_loss_zero() -> None:
    _, target = sample()
    logits = 1e4 * F.one_hot(target % 255, 4).movedim(-1, 1).double()
    assert lovasz_softmax_loss(logits, target) == 0


def test_a_class_that_is_absent_is_left_out_of_the_mean() -> None:
    logits = torch.tensor([[[5.0, -5.0], [-5.0, 5.0], [-99.0, -99.0]]]).requires_grad_()
    with_third = lovasz_softmax_loss(logits, torch.tensor([[1, 0]]))
    without = lovasz_softmax_loss(logits[:, :2], torch.tensor([[1, 0]]))
    assert with_third.item() == pytest.approx(without.item(), rel=1e-6)
    assert without > 0.99


@pytest.mark.slow
@every_form
@every_target
def test_value_and_gradient_class_by_class_equal_those_by_autograd(
    soft: bool, per_image: bool
) -> None:
    logits, target = sample((3, 6, 5), soft)
    target[1] = 255
    loss = LovaszLoss(per_image)
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        gradient(loss, logits, target), gradient(compiled, logits, target), rtol=1e-12, atol=1e-17
    )


@pytest.mark.slow
@every_form
def test_a_loss_compiled_for_the_cpu_agrees(per_image: bool) -> None:
    torch.compiler.reset()
    logits, target = sample()
    loss = LovaszLoss(per_image)
    compiled = torch.compile(loss, fullgraph=True)
    torch.testing.assert_close(gradient(compiled, logits, target), gradient(loss, logits, target))


@every_form
def test_an_exported_loss_agrees(per_image: bool) -> None:
    logits, target = sample()
    loss = LovaszLoss(per_image)
    exported = torch.export.export(loss, (logits.detach(), target)).module()
    torch.testing.assert_close(exported(logits.detach(), target), loss(logits, target).detach())


@pytest.mark.slow
@every_form
@every_target
def test_first_and_second_derivatives_are_those_of_finite_differences(
    soft: bool, per_image: bool
) -> None:
    logits, target = sample((2, 3, 2), soft)
    target[1, ..., 0] = 255

    def loss(z: Tensor) -> Tensor:
        return lovasz_softmax_loss(z, target, per_image=per_image, reduction="none")

    assert torch.autograd.gradcheck(loss, logits)
    assert torch.autograd.gradgradcheck(loss, logits)


@every_form
def test_the_gradient_can_be_taken_twice_and_is_scaled_image_by_image(per_image: bool) -> None:
    logits, target = sample()
    losses = lovasz_softmax_loss(logits, target, per_image=per_image, reduction="none")
    scale = torch.arange(1.0, len(losses) + 1, dtype=torch.float64)
    (once,) = torch.autograd.grad(losses, logits, torch.ones_like(scale), retain_graph=True)
    (scaled,) = torch.autograd.grad(losses, logits, scale)
    torch.testing.assert_close(scaled, once * (scale.view(-1, 1, 1, 1)), rtol=1e-12, atol=0)


@every_form
@every_target
def test_ignored_pixels_have_no_effect_whatever_their_logits(soft: bool, per_image: bool) -> None:
    logits, target = sample((2, 8), soft)
    loss = LovaszLoss(per_image)
    ignored = (target[:, 0] if soft else target) == 255
    expected = gradient(loss, logits, target)
    for poison in (torch.nan, torch.inf, -torch.inf, 1e300):
        poisoned = logits.detach().masked_fill(ignored.unsqueeze(1), poison).requires_grad_()
        value, slope = gradient(loss, poisoned, target)
        torch.testing.assert_close((value, slope), expected, rtol=1e-12, atol=0)
        assert (slope.movedim(1, -1)[ignored] == 0).all()


@pytest.mark.slow
def test_a_certain_pixel_is_ranked_before_an_ignored_one() -> None:
    logits = torch.tensor([[[80.0, 80.0, 80.0], [0.0, 0.0, 0.0]]]).requires_grad_()  # p_0 is 1
    target = torch.tensor([[255, 0, 1]])
    kept = logits.detach()[..., 1:].requires_grad_()
    expected, expected_slope = gradient(LovaszLoss(), kept, target[:, 1:])
    torch.compiler.reset()
    compiled = torch.compile(LovaszLoss(), fullgraph=True, backend="aot_eager")
    for loss in (LovaszLoss(), compiled):
        value, slope = gradient(loss, logits, target)
        assert torch.equal(value, expected)
        assert torch.equal(slope[..., 1:], expected_slope)


@every_form
@pytest.mark.parametrize("value", [0.0, torch.inf, torch.nan])
def test_all_ignored_is_zero_with_a_zero_gradient_and_weight(value: float, per_image: bool) -> None:
    logits = torch.full((2, 3, 4), value, requires_grad=True)
    target = torch.full((2, 4), 255, dtype=torch.uint8)
    loss = LovaszLoss(per_image)
    losses, weights = loss.element_losses(logits, target)
    assert losses.shape == weights.shape == ((2,) if per_image else (1,))
    assert (losses == 0).all()
    assert (weights == 0).all()
    zero, slope = gradient(loss, logits, target)
    assert zero == 0
    assert (slope == 0).all()


@every_form
def test_a_batch_without_images_is_zero(per_image: bool) -> None:
    assert LovaszLoss(per_image)(torch.zeros(0, 3, 4, 4), torch.zeros(0, 4, 4).long()) == 0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_every_integer_dtype_gives_the_same(dtype: torch.dtype) -> None:
    logits, target = sample()
    assert torch.equal(LovaszLoss()(logits, target.to(dtype)), LovaszLoss()(logits, target))


@every_form
def test_one_hot_probabilities_equal_ids(per_image: bool) -> None:
    logits, target = sample()
    ignored = (target == 255).unsqueeze(1)
    one_hot = F.one_hot(target % 255, 4).movedim(-1, 1).double().masked_fill(ignored, 255)
    loss = LovaszLoss(per_image)
    torch.testing.assert_close(
        gradient(loss, logits, one_hot), gradient(loss, logits, target), rtol=1e-12, atol=1e-17
    )


def test_a_vanishing_share_makes_its_class_present_without_a_nan() -> None:
    logits = torch.randn(1, 2, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    q = torch.tensor([1e-40, 0, 0, 0, 0, 0])
    value, slope = gradient(LovaszLoss(), logits, torch.stack([q, 1 - q])[None])
    assert 0 < value <= 1
    assert slope.isfinite().all()


@every_form
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_within_two_percent_of_float64(
    dtype: torch.dtype, per_image: bool
) -> None:
    logits, target = sample((2, 12, 12))
    value, slope = gradient(LovaszLoss(per_image), logits, target)
    half = logits.detach().to(dtype).requires_grad_()
    half_value, half_slope = gradient(LovaszLoss(per_image), half, target)
    assert half_value.dtype == torch.float32
    assert half_slope.dtype == dtype
    torch.testing.assert_close(half_value.double(), value, rtol=0.02, atol=0)
    assert (half_slope.double() - slope).norm() < 0.02 * slope.norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_extreme_logits_are_finite(dtype: torch.dtype) -> None:
    _, target = sample()
    extremes = torch.tensor([-1e4, 1e4, 0.0, 1e-4, -88.0])
    logits = extremes[torch.arange(240) * 7 % 5].view(3, 4, 5, 4).to(dtype).requires_grad_()
    value, slope = gradient(LovaszLoss(), logits, target)
    assert value.isfinite()
    assert slope.isfinite().all()


def test_a_nan_in_a_valid_pixel_is_seen() -> None:
    logits, target = sample()
    poisoned = logits.detach().clone()
    poisoned[(target != 255).nonzero()[0].tolist()[0], 1] = torch.nan
    assert LovaszLoss()(poisoned, target).isnan()


def test_renaming_the_classes_changes_nothing() -> None:
    logits, target = sample()
    order = torch.tensor([2, 0, 3, 1])
    lookup = torch.full((256,), 255)
    lookup[order] = torch.arange(4)
    torch.testing.assert_close(
        LovaszLoss()(logits[:, order], lookup[target]),
        LovaszLoss()(logits, target),
        rtol=1e-12,
        atol=0,
    )


@every_form
@every_target
def test_channels_last_gives_the_same_with_a_channels_last_gradient(
    soft: bool, per_image: bool
) -> None:
    logits, target = sample(soft=soft)
    last = logits.detach().to(memory_format=torch.channels_last).requires_grad_()
    value, slope = gradient(LovaszLoss(per_image), last, target)
    torch.testing.assert_close(
        (value, slope), gradient(LovaszLoss(per_image), logits, target), rtol=1e-12, atol=1e-17
    )
    assert slope.is_contiguous(memory_format=torch.channels_last)


def test_without_gradients_the_value_is_the_same() -> None:
    logits, target = sample()
    with torch.no_grad():
        value = LovaszLoss()(logits, target)
    assert torch.equal(value, LovaszLoss()(logits, target).detach())


def test_equal_errors_give_the_same_gradient_every_time() -> None:
    logits = torch.zeros(2, 3, 200, 200, requires_grad=True)
    target = torch.arange(2 * 200 * 200).view(2, 200, 200) % 3
    first = gradient(LovaszLoss(), logits, target)
    again = gradient(LovaszLoss(), logits, target)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


def test_it_works_with_deterministic_algorithms() -> None:
    logits, target = sample()
    expected = gradient(LovaszLoss(), logits, target)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(gradient(LovaszLoss(), logits, target)[1], expected[1])
    finally:
        torch.use_deterministic_algorithms(False)
