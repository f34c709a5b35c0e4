"""Losses on independent sigmoid logits: one foreground class, or one logit a label."""

import torch
import torch.nn.functional as F
from torch import Tensor

from seg.constants import IGNORE_INDEX
from seg.exact_sums import widened
from seg.losses.arguments import ClassValues, ClassVector, class_vector, is_number, number
from seg.losses.base import SegmentationLoss
from seg.losses.focal import check_gamma, power
from seg.losses.reduction import Reduction, reduce_losses
from seg.losses.targets import (
    BinaryTarget,
    Logits,
    binary_inputs,
    is_ignored,
    per_channel,
    takes_one_sample,
)
from seg.losses.tracing import beside


@takes_one_sample
def binary_cross_entropy(
    logits: Logits,
    target: BinaryTarget,
    pos_weight: float | ClassVector | None = None,
    ignore_index: int = IGNORE_INDEX,
    reduction: Reduction = "mean",
) -> Tensor:
    """Sigmoid cross-entropy: the mean of -w t log p - (1 - t) log(1 - p) over what counts.

    It equals ``F.binary_cross_entropy_with_logits(pos_weight=w)`` over the elements that are not
    ignored; `mean` divides by their number.

    Args:
        logits: One logit for each pixel (N, 1, *d), or C independent ones (N, C, *d).
        target: 0, 1, probabilities between, or `ignore_index`: like the logits, or (N, *d) if C
            is 1.
        pos_weight: Weight w of the foreground, one for all channels or one for each.
        ignore_index: Target value of the elements that never contribute.
        reduction: `mean`, `sum`, or `none` for the loss of each element, shaped as the target.

    Raises:
        ValueError: If the shapes do not pair, the classes seem to be last, or a label is not 0, 1
            or between.
    """
    losses, weights = _cross_entropies(logits, target, pos_weight, ignore_index)
    return reduce_losses(losses, weights, reduction)


@takes_one_sample
def binary_focal_loss(
    logits: Logits,
    target: BinaryTarget,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    ignore_index: int = IGNORE_INDEX,
    reduction: Reduction = "mean",
) -> Tensor:
    """Sigmoid focal loss: the mean of -α_t (1 - p_t)^γ log p_t over what counts.

    α_t is α for the foreground and 1 - α for the background. It equals
    ``torchvision.ops.sigmoid_focal_loss`` over the elements that are not ignored; `mean` divides by
    their number.

    Args:
        logits: One logit for each pixel (N, 1, *d), or C independent ones (N, C, *d).
        target: 0, 1, probabilities between, or `ignore_index`: like the logits, or (N, *d) if C
            is 1.
        alpha: Share α in [0, 1] of the foreground; None weighs both alike.
        gamma: Focusing exponent γ >= 0; the larger, the less an easy pixel counts.
        ignore_index: Target value of the elements that never contribute.
        reduction: `mean`, `sum`, or `none` for the loss of each element, shaped as the target.

    Raises:
        ValueError: If the shapes do not pair, the classes seem to be last, or a label is not 0, 1
            or between.

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, 2017, eq. 5.
    """
    losses, weights = _focal_losses(logits, target, alpha, gamma, ignore_index)
    return reduce_losses(losses, weights, reduction)


class BinaryLoss(SegmentationLoss):
    """A loss on one logit a pixel, which tells the foreground from the background."""

    @classmethod
    def channels(cls, num_classes: int) -> int:
        """One logit for each pixel, for the two classes [background, foreground]."""
        if num_classes != 2:
            raise ValueError(
                f"{cls.__name__} with {num_classes} classes: a binary loss needs two, "
                "[background, foreground]; use a softmax loss such as seg.losses.CrossEntropyLoss "
                "(masks with several labels a pixel are not served by the data module)."
            )
        return 1

    @property
    def adds_up(self) -> bool:
        """As in `SegmentationLoss`."""
        return type(self) in (BinaryCrossEntropyLoss, BinaryFocalLoss)

    def divisor(self, target: Tensor, channels: int) -> Tensor | None:
        """The number of elements that count."""
        return widened((~is_ignored(target, self.ignore_index)).sum())


class BinaryCrossEntropyLoss(BinaryLoss):
    """Sigmoid cross-entropy: for one foreground class; with `pos_weight`, for a rare one.

    Args:
        pos_weight: Weight of the foreground relative to the background, or the policy that derives
            it from the training set: inverse_frequency, sqrt_inverse_frequency, median_frequency,
            log_frequency or effective_number, whose β may follow as in effective_number(0.9999).
        ignore_index: Target value of the pixels that never contribute.
        reduction: `mean` over the pixels that count, their `sum`, or `none`.
    """

    pos_weight: Tensor | None

    def __init__(
        self,
        pos_weight: float | ClassValues | str | None = None,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(ignore_index, reduction)
        self.add_weights("pos_weight", pos_weight, one_for_all=True)

    def weights_from(self, weights: Tensor) -> Tensor:
        """The weight of the foreground over that of the background, (1,)."""
        if not weights.all():
            raise ValueError(
                f"pos_weight={self.policies['pos_weight']!r} needs pixels of the background and of "
                f"the foreground, of which one has none; give pos_weight as a number."
            )
        return weights[1:] / weights[:1]

    def element_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of every element and whether it counts, in the shape of the target."""
        return _cross_entropies(logits, target, self.pos_weight, self.ignore_index)


class BinaryFocalLoss(BinaryLoss):
    """Sigmoid focal loss: for one rare foreground class among much easy background.

    Args:
        gamma: Focusing exponent, 0 or more: 0 is cross-entropy, 2 the usual choice.
        alpha: Share in [0, 1] of the foreground, 1 - alpha being that of the background; null
            weighs both alike.
        ignore_index: Target value of the pixels that never contribute.
        reduction: `mean` over the pixels that count, their `sum`, or `none`.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | None = 0.25,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(ignore_index, reduction)
        self.gamma = check_gamma(gamma)
        self.alpha = _check_alpha(alpha)

    def element_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Focal loss of every element and whether it counts, in the shape of the target."""
        return _focal_losses(logits, target, self.alpha, self.gamma, self.ignore_index)


def _check_alpha(alpha: float | None) -> float | None:
    """The share as a float."""
    share = None if alpha is None else number("alpha", alpha)
    if share is not None and not 0 <= share <= 1:
        raise ValueError(f"alpha={share}: expected a share in [0, 1], or None for no weighting.")
    return share


def _cross_entropies(
    logits: Tensor, target: Tensor, pos_weight: float | ClassVector | None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    shape, soft = target.shape, target.is_floating_point()
    logits, labels, ignored = binary_inputs(logits, target, ignore_index)
    weight = _foreground_weight(logits, pos_weight)
    if soft:
        # two log-sigmoids, as softplus(z) - t z cancels on confident pixels
        losses = -weight * labels * F.logsigmoid(logits) - (1 - labels) * F.logsigmoid(-logits)
    else:
        losses = -F.logsigmoid(_margin(logits, labels))
        losses = losses if pos_weight is None else losses * (1 + (weight - 1) * labels)
    return losses.masked_fill(ignored, 0).reshape(shape), ~ignored.reshape(shape)


def _focal_losses(
    logits: Tensor, target: Tensor, alpha: float | None, gamma: float, ignore_index: int
) -> tuple[Tensor, Tensor]:
    gamma, alpha = check_gamma(gamma), _check_alpha(alpha)
    shape, soft = target.shape, target.is_floating_point()
    logits, labels, ignored = binary_inputs(logits, target, ignore_index)
    if soft:
        miss = labels * torch.sigmoid(-logits) + (1 - labels) * torch.sigmoid(logits)  # 1 - p_t
        nll = -labels * F.logsigmoid(logits) - (1 - labels) * F.logsigmoid(-logits)
    else:
        margin = _margin(logits, labels)
        miss, nll = torch.sigmoid(-margin), -F.logsigmoid(margin)
    losses = power(miss, gamma) * nll
    if alpha is not None:
        losses = losses * (1 - alpha + (2 * alpha - 1) * labels)
    return losses.masked_fill(ignored, 0).reshape(shape), ~ignored.reshape(shape)


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The logit z of the foreground and -z of the background, for labels 1 and 0."""
    return logits * (2 * labels - 1)


def _foreground_weight(logits: Tensor, pos_weight: float | ClassVector | None) -> Tensor | float:
    """1 or the weight, ready to broadcast over the logits."""
    if pos_weight is None:
        return 1.0
    if isinstance(pos_weight, Tensor) and pos_weight.numel() == 1:
        return beside(pos_weight, logits).to(logits.dtype)  # one for all channels
    if is_number(pos_weight):
        return number("pos_weight", pos_weight)
    return per_channel(class_vector("pos_weight", pos_weight, logits), logits)
