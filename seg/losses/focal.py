"""Softmax focal loss: cross-entropy that fades out on the pixels that are already easy."""

from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from seg.constants import IGNORE_INDEX
from seg.losses.arguments import (
    ClassValues,
    ClassVector,
    class_values,
    class_vector,
    is_number,
    number,
)
from seg.losses.base import SegmentationLoss
from seg.losses.checks import check_softmax_pair
from seg.losses.cross_entropy import check_smoothing
from seg.losses.kernels.choice import kernels_for
from seg.losses.kernels.focal import Gamma
from seg.losses.kernels.id_rows import divisor_of_ids
from seg.losses.kernels.nll import pixel_nll
from seg.losses.reduction import Reduction, check_reduction, reduce_losses, sum_of_weights
from seg.losses.targets import (
    Logits,
    Target,
    one_hot,
    per_channel,
    softmax_inputs,
    takes_one_sample,
)
from seg.losses.tracing import unreadable


@takes_one_sample
def focal_loss(
    logits: Logits,
    target: Target,
    alpha: ClassVector | None = None,
    gamma: float | Float[Tensor, ""] | ClassVector = 2.0,
    ignore_index: int = IGNORE_INDEX,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Softmax focal loss: the mean of -α_t (1 - p_t)^γ log p_t over the pixels that count.

    With γ = 0 it is ``F.cross_entropy(weight=alpha, label_smoothing=...)``; `mean` divides by
    Σ α_t, as that does. Class probabilities q give -Σ_c q_c α_c (1 - p_c)^γ_c log p_c, over
    Σ q_c α_c; label smoothing ε makes q of an id: 1 - ε + ε/C for its class, ε/C for the others.

    Args:
        logits: Unnormalised scores, classes at dim 1.
        target: Class ids in [0, C) of any integer dtype, or class probabilities; in both,
            `ignore_index` marks what to ignore.
        alpha: One non-negative weight for each class, as a tensor, array or list.
        gamma: Focusing exponent γ >= 0, one for all classes or one for each; the larger, the less
            an easy pixel counts.
        ignore_index: Target value of the pixels that never contribute.
        label_smoothing: Share ε in [0, 1] of the target that is spread evenly over the classes.
        reduction: `mean`, `sum`, or `none` for the loss of each pixel (N, *d).

    Raises:
        ValueError: If the shapes do not pair, the classes seem to be last, or a label is no class.

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, 2017, eq. 5.
    """
    check_reduction(reduction)
    smoothing = check_smoothing(label_smoothing)
    options = _checked(logits, target, alpha, gamma, ignore_index, smoothing)
    return _reduced(logits, target, reduction, options)[0]


class FocalLoss(SegmentationLoss):
    """Softmax focal loss: for many easy pixels beside few hard ones of rare classes.

    Args:
        gamma: Focusing exponent, 0 or more: 0 is cross-entropy, 2 the usual choice; one for all
            classes or one for each.
        alpha: One weight for each class, or the policy that derives them from the training set:
            inverse_frequency, sqrt_inverse_frequency, median_frequency, log_frequency or
            effective_number, whose β may follow as in effective_number(0.9999).
        ignore_index: Target value of the pixels that never contribute.
        label_smoothing: Share in [0, 1] of the target that is spread evenly over the classes.
        reduction: `mean` over the pixels that count, their `sum`, or `none`.
    """

    alpha: Tensor | None

    def __init__(
        self,
        gamma: float | ClassValues = 2.0,
        alpha: ClassValues | str | None = None,
        ignore_index: int = IGNORE_INDEX,
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(ignore_index, reduction)
        self.label_smoothing = check_smoothing(label_smoothing)
        self.add_weights("alpha", alpha)
        self.gamma: Gamma
        if is_number(gamma):
            self.gamma = check_gamma(gamma)
        else:
            exponents = class_values("gamma", gamma)
            for exponent in () if unreadable(exponents) else exponents.tolist():
                check_gamma(exponent)
            self.add_class_vector("gamma", exponents)

    def element_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Focal loss of every pixel and its α, both (N, *d)."""
        return _element_losses(logits, target, self._options(logits, target))

    @property
    def adds_up(self) -> bool:
        """As in `SegmentationLoss`."""
        return type(self) is FocalLoss

    def reduced(
        self, logits: Tensor, target: Tensor, reduction: Reduction
    ) -> tuple[Tensor, Tensor]:
        """As in `SegmentationLoss`, in one sweep where that serves."""
        return _reduced(logits, target, reduction, self._options(logits, target))

    def divisor(self, target: Tensor, channels: int) -> Tensor | None:
        """Σ α_t of ids; None of probabilities."""
        return divisor_of_ids(target, self.alpha, channels, self.ignore_index)

    def share(self, logits: Tensor, target: Tensor, divisor: Tensor) -> Tensor:
        """As in `SegmentationLoss`, in one sweep where that serves."""
        self._require_weights()
        kernels = kernels_for(logits, target, self.alpha, self.gamma)
        if self.label_smoothing or kernels is None:
            return super().share(logits, target, divisor)
        options = self._options(logits, target)
        plain = partial(_plain_sum, target, options)
        return kernels.focal_share(logits, target, *options[:3], plain, divisor)

    def _options(self, logits: Tensor, target: Tensor) -> "_Options":
        given = self.alpha, self.gamma, self.ignore_index, self.label_smoothing
        return _checked(logits, target, *given)


def check_gamma(gamma: Any) -> float:
    """The exponent as a float; refuses one that would make the easy pixels count more."""
    exponent = number("gamma", gamma)
    if not 0 <= exponent < float("inf"):
        raise ValueError(f"gamma={exponent}: expected a finite number >= 0, such as 2.")
    return exponent


def power(miss: Tensor, gamma: Gamma) -> Tensor:
    """(1 - p)^γ from the miss 1 - p, with a finite gradient at 0 for every γ >= 0.

    For γ < 1 the derivative is infinite at 0. The smallest normal number stands in for 0: it keeps
    the derivative finite, and the factors that follow, a loss and a dp/dz of 0, take it to 0.
    """
    return miss.clamp_min(torch.finfo(miss.dtype).tiny).pow(gamma)


class _Options(NamedTuple):
    alpha: Tensor | None
    gamma: Gamma
    ignore_index: int
    smoothing: float


def _reduced(
    logits: Tensor, target: Tensor, reduction: Reduction, options: _Options
) -> tuple[Tensor, Tensor]:
    """The loss and the divisor of its mean."""
    alpha, gamma, _, smoothing = options
    kernels = kernels_for(logits, target, alpha, gamma)
    if kernels and reduction != "none" and smoothing == 0:
        plain = partial(_plain_sum, target, options)
        return kernels.focal_terms(logits, target, *options[:3], plain, reduction == "mean")
    losses, weights = _element_losses(logits, target, options)
    return reduce_losses(losses, weights, reduction), sum_of_weights(weights, losses)


def _plain_sum(target: Tensor, options: _Options, logits: Tensor) -> Tensor:
    return _element_losses(logits, target, options)[0].sum()


def _checked(
    logits: Tensor,
    target: Tensor,
    alpha: ClassVector | None,
    gamma: float | ClassVector,
    ignore_index: int,
    smoothing: float,
) -> _Options:
    """The options as numbers, and as vectors (C,) beside the logits."""
    check_softmax_pair(logits, target, "BinaryFocalLoss")
    weights = None if alpha is None else class_vector("alpha", alpha, logits)
    if isinstance(gamma, Tensor) and gamma.ndim == 0:
        gamma = gamma.expand(logits.shape[1])  # so that nobody waits for its value
    exponent = check_gamma(gamma) if is_number(gamma) else class_vector("gamma", gamma, logits)
    return _Options(weights, exponent, ignore_index, smoothing)


def _element_losses(logits: Tensor, target: Tensor, options: _Options) -> tuple[Tensor, Tensor]:
    alpha, gamma, ignore_index, smoothing = options
    dtype = torch.promote_types(logits.dtype, torch.float32)
    alpha = None if alpha is None else alpha.to(dtype)
    gamma = gamma.to(dtype) if isinstance(gamma, Tensor) else gamma
    if target.is_floating_point() or smoothing:
        return _soft(logits, target, alpha, gamma, ignore_index, smoothing)
    pixels = pixel_nll(logits, target, ignore_index)
    exponent = pixels.of(gamma) if isinstance(gamma, Tensor) else gamma
    losses = power(1 - torch.exp(-pixels.nll), exponent) * pixels.nll
    if alpha is None:
        return losses, pixels.counts
    weights = pixels.of(alpha)
    return weights * losses, weights


def _soft(
    logits: Tensor,
    target: Tensor,
    alpha: Tensor | None,
    gamma: Gamma,
    ignore_index: int,
    smoothing: float,
) -> tuple[Tensor, Tensor]:
    """Losses and weights for class probabilities: the expectation over the classes."""
    logits, target, ignored = softmax_inputs(logits, target, ignore_index)
    nll = -F.log_softmax(logits, 1)
    if not target.is_floating_point():
        target = one_hot(target, logits)
    weighted = target if alpha is None else target * per_channel(alpha, logits)
    weights = ~ignored if alpha is None else weighted.sum(1).view(ignored.shape)
    if smoothing:
        target = target * (1 - smoothing) + smoothing / logits.shape[1]
        weighted = target if alpha is None else target * per_channel(alpha, logits)
    exponent = per_channel(gamma, logits) if isinstance(gamma, Tensor) else gamma
    losses = (weighted * power(-torch.expm1(-nll), exponent) * nll).sum(1).view(ignored.shape)
    return losses.masked_fill(ignored, 0), weights.masked_fill(ignored, 0)
