"""What every loss must hold, whichever it is."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from seg import losses
from seg.constants import IGNORE_INDEX
from seg.losses import (
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    BoundaryLoss,
    CompoundLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    JaccardLoss,
    LogitAdjustedCrossEntropyLoss,
    LovaszLoss,
    OhemCrossEntropyLoss,
    RecallLoss,
    SegmentationLoss,
    TverskyLoss,
)

WEIGHTS = [0.2, 1.0, 3.0, 0.8]


@dataclass(frozen=True)
class Case:
    """A loss with the logits and the labels that it takes."""

    name: str
    build: Callable[..., SegmentationLoss]
    channels: int = 4
    labels: int = 4
    elements: str = "pixels"  # of what it is the mean: of pixels, images or the batch
    splits: bool = True  # whether the terms of a batch are the sum of those of its parts
    terms: bool = True  # whether it has terms of its own


def _with(loss: type[SegmentationLoss], **arguments: object) -> Callable[..., SegmentationLoss]:
    return lambda **more: loss(**{**arguments, **more})


def _counted(loss: RecallLoss) -> RecallLoss:
    """A recall loss that has seen classes of different recall, and counts no more."""
    loss.bind(4)
    loss.counts += torch.tensor([[9.0, 5.0, 0.0, 2.0], [1.0, 5.0, 4.0, 6.0]])
    return loss.eval()


def _compound(ignore_index: int = IGNORE_INDEX, reduction: str = "mean") -> CompoundLoss:
    parts = {
        "focal": FocalLoss(alpha=WEIGHTS, ignore_index=ignore_index),
        "plain": CrossEntropyLoss(ignore_index=ignore_index),
    }
    return CompoundLoss(parts, {"plain": 2.0}, reduction)


CASES = [
    Case("cross_entropy", _with(CrossEntropyLoss)),
    Case("weighted", _with(CrossEntropyLoss, weight=WEIGHTS)),
    Case("smoothed", _with(CrossEntropyLoss, weight=WEIGHTS, label_smoothing=0.2)),
    Case("focal", _with(FocalLoss)),
    Case("focal_half", _with(FocalLoss, gamma=0.5, alpha=WEIGHTS)),
    Case("focal_zero", _with(FocalLoss, gamma=0.0)),
    Case("focal_by_class", _with(FocalLoss, gamma=[0.0, 0.5, 1.0, 2.0], label_smoothing=0.1)),
    Case("ohem", _with(OhemCrossEntropyLoss, fraction=0.4), splits=False),
    Case("logit_adjusted", _with(LogitAdjustedCrossEntropyLoss, priors=[0.7, 0.1, 0.15, 0.05])),
    Case("recall", lambda **more: _counted(RecallLoss(**more))),
    Case("compound", lambda **more: _compound(**more), terms=False),
    Case("dice", _with(DiceLoss), elements="batch"),
    Case("dice_per_image", _with(DiceLoss, per_image=True), elements="images"),
    Case("jaccard", _with(JaccardLoss), elements="batch"),
    Case("tversky", _with(TverskyLoss, gamma=4 / 3), elements="batch"),
    Case("lovasz", _with(LovaszLoss), elements="batch", splits=False),
    Case("lovasz_per_image", _with(LovaszLoss, per_image=True), elements="images"),
    Case("boundary", _with(BoundaryLoss)),
    Case("binary", _with(BinaryCrossEntropyLoss), 1, 2),
    Case("binary_weighted", _with(BinaryCrossEntropyLoss, pos_weight=3.0), 1, 2),
    Case("binary_focal", _with(BinaryFocalLoss), 1, 2),
    Case("binary_focal_half", _with(BinaryFocalLoss, gamma=0.5, alpha=None), 1, 2),
]
PIXELS = [case for case in CASES if case.elements == "pixels"]
APART = [case for case in PIXELS if not case.build().uses_positions and case.terms]
SPLIT = [case for case in CASES if case.splits and case.terms]
SOFTMAX = [case for case in CASES if case.channels > 1]
every_loss = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_loss_that_splits = pytest.mark.parametrize("case", SPLIT, ids=lambda case: case.name)
every_loss_of_pixels_apart = pytest.mark.parametrize("case", APART, ids=lambda case: case.name)
every_softmax_loss = pytest.mark.parametrize("case", SOFTMAX, ids=lambda case: case.name)


def sample(
    case: Case, shape: tuple[int, ...] = (3, 6, 5), ignored: float = 0.3
) -> tuple[Tensor, Tensor]:
    """Seeded float64 logits (N, C, *d) and uint8 ids (N, *d), of which a share is ignored."""
    generator = torch.Generator().manual_seed(len(shape))
    logits = torch.randn(
        shape[0], case.channels, *shape[1:], generator=generator, dtype=torch.float64
    )
    target = torch.randint(0, case.labels, shape, generator=generator, dtype=torch.uint8)
    target[torch.rand(shape, generator=generator) < ignored] = IGNORE_INDEX
    return 3 * logits, target


def gradient(loss: SegmentationLoss, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient of a loss."""
    leaf = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    value = loss(leaf, target)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), slope


def flat(case: Case, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The same pixels as a batch of single pixels, (P, C) and (P,)."""
    return logits.movedim(1, -1).reshape(-1, case.channels), target.reshape(-1)


@pytest.mark.parametrize(
    "shape", [(40,), (4, 9), (3, 6, 5), (2, 3, 4, 3), (2, 3, 2, 2, 3)], ids=len
)
@every_loss_of_pixels_apart
def test_any_rank_equals_its_flattened_form(case: Case, shape: tuple[int, ...]) -> None:
    logits, target = sample(case, shape)
    loss = case.build()
    value, slope = gradient(loss, logits, target)
    flat_value, flat_slope = gradient(loss, *flat(case, logits, target))
    torch.testing.assert_close(value, flat_value, rtol=1e-12, atol=0)
    torch.testing.assert_close(flat(case, slope, target)[0], flat_slope, rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
@every_loss
def test_every_integer_dtype_of_the_target_gives_the_same(case: Case, dtype: torch.dtype) -> None:
    logits, target = sample(case)
    assert torch.equal(case.build()(logits, target.to(dtype)), case.build()(logits, target))


@every_loss_of_pixels_apart
def test_ignored_pixels_change_neither_sum_nor_divisor_nor_gradient(case: Case) -> None:
    logits, target = sample(case)
    ignored = (target == IGNORE_INDEX).unsqueeze(1).expand_as(logits)
    poisons = torch.tensor([torch.inf, -torch.inf, torch.nan, 1e300], dtype=torch.float64)
    poisoned = torch.where(
        ignored, poisons[torch.arange(logits.numel()) % 4].view_as(logits), logits
    )
    loss = case.build()
    pixels, labels = flat(case, logits, target)
    kept = labels != IGNORE_INDEX
    expected = loss.terms(pixels[kept], labels[kept])
    for actual, wanted in zip(loss.terms(poisoned, target), expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-12, atol=0)
    slope = gradient(loss, poisoned, target)[1]
    wanted_slope = gradient(loss, pixels[kept], labels[kept])[1]
    assert (slope[ignored] == 0).all()
    torch.testing.assert_close(
        flat(case, slope, target)[0][kept], wanted_slope, rtol=1e-12, atol=1e-18
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("value", [0.0, torch.inf, torch.nan])
@every_loss
def test_all_ignored_is_zero_with_a_zero_gradient(case: Case, value: float, reduction: str) -> None:
    logits, target = sample(case)
    loss, slope = gradient(
        case.build(reduction=reduction),
        torch.full_like(logits, value),
        torch.full_like(target, IGNORE_INDEX),
    )
    assert (loss == 0).all()
    assert (slope == 0).all()


@every_loss
def test_an_image_that_is_all_ignored_leaves_the_others_alone(case: Case) -> None:
    logits, target = sample(case)
    target[1] = IGNORE_INDEX
    loss = case.build()
    value, slope = gradient(loss, logits, target)
    kept_value, kept_slope = gradient(loss, logits[::2], target[::2])
    torch.testing.assert_close(value, kept_value, rtol=1e-12, atol=0)
    torch.testing.assert_close(slope[::2], kept_slope, rtol=1e-12, atol=0)
    assert (slope[1] == 0).all()


@every_loss
def test_a_batch_without_images_is_zero(case: Case) -> None:
    logits, target = sample(case)
    assert case.build()(logits[:0], target[:0]) == 0


@every_loss
def test_reductions_agree(case: Case) -> None:
    logits, target = sample(case)
    single = case.build(reduction="none")(logits, target)
    total = case.build(reduction="sum")(logits, target)
    shapes = {"pixels": target.shape, "images": target.shape[:1], "batch": (1,)}
    assert single.shape == shapes[case.elements]
    torch.testing.assert_close(single.sum(), total, rtol=1e-12, atol=0)


@every_loss_of_pixels_apart
def test_the_mean_of_pixels_is_their_sum_over_their_weights(case: Case) -> None:
    logits, target = sample(case)
    numerator, divisor = case.build().terms(logits, target)
    assert numerator.shape == divisor.shape == ()
    assert torch.equal(case.build(reduction="sum")(logits, target), numerator)
    assert torch.equal(case.build()(logits, target), numerator / divisor)


@every_loss_that_splits
def test_terms_add_up_over_parts_of_a_batch(case: Case) -> None:
    logits, target = sample(case)
    target[2] = IGNORE_INDEX
    loss = case.build()
    parts = [loss.terms(logits[i : i + 1], target[i : i + 1]) for i in range(len(target))]
    assert all(len(terms) == loss.num_terms(case.channels) for terms in parts)
    value = loss.value(torch.stack(parts).sum(0))
    torch.testing.assert_close(value, loss(logits, target), rtol=1e-12, atol=0)


@every_loss
def test_an_unknown_reduction_is_refused_with_its_name(case: Case) -> None:
    with pytest.raises(ValueError, match=r"'average'.*'none', 'mean', 'sum'"):
        case.build(reduction="average")


@every_softmax_loss
def test_one_hot_probabilities_equal_ids(case: Case) -> None:
    logits, target = sample(case)
    ignored = (target == IGNORE_INDEX).unsqueeze(1)
    ids = target.long().masked_fill(ignored.squeeze(1), 0)
    one_hot = torch.nn.functional.one_hot(ids, 4).movedim(-1, 1).double()
    one_hot = one_hot.masked_fill(ignored, IGNORE_INDEX)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        formed = logits.to(memory_format=memory_format)
        for reduction in ("none", "sum", "mean"):
            loss = case.build(reduction=reduction)
            torch.testing.assert_close(
                gradient(loss, formed, one_hot),
                gradient(loss, logits, target),
                rtol=1e-12,
                atol=1e-14,
            )


@every_softmax_loss
def test_adding_a_constant_to_the_logits_of_a_pixel_changes_nothing(case: Case) -> None:
    logits, target = sample(case)
    loss = case.build()
    shift = torch.linspace(-50, 50, target.numel(), dtype=torch.float64).view(target.shape)
    torch.testing.assert_close(
        loss(logits + shift.unsqueeze(1), target), loss(logits, target), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("build", [CrossEntropyLoss, FocalLoss, OhemCrossEntropyLoss])
def test_renaming_the_classes_changes_nothing(build: Callable[..., SegmentationLoss]) -> None:
    logits, target = sample(CASES[0])
    order = torch.tensor([2, 0, 3, 1])
    name = "alpha" if build is FocalLoss else "weight"
    lookup = torch.full((256,), IGNORE_INDEX)
    lookup[order] = torch.arange(4)
    permuted = build(**{name: [WEIGHTS[i] for i in order]})(logits[:, order], lookup[target.long()])
    torch.testing.assert_close(
        permuted, build(**{name: WEIGHTS})(logits, target), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@every_loss
def test_extreme_logits_give_a_finite_loss_and_gradient(case: Case, dtype: torch.dtype) -> None:
    logits, target = sample(case)
    extremes = torch.tensor([-6e4, 6e4, 1e4, 0.0, 1e-4, -88.0], dtype=torch.float64)
    pattern = torch.randint(6, (logits.numel(),), generator=torch.Generator().manual_seed(0))
    value, slope = gradient(case.build(), extremes[pattern].view_as(logits).to(dtype), target)
    assert value.isfinite()
    assert slope.isfinite().all()
    assert slope.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_loss
def test_half_precision_is_within_two_percent_of_float64(case: Case, dtype: torch.dtype) -> None:
    logits, target = sample(case)
    exact, exact_slope = gradient(case.build(), logits, target)
    value, slope = gradient(case.build(), logits.to(dtype), target)
    with torch.autocast("cpu", dtype):
        mixed = case.build()(logits.float(), target)
    assert value.dtype == mixed.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=0.02, atol=0)
    torch.testing.assert_close(mixed.double(), exact, rtol=0.02, atol=0)
    assert (slope.double() - exact_slope).norm() < 0.02 * exact_slope.norm()


@every_loss
def test_the_gradient_is_that_of_finite_differences(case: Case) -> None:
    logits, target = sample(case, (2, 3, 2))
    assert torch.autograd.gradcheck(
        lambda z: case.build()(z, target), logits.requires_grad_(), atol=1e-7
    )


@pytest.mark.slow
@every_loss
def test_the_second_derivative_is_that_of_finite_differences(case: Case) -> None:
    logits, target = sample(case, (2, 2, 2))
    loss = case.build()
    assert torch.autograd.gradgradcheck(
        lambda z: loss(z, target), logits.requires_grad_(), atol=1e-6
    )


@every_loss
def test_logits_and_targets_that_are_views_give_the_same(case: Case) -> None:
    logits, target = sample(case)
    expected = gradient(case.build(), logits, target)
    for lay in (
        lambda x: x.mT.contiguous().mT,
        lambda x: torch.stack([x, x], -1)[..., 1],
        lambda x: x.flip(0).contiguous().flip(0),
        lambda x: x[:1].expand_as(x),
    ):
        views = lay(logits), lay(target)
        found = gradient(case.build(), views[0].contiguous(), views[1].contiguous())
        value = case.build()(*views)
        torch.testing.assert_close(value, found[0], rtol=1e-12, atol=1e-15)
    leaf = logits.mT.contiguous().requires_grad_()
    (slope,) = torch.autograd.grad(case.build()(leaf.mT, target).sum(), leaf)
    torch.testing.assert_close(slope.mT, expected[1], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))])
@every_loss
def test_a_copy_and_a_pickle_give_the_same_and_live_apart(
    case: Case, copied: Callable[[SegmentationLoss], SegmentationLoss]
) -> None:
    logits, target = sample(case)
    loss = case.build()
    expected = gradient(loss, logits, target)  # whatever a call leaves behind is copied as well
    other = copied(loss)
    torch.testing.assert_close(gradient(other, logits, target), expected, rtol=0, atol=0)
    torch.testing.assert_close(other.state_dict(), loss.state_dict(), rtol=0, atol=0)
    for buffer in other.buffers():
        buffer.fill_(0.5)
    torch.testing.assert_close(gradient(loss, logits, target), expected, rtol=0, atol=0)


@every_loss
def test_a_label_that_is_no_class_is_refused_with_its_value(case: Case) -> None:
    logits, target = sample(case)
    target[1, 2, 3] = 17
    with pytest.raises(ValueError, match=r"\b17\b.*255"):
        case.build()(logits, target)
    with pytest.raises(ValueError, match=r"-4\b"):
        case.build()(logits, target.long().masked_fill(target == 17, -4))


@pytest.mark.parametrize("ignore_index", [-100, 0, 7])
@every_loss
def test_another_ignore_index_takes_the_place_of_255(case: Case, ignore_index: int) -> None:
    logits, target = sample(case)
    other = target.long()
    other[target == 0] = IGNORE_INDEX
    expected = case.build()(logits, other)
    moved = other.masked_fill(other == IGNORE_INDEX, ignore_index)
    torch.testing.assert_close(case.build(ignore_index=ignore_index)(logits, moved), expected)


@pytest.mark.slow
@every_loss
def test_a_compiled_loss_agrees_and_has_no_graph_break(case: Case) -> None:
    torch.compiler.reset()
    logits, target = sample(case)
    compiled = torch.compile(case.build(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        gradient(compiled, logits, target), gradient(case.build(), logits, target)
    )


@pytest.mark.slow
@every_loss
def test_on_a_gpu_no_value_is_waited_for(case: Case, fake_gpu) -> None:
    logits, target = sample(case)
    loss = case.build()
    found: list[str] = []
    with fake_gpu(found):
        on_gpu = torch.empty(logits.shape, device="cuda", requires_grad=True)
        ids = torch.empty(target.shape, dtype=target.dtype, device="cuda")
        for name, buffer in list(loss.named_buffers()):
            owner, _, own = name.rpartition(".")
            setattr(loss.get_submodule(owner), own, torch.empty(buffer.shape, device="cuda"))
        assert loss(on_gpu, ids).is_cuda
    assert found == []


@every_softmax_loss
def test_channels_last_gives_the_same_with_a_channels_last_gradient(case: Case) -> None:
    logits, target = sample(case)
    expected = gradient(case.build(), logits, target)
    last = logits.to(memory_format=torch.channels_last)
    value, slope = gradient(case.build(), last, target)
    torch.testing.assert_close((value, slope), expected, rtol=1e-12, atol=1e-16)
    assert slope.is_contiguous(memory_format=torch.channels_last)


def test_every_loss_of_the_package_is_built_without_arguments() -> None:
    public = [getattr(losses, name) for name in losses.__all__]
    classes = [
        item for item in public if isinstance(item, type) and issubclass(item, SegmentationLoss)
    ]
    built = [cls() for cls in classes if cls is not CompoundLoss]
    tested = {type(case.build()) for case in CASES}
    assert tested == {*map(type, built), CompoundLoss} - {SegmentationLoss}
    waiting = [type(loss) for loss in built if loss.needs_class_counts]
    assert waiting == [LogitAdjustedCrossEntropyLoss]  # for the priors of the training set
    assert all(loss.state_dict() == {} for loss in built)
