"""What logits and targets may look like: one sample, ids of any integer dtype."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg.losses import (
    BinaryCrossEntropyLoss,
    CompoundLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    LovaszLoss,
    RecallLoss,
    binary_cross_entropy,
    binary_focal_loss,
    cross_entropy,
    dice_loss,
    focal_loss,
    logit_adjusted_cross_entropy,
    lovasz_softmax_loss,
    ohem_cross_entropy,
    recall_loss,
)
from seg.losses.targets import images_that_count
from tests.losses.test_losses import CASES, IGNORE_INDEX, Case, every_loss, gradient, sample

UNSIGNED = [torch.uint16, torch.uint32, torch.uint64]
SINGLE = [case for case in CASES if not case.build().uses_positions]
every_loss_of_single_samples = pytest.mark.parametrize("case", SINGLE, ids=lambda case: case.name)


@pytest.mark.parametrize("dtype", UNSIGNED)
@every_loss
def test_wide_unsigned_ids_are_ids(case: Case, dtype: torch.dtype) -> None:
    logits, target = sample(case)
    ids, loss = target.to(dtype), case.build()
    for given in (loss, case.build(reduction="sum"), case.build(reduction="none")):
        expected = gradient(given, logits, target)
        torch.testing.assert_close(gradient(given, logits, ids), expected, rtol=0, atol=0)
    for _, part in loss.components().values():
        divisor = part.divisor(target, case.channels)
        assert part.divisor(ids, case.channels) == divisor
        assert torch.equal(part.terms(logits, ids), part.terms(logits, target))
        found, expected = part.class_terms(logits, ids), part.class_terms(logits, target)
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
        if divisor is not None:
            share = part.share(logits, target, divisor)
            assert torch.equal(part.share(logits, ids, divisor), share)


@pytest.mark.parametrize("dtype", UNSIGNED)
@pytest.mark.parametrize("loss", [CrossEntropyLoss(), FocalLoss(), DiceLoss(), LovaszLoss()])
def test_a_mask_of_16_bits_may_have_more_than_256_classes(
    loss: nn.Module, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 300, 4, 5, generator=generator)
    target = torch.randint(0, 300, (2, 4, 5), generator=generator)
    target[0, 0, 0], target[1, 1, 1] = 299, 65535
    loss.ignore_index = 65535
    expected = gradient(loss, logits, target)
    torch.testing.assert_close(gradient(loss, logits, target.to(dtype)), expected, rtol=0, atol=0)
    if isinstance(loss, CrossEntropyLoss):
        torch.testing.assert_close(
            expected[0], F.cross_entropy(logits, target, ignore_index=65535), rtol=1e-6, atol=0
        )


@pytest.mark.parametrize("dtype", [torch.uint8, *UNSIGNED])
@every_loss
def test_a_wide_label_that_is_no_class_is_refused_with_its_value(
    case: Case, dtype: torch.dtype
) -> None:
    logits, target = sample(case)
    target = target.to(dtype)
    target[1, 2, 3] = 200
    with pytest.raises(ValueError, match=r"\b200\b.*255"):
        case.build()(logits, target)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16])
def test_an_ignore_index_outside_the_dtype_of_the_target_ignores_nothing(
    dtype: torch.dtype,
) -> None:
    """As torch compares them, 156 in a byte would be -100."""
    outside = -100 if dtype == torch.uint8 else 2**17
    target = torch.tensor([[0, 1, 0, 156]]).to(dtype)
    with pytest.raises(ValueError, match=r"\b156\b"):
        CrossEntropyLoss(ignore_index=outside)(torch.zeros(1, 3, 4), target)
    ids = torch.zeros(3, 4, dtype=dtype)
    assert images_that_count(ids, 2**16) == 3
    assert BinaryCrossEntropyLoss(ignore_index=2**16).divisor(ids, 1) == 12


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@every_loss_of_single_samples
def test_one_sample_is_a_batch_of_one(case: Case, reduction: str) -> None:
    logits, target = sample(case, (6,), ignored=0)
    loss = case.build(reduction=reduction)
    for scores, label in zip(logits, target.long(), strict=True):
        soft = torch.full((case.channels,), 1 / case.channels, dtype=torch.float64)
        for one in (label, label.to(torch.uint8), soft):
            value, slope = gradient(loss, scores, one)
            batch, batch_slope = gradient(loss, scores[None], one[None])
            shape = one.shape if case.channels == 1 and reduction == "none" else ()
            assert value.shape == shape
            assert torch.equal(value.flatten(), batch.flatten())
            assert torch.equal(slope[None], batch_slope)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label", [2, 255])
def test_one_sample_gives_what_torch_gives(label: int, reduction: str) -> None:
    logits, weight = torch.tensor([0.3, -1.0, 2.0, 0.1]), torch.tensor([1.0, 2.0, 3.0, 0.5])
    target = torch.tensor(label)
    expected = F.cross_entropy(logits, target, weight, ignore_index=255, reduction=reduction)
    expected = expected.nan_to_num(0.0)  # torch's mean of nothing
    found = cross_entropy(logits, target, weight, reduction=reduction)
    torch.testing.assert_close(found, expected)
    soft = torch.tensor([0.5, 0.0, 0.25, 0.25])
    torch.testing.assert_close(
        cross_entropy(logits, soft, weight, reduction="none"),
        F.cross_entropy(logits, soft, weight, reduction="none"),
    )
    single, one = torch.tensor([0.7]), torch.tensor([1.0])
    torch.testing.assert_close(
        binary_cross_entropy(single, one, reduction=reduction),
        F.binary_cross_entropy_with_logits(single, one, reduction=reduction),
    )


FUNCTIONS: list[Callable[..., Tensor]] = [
    cross_entropy,
    focal_loss,
    ohem_cross_entropy,
    lambda z, t, **more: logit_adjusted_cross_entropy(z, t, [-1.0, -2.0, -1.5], **more),
    lambda z, t, **more: recall_loss(z, t, [0.5, 0.2, 1.0], **more),
    dice_loss,
    lovasz_softmax_loss,
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_takes_one_sample(function: Callable[..., Tensor]) -> None:
    logits, target = torch.tensor([0.3, -1.0, 2.0]), torch.tensor(1)
    for reduction in ("mean", "sum", "none"):
        value = function(logits, target, reduction=reduction)
        batch = function(logits[None], target[None], reduction=reduction)
        assert value.shape == () and value == batch.sum()
    assert binary_focal_loss(logits[:1], target).shape == ()


def test_a_sum_of_losses_and_one_that_counts_take_one_sample_too() -> None:
    logits, target = torch.tensor([0.3, -1.0, 2.0]), torch.tensor(1)
    loss = CompoundLoss({"recall": RecallLoss(), "dice": DiceLoss()})
    batched = CompoundLoss({"recall": RecallLoss(), "dice": DiceLoss()})
    assert loss(logits, target) == batched(logits[None], target[None])
    expected = batched.state_dict()
    assert expected["parts.recall.counts"].sum() == 1
    torch.testing.assert_close(loss.state_dict(), expected)
    assert CrossEntropyLoss()(logits, torch.tensor(IGNORE_INDEX)) == 0
