"""Softmax focal loss: cross-entropy that fades out on the pixels that are already easy."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from seg.constants import IGNORE_INDEX
from seg.losses.base import Reduction, SegmentationLoss, reduce_losses
from seg.losses.checks import check_class_vector
from seg.losses.targets import per_channel, softmax_inputs


def focal_loss(
    logits: Float[Tensor, "n c *d"],
    target: Integer[Tensor, "n *d"] | Float[Tensor, "n c *d"],
    alpha: Float[Tensor, " c"] | None = None,
    gamma: float = 2.0,
    ignore_index: int = IGNORE_INDEX,
    reduction: Reduction = "mean",
) -> Tensor:
    """Softmax focal loss: the mean of -α_t (1 - p_t)^γ log p_t over the pixels that count.

    With γ = 0 it is ``F.cross_entropy(logits, target, weight=alpha)``; `mean` divides by Σ α_t, as
    that does. Class probabilities q give -Σ_c q_c α_c (1 - p_c)^γ log p_c, over Σ q_c α_c.

    Args:
        logits: Unnormalised scores, classes at dim 1.
        target: Class ids in [0, C) of any integer dtype, or class probabilities; in both,
            `ignore_index` marks what to ignore.
        alpha: One non-negative weight a class.
        gamma: Focusing exponent γ >= 0; the larger, the less an easy pixel counts.
        ignore_index: Target value of the pixels that count nowhere.
        reduction: `mean`, `sum`, or `none` for one loss a pixel (N, *d).

    Raises:
        ValueError: If the shapes do not pair, the classes seem to be last, or a label is no class.

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, 2017, eq. 5.
    """
    losses, weights = _element_losses(logits, target, alpha, gamma, ignore_index)
    return reduce_losses(losses, weights, reduction)


class FocalLoss(SegmentationLoss):
    """Softmax focal loss: for a mass of easy pixels that drowns the hard ones of rare classes.

    Args:
        gamma: Focusing exponent, 0 or more: 0 is cross-entropy, 2 the usual choice.
        alpha: One weight a class, or the policy that derives them from the training set:
            inverse_frequency, median_frequency or effective_number.
        ignore_index: Target value of the pixels that count nowhere.
        reduction: `mean` over the pixels that count, their `sum`, or `none`.
    """

    alpha: Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: list[float] | str | None = None,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(ignore_index, reduction)
        check_gamma(gamma)
        self.gamma = gamma
        self.add_weights("alpha", alpha)

    def element_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Focal loss of every pixel and its α, both (N, *d)."""
        return _element_losses(logits, target, self.alpha, self.gamma, self.ignore_index)


def check_gamma(gamma: float) -> None:
    """Refuses an exponent that would make the easy pixels count more."""
    if not 0 <= gamma < float("inf"):
        raise ValueError(f"gamma={gamma}: expected a finite number >= 0, such as 2.")


def power(miss: Tensor, gamma: float) -> Tensor:
    """(1 - p)^γ from the miss 1 - p, with a finite gradient at 0 for every γ >= 0.

    For γ < 1 the derivative is infinite at 0. The smallest normal number stands in for 0: it keeps
    the derivative finite, and the factors that follow, a loss and a dp/dz of 0, take it to 0.
    """
    return miss.clamp_min(torch.finfo(miss.dtype).tiny).pow(gamma)


def _element_losses(
    logits: Tensor, target: Tensor, alpha: Tensor | None, gamma: float, ignore_index: int
) -> tuple[Tensor, Tensor]:
    check_gamma(gamma)
    logits, target, ignored = softmax_inputs(logits, target, ignore_index)
    if alpha is not None:
        check_class_vector("alpha", alpha, logits.shape[1])
        alpha = alpha.to(logits.dtype)
    if target.is_floating_point():
        losses, weights = _soft(logits, target, alpha, gamma)
    else:
        nll = F.cross_entropy(logits, target, reduction="none")  # -log p_t
        weights = None if alpha is None else alpha[target]
        losses = power(-torch.expm1(-nll), gamma) * (nll if weights is None else weights * nll)
    losses = losses.view(ignored.shape).masked_fill(ignored, 0)
    if weights is None:
        return losses, ~ignored
    return losses, weights.view(ignored.shape).masked_fill(ignored, 0)


def _soft(
    logits: Tensor, target: Tensor, alpha: Tensor | None, gamma: float
) -> tuple[Tensor, Tensor | None]:
    """Losses and weights for class probabilities: the expectation over the classes."""
    nll = -F.log_softmax(logits, 1)
    if alpha is not None:
        target = target * per_channel(alpha, logits)
    losses = (target * power(-torch.expm1(-nll), gamma) * nll).sum(1)
    return losses, None if alpha is None else target.sum(1)
