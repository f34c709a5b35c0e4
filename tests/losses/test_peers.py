"""Situations in which peers give a wrong figure, and the right one from ours.

The rows that concern scores (absent classes, means over images) are in tests/test_metrics.py.
"""

import pytest
import segmentation_models_pytorch.losses as smp
import torch
import torch.nn.functional as F
from torch import Tensor

from seg.constants import IGNORE_INDEX
from seg.losses import (
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    JaccardLoss,
    LovaszLoss,
    OhemCrossEntropyLoss,
    SegmentationLoss,
)

WEIGHTS = [0.2, 1.0, 3.0, 0.8]
EXACT = {"rtol": 1e-12, "atol": 0.0}


def sample(*shape: int, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Seeded float64 logits (N, C, *d) and int64 ids (N, *d), none ignored."""
    generator = torch.Generator().manual_seed(0)
    size = (shape[0], classes, *shape[1:])
    logits = 2 * torch.randn(size, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, shape, generator=generator)


def certain(ids: Tensor, classes: int) -> Tensor:
    """Logits (N, C, *d) of a prediction that is sure of `ids`."""
    return 60.0 * F.one_hot(ids, classes).movedim(-1, 1).double()


def slope(loss: torch.nn.Module, logits: Tensor, target: Tensor) -> Tensor:
    leaf = logits.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, target), leaf)[0]


def test_a_constant_changes_the_sigmoid_focal_loss_of_a_peer_but_not_ours() -> None:
    logits, target = sample(2, 8, 8)
    peer, ours = smp.FocalLoss("multiclass"), FocalLoss(gamma=2.0)
    assert peer(logits + 5, target) > 3 * peer(logits, target)
    torch.testing.assert_close(ours(logits + 5, target), ours(logits, target), **EXACT)
    p = logits.softmax(1).gather(1, target.unsqueeze(1))
    torch.testing.assert_close(ours(logits, target), (-((1 - p) ** 2) * p.log()).mean(), **EXACT)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.9])
def test_a_confident_pixel_has_a_finite_gradient_below_gamma_1(gamma: float) -> None:
    target = torch.zeros(1, 2, 2, dtype=torch.long)
    confident = certain(target, 3)
    assert slope(smp.FocalLoss("multiclass", gamma=gamma), confident, target).isnan().any()
    assert slope(FocalLoss(gamma=gamma), confident, target).abs().max() < 1e-10
    assert slope(BinaryFocalLoss(gamma=gamma), -confident[:, :1], target).abs().max() < 1e-10


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_focal_of_nothing_is_zero(reduction: str) -> None:
    logits, target = sample(1, 4, 4)
    nothing = torch.full_like(target, IGNORE_INDEX)
    assert smp.FocalLoss("multiclass", ignore_index=255)(logits, nothing).isnan()
    ours = FocalLoss(gamma=0.5, reduction=reduction)
    assert ours(logits, nothing) == 0
    assert (slope(ours, logits, nothing) == 0).all()


def test_focal_without_reduction_keeps_the_pixels_with_class_weights_too() -> None:
    logits, target = sample(2, 8, 6)
    assert smp.FocalLoss("multiclass", reduction="none")(logits, target).ndim == 0
    weighted = FocalLoss(alpha=WEIGHTS, reduction="none")(logits, target)
    assert weighted.shape == target.shape
    plain = FocalLoss(reduction="none")(logits, target)
    torch.testing.assert_close(weighted, torch.tensor(WEIGHTS).double()[target] * plain, **EXACT)


@pytest.mark.parametrize(
    "loss",
    [CrossEntropyLoss(WEIGHTS), FocalLoss(), DiceLoss(), JaccardLoss(), OhemCrossEntropyLoss(0.25)],
    ids=lambda loss: type(loss).__name__,
)
def test_the_loss_does_not_fall_with_the_size_of_the_image(loss: SegmentationLoss) -> None:
    logits, target = sample(1, 64, 64)
    sizes = [loss(logits.tile(1, 1, k, k), target.tile(1, k, k)) for k in (1, 2, 4)]
    torch.testing.assert_close(sizes, [sizes[0]] * 3, rtol=1e-3, atol=0)
    peer = smp.FocalLoss("multiclass", normalized=True)
    assert peer(logits.tile(1, 1, 2, 2), target.tile(1, 2, 2)) < 0.3 * peer(logits, target)


@pytest.mark.parametrize(
    "loss",
    [CrossEntropyLoss(), CrossEntropyLoss(WEIGHTS), FocalLoss(), OhemCrossEntropyLoss(1.0)],
    ids=["plain", "weighted", "focal", "ohem"],
)
def test_with_nine_tenths_ignored_the_mean_is_that_of_the_rest(loss: SegmentationLoss) -> None:
    logits, target = sample(1, 20, 50)
    sparse = target.clone()
    sparse[..., 5:] = IGNORE_INDEX
    kept = loss(logits[..., :5], target[..., :5])
    torch.testing.assert_close(loss(logits, sparse), kept, **EXACT)
    peer = smp.SoftCrossEntropyLoss(smooth_factor=0.0, ignore_index=255)
    tenth = peer(logits[..., :5], target[..., :5]) / 10
    torch.testing.assert_close(peer(logits, sparse), tenth)


@pytest.mark.parametrize("classes", [2, 5, 20])
@pytest.mark.parametrize("build", [DiceLoss, JaccardLoss, LovaszLoss])
def test_a_totally_wrong_prediction_costs_1_whatever_is_absent(
    build: type[SegmentationLoss], classes: int
) -> None:
    target = torch.arange(2).repeat(1, 64, 32)
    wrong = certain(1 - target, classes)
    assert build(per_image=False)(wrong, target).item() == pytest.approx(1.0, abs=2e-3)
    peer = smp.DiceLoss("multiclass")(wrong, target).item()
    assert peer == pytest.approx(2 / classes, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("build", [DiceLoss, JaccardLoss, LovaszLoss])
def test_overlap_losses_take_half_precision(
    build: type[SegmentationLoss], dtype: torch.dtype
) -> None:
    target = torch.zeros(1, 320, 320, dtype=torch.long)  # more pixels than fp16 can count
    target[..., 100:] = 1
    logits = certain(target, 3).to(dtype)
    assert smp.DiceLoss("multiclass")(logits.half(), target).isnan()
    loss = build(per_image=False)(logits, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.0, abs=1e-4)
    assert slope(build(per_image=False), logits, target).isfinite().all()


@pytest.mark.parametrize("build", [DiceLoss, JaccardLoss, LovaszLoss])
@pytest.mark.parametrize("per_image", [False, True])
def test_overlap_losses_of_nothing_go_back_with_zero(
    build: type[SegmentationLoss], per_image: bool
) -> None:
    logits, target = sample(2, 4, 4)
    nothing = torch.full_like(target, IGNORE_INDEX)
    assert (slope(build(per_image=per_image), logits, nothing) == 0).all()
    with pytest.raises(RuntimeError):
        slope(smp.LovaszLoss("multiclass", ignore_index=255), logits, nothing)


def test_focal_divides_by_the_pixels_that_count_and_not_by_classes() -> None:
    logits, target = sample(2, 8, 8)
    target[0] = IGNORE_INDEX
    expected = F.cross_entropy(logits, target, ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(FocalLoss(gamma=0.0)(logits, target), expected, **EXACT)


def test_class_weights_are_not_looked_up_for_ignored_pixels() -> None:
    logits, target = sample(2, 8, 8)
    target[:, ::2] = IGNORE_INDEX
    weights = torch.tensor(WEIGHTS)
    with pytest.raises(IndexError):
        weights[target]
    expected = F.cross_entropy(logits, target, weights.double(), ignore_index=IGNORE_INDEX)
    loss = CrossEntropyLoss(WEIGHTS)
    torch.testing.assert_close(loss(logits, target), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("build", [DiceLoss, JaccardLoss, LovaszLoss])
def test_a_perfect_prediction_half_ignored_costs_nothing(build: type[SegmentationLoss]) -> None:
    _, target = sample(2, 16, 16)
    logits = certain(target, 4)
    target[..., 8:] = IGNORE_INDEX
    assert build(per_image=False)(logits, target).item() == pytest.approx(0.0, abs=1e-9)


def test_the_hardest_share_is_one_of_the_valid_pixels() -> None:
    logits, target = sample(1, 20, 10)
    target[:, 10:] = IGNORE_INDEX
    losses = F.cross_entropy(logits[:, :, :10], target[:, :10], reduction="none").flatten()
    expected = losses.topk(25).values.mean()  # a quarter of the 100 valid ones
    ours = OhemCrossEntropyLoss(fraction=0.25)(logits, target)
    torch.testing.assert_close(ours, expected, **EXACT)
    peer = F.cross_entropy(logits, target, ignore_index=255, reduction="none").flatten()
    assert ours > 1.2 * peer.topk(50).values.mean()


def test_jaccard_ignores_pixels_and_no_class() -> None:
    logits, target = sample(1, 20, 20)
    target[..., 10:] = IGNORE_INDEX
    expected = JaccardLoss()(logits[..., :10], target[..., :10])
    torch.testing.assert_close(JaccardLoss()(logits, target), expected, **EXACT)
    for label in range(4):
        assert slope(JaccardLoss(), logits, target)[:, label].abs().sum() > 0


@pytest.mark.parametrize("build", [BinaryCrossEntropyLoss, BinaryFocalLoss])
def test_samples_do_not_leak_into_each_other(build: type[SegmentationLoss]) -> None:
    logits, target = sample(3, 8, 8, classes=2)
    logits = logits[:, :1]
    together = build(reduction="none")(logits, target)
    alone = [build(reduction="none")(logits[i : i + 1], target[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), **EXACT)
    leaking = F.binary_cross_entropy_with_logits(*torch.broadcast_tensors(logits, target.double()))
    right = build(alpha=None, gamma=0.0) if build is BinaryFocalLoss else build()
    assert abs(leaking - right(logits, target)) > 1e-3


@pytest.mark.parametrize(
    "loss",
    [CrossEntropyLoss(), CrossEntropyLoss(WEIGHTS), FocalLoss(), DiceLoss(per_image=False)],
    ids=["plain", "weighted", "focal", "dice"],
)
def test_micro_batches_of_1024_and_4_valid_pixels_make_the_gradient_of_the_whole(
    loss: SegmentationLoss,
) -> None:
    logits, target = sample(2, 32, 32)
    target[1] = IGNORE_INDEX
    target[1, 0, :4] = torch.arange(4)
    whole = slope(loss, logits, target)
    leaf = logits.clone().requires_grad_()
    parts = [loss.terms(leaf[i : i + 1], target[i : i + 1]) for i in range(2)]
    value = loss.value(parts[0] + parts[1])
    torch.testing.assert_close(value, loss(logits, target), **EXACT)
    (split,) = torch.autograd.grad(value, leaf)
    torch.testing.assert_close(split, whole, rtol=1e-10, atol=1e-16)
    halves = (loss(leaf[:1], target[:1]) + loss(leaf[1:], target[1:])) / 2
    (wrong,) = torch.autograd.grad(halves, leaf)
    assert (wrong - whole).norm() > 0.5 * whole.norm()


def test_an_epoch_of_uneven_batches_weighs_every_pixel_alike() -> None:
    logits, target = sample(5, 8, 8)
    loss = CrossEntropyLoss()
    batches = [slice(0, 4), slice(4, 5)]
    terms = torch.stack([loss.terms(logits[b], target[b]) for b in batches]).sum(0)
    torch.testing.assert_close(loss.value(terms), F.cross_entropy(logits, target), **EXACT)
    mean_of_means = torch.stack([loss(logits[b], target[b]) for b in batches]).mean()
    assert abs(mean_of_means - loss.value(terms)) > 1e-3


def test_alpha_is_a_buffer_and_255_does_not_index_it() -> None:
    loss = FocalLoss(alpha=WEIGHTS)
    assert [name for name, _ in loss.named_buffers()] == ["alpha"]
    assert list(loss.state_dict()) == ["alpha"]
    logits, target = sample(1, 8, 8)
    target[:, 4:] = IGNORE_INDEX
    expected = loss(logits[:, :, :4], target[:, :4])
    torch.testing.assert_close(loss(logits, target), expected, **EXACT)
