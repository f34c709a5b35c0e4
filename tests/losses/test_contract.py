"""Ours keep the contract; a loss with a defect that a peer has is named for it."""

import logging
import random
from collections.abc import Callable

import numpy as np
import pytest
import segmentation_models_pytorch.losses as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg import losses
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
from seg.losses.contract import CLAUSES, check_loss

IGNORED = 255
WEIGHTS = [0.2, 1.0, 3.0, 0.8]
Formula = Callable[[Tensor, Tensor], Tensor]

OURS = {
    "cross_entropy": CrossEntropyLoss(),
    "cross_entropy_weighted": CrossEntropyLoss(weight=WEIGHTS),
    "cross_entropy_smoothed": CrossEntropyLoss(label_smoothing=0.2),
    "cross_entropy_weighted_smoothed": CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.2),
    "cross_entropy_ignoring_100": CrossEntropyLoss(ignore_index=-100),
    "focal": FocalLoss(),
    "focal_zero": FocalLoss(gamma=0.0, reduction="sum"),
    "focal_tenth": FocalLoss(gamma=0.1, reduction="none"),
    "focal_half_weighted": FocalLoss(gamma=0.5, alpha=WEIGHTS),
    "focal_smoothed": FocalLoss(alpha=WEIGHTS, label_smoothing=0.2),
    "focal_by_class": FocalLoss(gamma=[0.0, 0.5, 1.0, 2.0]),
    "focal_five_by_policy": FocalLoss(gamma=5.0, alpha="median_frequency"),
    "binary": BinaryCrossEntropyLoss(),
    "binary_weighted": BinaryCrossEntropyLoss(pos_weight=3.0),
    "binary_multi_label": BinaryCrossEntropyLoss(pos_weight=[3.0, 1.0, 0.5]),
    "binary_focal": BinaryFocalLoss(),
    "binary_focal_half": BinaryFocalLoss(gamma=0.5, alpha=None),
    "ohem": OhemCrossEntropyLoss(fraction=0.3, weight=WEIGHTS),
    "logit_adjusted": LogitAdjustedCrossEntropyLoss(),
    "recall": RecallLoss(),
    "dice": DiceLoss(),
    "dice_per_image": DiceLoss(per_image=True),
    "jaccard": JaccardLoss(),
    "tversky_focal": TverskyLoss(gamma=4 / 3),
    "lovasz": LovaszLoss(),
    "lovasz_per_image": LovaszLoss(per_image=True),
    "boundary": BoundaryLoss(),
    "compound": CompoundLoss({"ce": CrossEntropyLoss(), "dice": DiceLoss()}, {"dice": 2.0}),
}


@pytest.mark.slow
@pytest.mark.parametrize("loss", OURS.values(), ids=OURS.keys())
def test_a_loss_of_ours_breaks_nothing(loss: SegmentationLoss) -> None:
    assert check_loss(loss) == []


def test_every_loss_of_the_package_is_among_them() -> None:
    public = (getattr(losses, name) for name in losses.__all__)
    classes = {x for x in public if isinstance(x, type) and issubclass(x, SegmentationLoss)}
    assert {type(loss) for loss in OURS.values()} == classes - {SegmentationLoss}


@pytest.mark.slow
def test_the_number_of_classes_may_be_another() -> None:
    assert check_loss(DiceLoss(), num_classes=2) == []
    assert check_loss(FocalLoss(), num_classes=2) == []
    assert check_loss(CrossEntropyLoss(), num_classes=40) == []
    assert check_loss(BinaryFocalLoss(), num_classes=3) == []


class Plain(nn.Module):
    """A loss that somebody wrote, from its formula."""

    def __init__(self, formula: Formula) -> None:
        super().__init__()
        self.formula = formula
        self.ignore_index = IGNORED

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.formula(logits, target)


class UsualFocalLoss(nn.Module):
    """The usual listing: α is a plain tensor that is indexed with the target."""

    def __init__(self, gamma: float, alpha: list[float] | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = None if alpha is None else torch.tensor(alpha)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        log_p = F.log_softmax(logits, 1).gather(1, target.long().unsqueeze(1)).squeeze(1)
        loss = -((1 - log_p.exp()) ** self.gamma) * log_p
        return (loss if self.alpha is None else self.alpha[target.long()] * loss).mean()


class WeightsBeforeMask(nn.Module):
    """The divisor of a weighted mean, class_weight[label], is looked up before the mask."""

    def __init__(self) -> None:
        super().__init__()
        self.ignore_index = IGNORED
        self.reduction = "mean"
        self.register_buffer("class_weight", torch.tensor(WEIGHTS))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        weight = self.class_weight.to(logits.dtype)
        loss = F.cross_entropy(logits, target.long(), weight, ignore_index=255, reduction="none")
        if self.reduction == "mean":
            return loss.sum() / sum(self.class_weight[label] for label in target.long().flatten())
        return loss if self.reduction == "none" else loss.sum()


def pixel_losses(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, target.long(), ignore_index=IGNORED, reduction="none")


def mean_over_all_pixels(logits: Tensor, target: Tensor) -> Tensor:
    return pixel_losses(logits, target).mean()


def focal_mean_over_classes(logits: Tensor, target: Tensor) -> Tensor:
    """The focal loss spread over one-hot classes, and the mean over these as well."""
    valid = target != IGNORED
    log_p = F.log_softmax(logits, 1)
    one_hot = F.one_hot((target * valid).long(), logits.shape[1]).movedim(-1, 1)
    return (-((1 - log_p.exp()) ** 2) * log_p * one_hot * valid.unsqueeze(1)).mean()


def dice_with_the_numerator_masked(logits: Tensor, target: Tensor) -> Tensor:
    valid = (target != IGNORED).unsqueeze(1)
    p = logits.softmax(1)
    one_hot = F.one_hot((target * valid.squeeze(1)).long(), logits.shape[1]).movedim(-1, 1)
    dims = (0, *range(2, p.ndim))
    overlap, size = (p * one_hot * valid).sum(dims), (p + one_hot).sum(dims)
    return (1 - (2 * overlap + 1) / (size + 1)).mean()


def hardest_tenth_of_all_pixels(logits: Tensor, target: Tensor) -> Tensor:
    losses = pixel_losses(logits, target).flatten()
    return losses.topk(max(1, losses.numel() // 10)).values.mean()


def valid_mean(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, target.long(), ignore_index=IGNORED)


def binary_dice_that_broadcasts(logits: Tensor, target: Tensor) -> Tensor:
    """(N, 1, H, W) times (N, H, W) is (N, N, H, W)."""
    valid = target != IGNORED
    p = logits.sigmoid() * valid
    return 1 - 2 * (p * (target * valid)).sum() / (p.sum() + (target * valid).sum() + 1)


def classes_wherever_they_are(logits: Tensor, target: Tensor) -> Tensor:
    if logits.shape[:-1] == target.shape:
        logits = logits.movedim(-1, 1)
    return valid_mean(logits, target)


def flattened_without_a_look(logits: Tensor, target: Tensor) -> Tensor:
    scores = logits.movedim(1, -1).reshape(-1, logits.shape[1])
    return F.cross_entropy(scores, target.long().reshape(-1), ignore_index=IGNORED)


def overwriting(logits: Tensor, target: Tensor) -> Tensor:
    with torch.no_grad():
        logits.sub_(logits.amax(1, keepdim=True))
    return valid_mean(logits, target)


def labels_clamped(logits: Tensor, target: Tensor) -> Tensor:
    ids = target.long().clamp(0, logits.shape[1] - 1)
    return F.cross_entropy(logits, ids.where(target != IGNORED, -100))


def naive_softmax(logits: Tensor, target: Tensor) -> Tensor:
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    return -p.gather(1, target.long().unsqueeze(1)).log().mean()


class HalfGradient(torch.autograd.Function):
    """A gradient off by a factor, without a second one and without a word about it."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, losses: Tensor) -> Tensor:
        return losses.clone()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, slope: Tensor) -> Tensor:
        return (slope / 2).detach()


def wrong_gradient(logits: Tensor, target: Tensor) -> Tensor:
    return HalfGradient.apply(valid_mean(logits, target))


def branching_on_the_value(logits: Tensor, target: Tensor) -> Tensor:
    loss = valid_mean(logits, target)
    return loss if loss.item() < 1e3 else loss / 2


def viewing(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(
        logits.view(*logits.shape[:2], -1),
        target.long().view(len(target), -1),
        ignore_index=IGNORED,
    )


def scattering(logits: Tensor, target: Tensor) -> Tensor:
    losses = pixel_losses(logits, target).flatten()
    places = torch.arange(len(losses))
    return torch.zeros_like(losses).put_(places, losses).sum() / (target != IGNORED).sum()


def first_class_free(logits: Tensor, target: Tensor) -> Tensor:
    return (pixel_losses(logits, target) * (target != 0)).mean()


DEFECTS: dict[str, tuple[nn.Module, set[str]]] = {
    # the peers themselves
    "smp_focal_is_sigmoid": (
        smp.FocalLoss("multiclass", ignore_index=255),
        {"shift_invariance", "absent_class", "reductions", "all_ignored"},
    ),
    "smp_focal_small_gamma": (smp.FocalLoss("multiclass", gamma=0.5), {"certain_pixels"}),
    "smp_focal_weights": (
        smp.FocalLoss("multiclass", class_weights=WEIGHTS),
        {"weights_are_buffers", "reductions"},
    ),
    "smp_cross_entropy": (
        smp.SoftCrossEntropyLoss(smooth_factor=0.0, ignore_index=255),
        {"ignored_pixels", "ignored_image"},
    ),
    "smp_dice": (
        smp.DiceLoss("multiclass", ignore_index=255),
        {"absent_class", "half_precision", "labels_refused"},
    ),
    "smp_lovasz": (
        smp.LovaszLoss("multiclass", ignore_index=255),
        {"half_precision", "all_ignored", "labels_refused", "any_rank", "flattened", "gradient"},
    ),
    "torch_cross_entropy": (
        nn.CrossEntropyLoss(ignore_index=255),
        {"all_ignored", "integer_dtypes", "ignored_pixels", "classes_last_refused"},
    ),
    # what others do, re-enacted
    "mean_over_all_pixels": (Plain(mean_over_all_pixels), {"ignored_pixels", "ignored_image"}),
    "focal_mean_over_classes": (Plain(focal_mean_over_classes), {"ignored_pixels", "absent_class"}),
    "weights_before_mask": (WeightsBeforeMask(), {"ignored_pixels", "all_ignored"}),
    "numerator_masked": (Plain(dice_with_the_numerator_masked), {"ignored_pixels", "all_ignored"}),
    "top_k_of_all_pixels": (Plain(hardest_tenth_of_all_pixels), {"ignored_pixels"}),
    "usual_focal": (
        UsualFocalLoss(2.0, WEIGHTS),
        {"weights_are_buffers", "ignored_pixels", "one_hot_equals_ids"},
    ),
    "usual_focal_small_gamma": (UsualFocalLoss(0.5), {"certain_pixels", "extreme_logits"}),
    "mean_of_nothing": (Plain(valid_mean), {"all_ignored"}),
    "classes_wherever": (Plain(classes_wherever_they_are), {"classes_last_refused"}),
    "flattened_blindly": (Plain(flattened_without_a_look), {"classes_last_refused"}),
    "overwriting": (Plain(overwriting), {"input_untouched", "gradient"}),
    "labels_clamped": (Plain(labels_clamped), {"labels_refused"}),
    "naive_softmax": (Plain(naive_softmax), {"extreme_logits", "certain_pixels", "half_precision"}),
    "wrong_gradient": (Plain(wrong_gradient), {"gradient", "second_derivative"}),
    "branching": (Plain(branching_on_the_value), {"compile", "export"}),
    "viewing": (Plain(viewing), {"strided", "channels_last"}),
    "scattering": (Plain(scattering), {"deterministic"}),
    "one_class_favoured": (Plain(first_class_free), {"permutation"}),
}
SOUND = {"any_rank", "flattened", "permutation", "gradient", "deterministic", "input_untouched"}


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "expected"), DEFECTS.values(), ids=DEFECTS.keys())
def test_a_defect_is_named_and_what_is_sound_is_not(loss: nn.Module, expected: set[str]) -> None:
    broken = set(check_loss(loss, num_classes=4))
    assert expected <= broken
    assert not broken & (SOUND - expected)


def test_samples_that_leak_into_each_other_are_named() -> None:
    broken = check_loss(Plain(binary_dice_that_broadcasts), num_classes=1)
    assert "ignored_image" in broken
    assert "integer_dtypes" not in broken


class FixedToItsBatch(CrossEntropyLoss):
    """Terms that do not add up: those of the mean of a part."""

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().terms(logits, target) / len(target)


class CountsPixels(CrossEntropyLoss):
    """A divisor that leaves the class weights out."""

    def divisor(self, target: Tensor, channels: int) -> Tensor | None:
        return (target != self.ignore_index).sum(dtype=torch.float64)


class Contiguous(CrossEntropyLoss):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().forward(_Copied.apply(logits), target)


class _Copied(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, logits: Tensor) -> Tensor:
        return logits.contiguous()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, slope: Tensor) -> Tensor:
        return slope.contiguous()


class PlainWeights(CrossEntropyLoss):
    def __init__(self) -> None:
        super().__init__()
        self.more = [torch.ones(4)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (FixedToItsBatch(), ["split_terms"]),
        (CountsPixels([1.0, 2.0, 4.0, 8.0]), ["split_shares"]),
        (CompoundLoss({"a": CountsPixels([1.0, 2.0])}), ["split_shares"]),
        (Contiguous(), ["channels_last"]),
        (PlainWeights(), ["weights_are_buffers"]),
    ],
    ids=lambda case: type(case).__name__,
)
def test_one_defect_in_a_loss_of_ours_is_named_alone(loss: nn.Module, expected: list[str]) -> None:
    assert check_loss(loss) == expected


@pytest.mark.slow
def test_the_reason_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="seg.losses.contract"):
        broken = check_loss(PlainWeights())
    assert [record.getMessage() for record in caplog.records] == [
        f"PlainWeights breaks {broken[0]}: AssertionError: neither buffer nor parameter: ['more']"
    ]


def test_every_clause_says_what_it_asserts_and_names_come_in_order() -> None:
    assert all((clause.__doc__ or "").strip() for clause in CLAUSES.values())
    broken = check_loss(smp.LovaszLoss("multiclass", ignore_index=255))
    assert broken == [name for name in CLAUSES if name in broken]


def test_the_callers_loss_random_states_and_settings_stay_as_they_were() -> None:
    loss = UsualFocalLoss(2.0, WEIGHTS).train()
    before = {name: id(value) for name, value in vars(loss).items()}
    alpha = loss.alpha.clone()
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with torch.no_grad():
            check_loss(loss)
            assert not torch.is_grad_enabled()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert loss.training
    assert {name: id(value) for name, value in vars(loss).items()} == before
    assert torch.equal(loss.alpha, alpha)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]


@pytest.mark.slow
def test_a_policy_that_waits_for_counts_still_waits_afterwards() -> None:
    loss = FocalLoss(alpha="inverse_frequency")
    assert check_loss(loss, num_classes=3) == []
    assert loss.needs_class_counts
    assert loss.alpha is None


def test_what_cannot_be_checked_is_refused() -> None:
    with pytest.raises(TypeError, match=r"nn\.Module"):
        check_loss(F.cross_entropy)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_classes=0"):
        check_loss(CrossEntropyLoss(), num_classes=0)
