"""Cross-entropy over the classes of a pixel, as torch has it but safe with ignored pixels."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from seg.constants import IGNORE_INDEX
from seg.losses.arguments import ClassValues, ClassVector, class_vector, number
from seg.losses.base import SegmentationLoss
from seg.losses.checks import check_softmax_pair
from seg.losses.kernels.choice import ChunkKernels, kernels_for
from seg.losses.kernels.id_rows import divisor_of_ids
from seg.losses.kernels.nll import pixel_nll
from seg.losses.reduction import Reduction, check_reduction, reduce_losses, sum_of_weights
from seg.losses.targets import Logits, Target, per_channel, softmax_inputs, takes_one_sample


@takes_one_sample
def cross_entropy(
    logits: Logits,
    target: Target,
    weight: ClassVector | None = None,
    ignore_index: int = IGNORE_INDEX,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Softmax cross-entropy: the mean of -w_t log p_t over the pixels that count.

    It equals ``F.cross_entropy`` with three differences: with every pixel ignored it is 0 with a
    zero gradient instead of NaN; the logits of an ignored pixel may be inf or NaN; and `mean`
    divides by the weights that count, Σ w_t, for class probabilities q as well, there Σ q_c w_c, so
    that one-hot probabilities equal ids (torch divides by the number of pixels instead).

    Args:
        logits: Unnormalised scores, classes at dim 1.
        target: Class ids in [0, C) of any integer dtype, or class probabilities; in both,
            `ignore_index` marks what to ignore.
        weight: One non-negative weight for each class, as a tensor, array or list.
        ignore_index: Target value of the pixels that never contribute.
        label_smoothing: Share ε in [0, 1] of the target that is spread evenly over the classes.
        reduction: `mean`, `sum`, or `none` for the loss of each pixel (N, *d).

    Raises:
        ValueError: If the shapes do not pair, the classes seem to be last, or a label is no class.

    Reference:
        Szegedy et al., Rethinking the Inception Architecture, 2016, section 7 (label smoothing).
    """
    check_reduction(reduction)
    options = (weight, ignore_index, check_smoothing(label_smoothing))
    return _reduced(logits, target, reduction, *options)[0]


class CrossEntropyLoss(SegmentationLoss):
    """Cross-entropy: the baseline. With `weight`, pixels of rare classes count more.

    Args:
        weight: One weight for each class, or the policy that derives them from the training set:
            inverse_frequency, sqrt_inverse_frequency, median_frequency, log_frequency or
            effective_number, whose β may follow as in effective_number(0.9999).
        ignore_index: Target value of the pixels that never contribute.
        label_smoothing: Share in [0, 1] of the target that is spread evenly over the classes.
        reduction: `mean` over the pixels that count, their `sum`, or `none`.
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: ClassValues | str | None = None,
        ignore_index: int = IGNORE_INDEX,
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(ignore_index, reduction)
        self.label_smoothing = check_smoothing(label_smoothing)
        self.add_weights("weight", weight)

    def element_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted cross-entropy of every pixel and its weight, both (N, *d)."""
        return _element_losses(logits, target, *self._options)

    @property
    def adds_up(self) -> bool:
        """As in `SegmentationLoss`."""
        return type(self) is CrossEntropyLoss

    def reduced(
        self, logits: Tensor, target: Tensor, reduction: Reduction
    ) -> tuple[Tensor, Tensor]:
        """As in `SegmentationLoss`, in one sweep where that serves."""
        return _reduced(logits, target, reduction, *self._options)

    def divisor(self, target: Tensor, channels: int) -> Tensor | None:
        """Σ w_t of ids; None of probabilities."""
        return divisor_of_ids(target, self.weight, channels, self.ignore_index)

    def share(self, logits: Tensor, target: Tensor, divisor: Tensor) -> Tensor:
        """As in `SegmentationLoss`, in one sweep where that serves."""
        self._require_weights()
        kernels = kernels_for(logits, target, self.weight)
        if self.label_smoothing or kernels is None:
            return super().share(logits, target, divisor)
        options = self.weight, self.ignore_index, divisor
        return cross_entropy_share(kernels, logits, target, *options)

    @property
    def _options(self) -> tuple[Tensor | None, int, float]:
        return self.weight, self.ignore_index, self.label_smoothing


def check_smoothing(label_smoothing: float) -> float:
    """The share as a float; refuses what is none."""
    share = number("label_smoothing", label_smoothing)
    if not 0 <= share <= 1:
        raise ValueError(f"label_smoothing={share}: expected a share in [0, 1].")
    return share


def cross_entropy_share(
    kernels: ChunkKernels,
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    divisor: Tensor,
) -> Tensor:
    """The sum over the pixels of ids that were checked, over a divisor that is known."""
    check_softmax_pair(logits, target)
    weight = None if weight is None else class_vector("weight", weight, logits)
    plain = partial(_plain_sum, target, weight, ignore_index, 0.0)
    return kernels.focal_share(logits, target, weight, 0.0, ignore_index, plain, divisor)


def _reduced(
    logits: Tensor,
    target: Tensor,
    reduction: Reduction,
    weight: ClassVector | None,
    ignore_index: int,
    label_smoothing: float,
) -> tuple[Tensor, Tensor]:
    """The loss and the divisor of its mean."""
    check_softmax_pair(logits, target)
    weight = None if weight is None else class_vector("weight", weight, logits)
    options = (weight, ignore_index, label_smoothing)
    kernels = kernels_for(logits, target, weight)
    if kernels and reduction != "none" and label_smoothing == 0:
        plain = partial(_plain_sum, target, *options)
        focal = weight, 0.0, ignore_index
        return kernels.focal_terms(logits, target, *focal, plain, reduction == "mean")
    losses, weights = _element_losses(logits, target, *options)
    return reduce_losses(losses, weights, reduction), sum_of_weights(weights, losses)


def _plain_sum(
    target: Tensor, weight: Tensor | None, ignore_index: int, smoothing: float, logits: Tensor
) -> Tensor:
    return _element_losses(logits, target, weight, ignore_index, smoothing)[0].sum()


def _element_losses(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
) -> tuple[Tensor, Tensor]:
    check_softmax_pair(logits, target)
    if weight is not None:
        weight = class_vector("weight", weight, logits)
        weight = weight.to(torch.promote_types(logits.dtype, torch.float32))
    if not target.is_floating_point() and label_smoothing == 0:
        pixels = pixel_nll(logits, target, ignore_index)
        if weight is None:
            return pixels.nll, pixels.counts
        weights = pixels.of(weight)
        return weights * pixels.nll, weights
    logits, target, ignored = softmax_inputs(logits, target, ignore_index)
    losses = F.cross_entropy(
        logits, target, weight, reduction="none", label_smoothing=label_smoothing
    )
    losses = losses.view(ignored.shape).masked_fill(ignored, 0)
    if weight is None:
        return losses, ~ignored
    soft = target.is_floating_point()
    weights = (target * per_channel(weight, target)).sum(1) if soft else weight[target]
    return losses, weights.view(ignored.shape).masked_fill(ignored, 0)
