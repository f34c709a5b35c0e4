"""Cross-entropy of logits that are shifted by the classes' log priors."""

import math

import torch
from torch import Tensor

from seg.constants import IGNORE_INDEX
from seg.losses.arguments import ClassValues, ClassVector, class_values, class_vector, number
from seg.losses.base import SegmentationLoss
from seg.losses.checks import check_softmax_pair
from seg.losses.class_weights import log_priors
from seg.losses.cross_entropy import CrossEntropyLoss, cross_entropy
from seg.losses.reduction import Reduction
from seg.losses.targets import Logits, Target, takes_one_sample
from seg.losses.tracing import unreadable
from seg.losses.waiting_weights import GivenCounts


@takes_one_sample
def logit_adjusted_cross_entropy(
    logits: Logits,
    target: Target,
    log_prior: ClassVector,
    tau: float = 1.0,
    ignore_index: int = IGNORE_INDEX,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy of z + τ log π: the mean of -log softmax(z + τ log π)_t over what counts.

    A rare class must make up for its log π with its own logit, so that z tends to the scores under
    equal priors. Predict with z as it is: with log π added the adjustment would be undone.

    Args:
        logits: Unnormalised scores z, classes at dim 1.
        target: Class ids in [0, C) of any integer dtype, or class probabilities; in both,
            `ignore_index` marks what to ignore.
        log_prior: log π, the logarithm of each class's share of the training pixels.
        tau: τ >= 0: 0 is plain cross-entropy, 1 makes for the least mean error over the classes.
        ignore_index: Target value of the pixels that never contribute.
        reduction: `mean`, `sum`, or `none` for the loss of each pixel (N, *d).

    Raises:
        ValueError: If the shapes do not pair, the classes seem to be last, a label is no class, or
            τ is negative.

    Reference:
        Menon et al., Long-tail Learning via Logit Adjustment, 2021, eq. 10.
    """
    adjusted = _adjust(logits, target, log_prior, tau)
    return cross_entropy(adjusted, target, ignore_index=ignore_index, reduction=reduction)


class LogitAdjustedCrossEntropyLoss(SegmentationLoss):
    """Logit-adjusted cross-entropy: for a long tail of classes that all count the same.

    Predictions are the largest raw logit, as with any other loss.

    Args:
        tau: How much of the log priors is added to the logits in training: 0 is cross-entropy,
            1 makes for the least mean error over the classes.
        priors: Each class's share of the training pixels, up to a common factor; left out, they
            are counted in the training set.
        ignore_index: Target value of the pixels that never contribute.
        reduction: `mean` over the pixels that count, their `sum`, or `none`.
    """

    log_prior: Tensor

    def __init__(
        self,
        tau: float = 1.0,
        priors: ClassValues | None = None,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(ignore_index, reduction)
        self.tau = _check_tau(tau)
        self.cross_entropy = CrossEntropyLoss(ignore_index=ignore_index, reduction=reduction)
        if priors is None:
            self.add_derived("log_prior", "training pixels")
        else:
            self.add_class_vector("log_prior", _logarithms(priors))

    def derive(self, name: str, counts: GivenCounts) -> Tensor:
        """The log priors (C,), from the training pixels of each class."""
        return log_priors(counts.pixels, counts.class_names)

    def element_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of every pixel of raw logits and whether it counts, both (N, *d)."""
        return self.cross_entropy.element_losses(self._adjusted(logits, target), target)

    @property
    def adds_up(self) -> bool:
        """As in `SegmentationLoss`."""
        return type(self) is LogitAdjustedCrossEntropyLoss

    def reduced(
        self, logits: Tensor, target: Tensor, reduction: Reduction
    ) -> tuple[Tensor, Tensor]:
        """As in `SegmentationLoss`, of raw logits."""
        return self.cross_entropy.reduced(self._adjusted(logits, target), target, reduction)

    def divisor(self, target: Tensor, channels: int) -> Tensor | None:
        """The number of pixels that count, of ids; None of probabilities."""
        return self.cross_entropy.divisor(target, channels)

    def share(self, logits: Tensor, target: Tensor, divisor: Tensor) -> Tensor:
        """As in `SegmentationLoss`, of raw logits."""
        self._require_weights()
        return self.cross_entropy.share(self._adjusted(logits, target), target, divisor)

    def _adjusted(self, logits: Tensor, target: Tensor) -> Tensor:
        return _adjust(logits, target, self.log_prior, self.tau)


def _adjust(logits: Tensor, target: Tensor, log_prior: ClassVector, tau: float) -> Tensor:
    """The logits plus τ log π, in fp32 at least, as they lie in memory."""
    tau = _check_tau(tau)
    check_softmax_pair(logits, target)
    prior = class_vector("log_prior", log_prior, logits)
    shift = tau * prior.to(torch.promote_types(logits.dtype, torch.float32))
    return logits + shift.view(-1, *(1 for _ in logits.shape[2:]))


def _check_tau(tau: float) -> float:
    """τ as a float."""
    factor = number("tau", tau)
    if not 0 <= factor < math.inf:
        raise ValueError(f"tau={factor}: expected a finite number >= 0, such as 1.")
    return factor


def _logarithms(priors: ClassValues) -> Tensor:
    """Log priors (C,), fp32, of shares that add up to 1."""
    shares = class_values("priors", priors).double()
    for prior in [] if unreadable(shares) else shares.tolist():
        if not 0 < prior < math.inf:
            raise ValueError(
                f"priors={shares.tolist()}: {prior:g} has no finite logarithm; give positive "
                "numbers, a small one to a class without a training pixel."
            )
    return (shares / shares.sum()).log().float()
