"""Online hard example mining: cross-entropy of the pixels that the network gets most wrong."""

from fractions import Fraction

import torch
from torch import Tensor

from seg.constants import IGNORE_INDEX
from seg.distributed.ranks import ALONE, Ranks
from seg.losses.arguments import ClassValues, ClassVector, number
from seg.losses.batch_sums import mean_share
from seg.losses.cross_entropy import CrossEntropyLoss, cross_entropy
from seg.losses.kernels.ranking import among_hardest
from seg.losses.reduction import Reduction
from seg.losses.targets import Logits, Target, takes_one_sample


@takes_one_sample
def ohem_cross_entropy(
    logits: Logits,
    target: Target,
    fraction: float = 0.25,
    weight: ClassVector | None = None,
    ignore_index: int = IGNORE_INDEX,
    reduction: Reduction = "mean",
) -> Tensor:
    """Mean cross-entropy of the hardest ⌈fraction · V⌉ of the V valid pixels of the batch.

    They are ranked by -w_t log p_t, equal ones by position. The loss is `cross_entropy` with all
    others ignored, so that `mean` divides by the Σ w_t of those that are kept.

    Args:
        logits: Unnormalised scores, classes at dim 1.
        target: Class ids in [0, C) of any integer dtype, or class probabilities; in both,
            `ignore_index` marks what to ignore.
        fraction: Share in (0, 1] of the valid pixels to keep; ignored ones do not count in it.
        weight: One non-negative weight for each class, as a tensor, array or list.
        ignore_index: Target value of the pixels that never contribute.
        reduction: `mean`, `sum`, or `none` for the loss of each pixel (N, *d), 0 where not kept.

    Raises:
        ValueError: If the fraction is no share, the shapes do not pair, the classes seem to be
            last, or a label is no class.

    Reference:
        Shrivastava et al., Training Region-based Object Detectors with Online Hard Example Mining,
        2016, section 4; here with pixels for regions.
    """
    target = _hardest(logits, target, fraction, weight, ignore_index)
    return cross_entropy(logits, target, weight, ignore_index, reduction=reduction)


class OhemCrossEntropyLoss(CrossEntropyLoss):
    """Cross-entropy of the hardest pixels only: for many easy pixels that can be left out.

    A training step ranks the pixels of all its devices and micro-batches together; in evaluation
    each batch keeps its own hardest share.

    Args:
        fraction: Share in (0, 1] of the valid pixels of a batch to keep.
        weight: One weight for each class, or the policy that derives them from the training
            set, as for CrossEntropyLoss; pixels are ranked by their weighted loss.
        ignore_index: Target value of the pixels that never contribute.
        reduction: `mean` over the pixels that are kept, their `sum`, or `none`.
    """

    by_class = False  # what is kept is decided over all devices

    def __init__(
        self,
        fraction: float = 0.25,
        weight: ClassValues | str | None = None,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(weight, ignore_index, reduction=reduction)
        self.fraction = _check_fraction(fraction)

    def element_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted cross-entropy of every pixel and its weight, (N, *d), 0 where not kept."""
        return super().element_losses(logits, self._hardest(logits, target))

    def reduced(
        self, logits: Tensor, target: Tensor, reduction: Reduction
    ) -> tuple[Tensor, Tensor]:
        """As in `SegmentationLoss`, in one sweep over what is kept where that serves."""
        return super().reduced(logits, self._hardest(logits, target), reduction)

    def divisor(self, target: Tensor, channels: int) -> Tensor | None:
        """None: the losses decide what is kept."""
        return None

    def rank_share(self, logits: Tensor, target: Tensor, ranks: Ranks) -> Tensor:
        """As in `SegmentationLoss`, of the hardest pixels of all ranks."""
        self._require_weights()
        options = self.fraction, self.weight, self.ignore_index
        kept = _hardest(logits, target, *options, ranks)
        total, divisor = super().reduced(logits, kept, "sum")
        return total if self.reduction == "sum" else mean_share(total, divisor, ranks)

    def _hardest(self, logits: Tensor, target: Tensor) -> Tensor:
        return _hardest(logits, target, self.fraction, self.weight, self.ignore_index)


def _check_fraction(fraction: float) -> float:
    """The share as a float."""
    share = number("fraction", fraction)
    if not 0 < share <= 1:
        raise ValueError(
            f"fraction={share}: expected the share in (0, 1] of the pixels to keep, such as 0.25."
        )
    return share


@torch.no_grad()
def _hardest(
    logits: Tensor,
    target: Tensor,
    fraction: float,
    weight: ClassVector | None,
    ignore_index: int,
    ranks: Ranks = ALONE,
) -> Tensor:
    """The target with all but the hardest pixels ignored.

    Their number is rounded up exactly, without what floats add to a product such as 0.07 · 100, and
    stays on the device, so that nothing waits for it.
    """
    fraction = _check_fraction(fraction)
    if fraction == 1:
        return target
    losses = cross_entropy(logits, target, weight, ignore_index, reduction="none")
    if not target.is_floating_point():
        target = target.long()  # in which every ignore_index has room
    ignored = target == ignore_index
    if target.is_floating_point():
        ignored = ignored.any(1)  # (n, c, *d) -> (n, *d)
    share = Fraction(fraction).limit_denominator(10**6)
    valid = ranks.sum((~ignored).sum())
    number = -(valid * -share.numerator // share.denominator)
    number = torch.minimum(number.clamp(min=1), valid)
    rows, out = (x.unsqueeze(-1).flatten(1) for x in (losses, ignored))  # (n, p)
    kept = among_hardest(rows, out, number, ranks)
    easy = ~kept.view(losses.shape)
    return target.masked_fill(
        easy.unsqueeze(1) if target.is_floating_point() else easy, ignore_index
    )
