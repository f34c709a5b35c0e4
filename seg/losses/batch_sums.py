"""The sums of which a loss is made: how the loss of a batch comes from parts of it.

A mean over pixels is no mean of the means of parts that differ in valid pixels. Evaluation adds up
`terms` over batches, training gives every part its `share` of the whole, whatever the split over
micro-batches and ranks.
"""

import torch
from torch import Tensor

from seg.distributed.ranks import Ranks
from seg.exact_sums import sums_by_row, widest
from seg.losses.reduction import Reduction, mean_of, reduce_losses, sum_of_weights
from seg.losses.waiting_weights import WaitingWeights


class BatchSums(WaitingWeights):
    """What evaluation and training ask of a loss, for one that is a mean over its elements.

    All of it follows from `element_losses`. A loss that is no such mean overrides what differs,
    as `TverskyLoss`, which is made of overlaps, and `LovaszLoss`, which ranks all pixels.
    """

    reduction: Reduction

    by_class = True
    """Whether `class_losses` can tell what each class adds to the loss."""

    def element_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted loss of every element, 0 where ignored, and what it adds to the divisor."""
        raise NotImplementedError

    def reduced(
        self, logits: Tensor, target: Tensor, reduction: Reduction
    ) -> tuple[Tensor, Tensor]:
        """The loss under a reduction, and the divisor of its mean, a scalar."""
        losses, weights = self.element_losses(logits, target)
        return reduce_losses(losses, weights, reduction), sum_of_weights(weights, losses)

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """What of a part of a batch enters its loss, as sums (K,) that add up over the parts.

        For pixels these are the numerator and the divisor of the mean.
        """
        self._require_weights()
        return torch.stack(self.reduced(logits, target, "sum"))

    def value(self, terms: Tensor) -> Tensor:
        """The mean loss of what `terms` (K,) were added up over, a scalar."""
        return mean_of(terms[0], terms[1])

    @property
    def adds_up(self) -> bool:
        """Whether the `terms` of an image are the sum of those of its rows.

        Each class says so for itself alone, as a subclass may look at more than a pixel.
        """
        return False

    def num_terms(self, channels: int) -> int:
        """The length K of `terms` for logits of so many channels."""
        return 2

    def class_terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sums (K,) that add up over the parts of a batch, for `class_losses`.

        Of a loss over pixels: what the pixels of each true class add to the numerator of the mean,
        and its divisor. NaN where no class can be told, as of class probabilities.
        """
        self._require_weights()
        dtype = widest(logits.device)
        sums = logits.new_zeros(max(2, logits.shape[1]) + 1, dtype=dtype)
        if not self.by_class or target.is_floating_point():
            return sums.fill_(torch.nan)
        losses, weights = self.element_losses(logits, target)
        if losses.shape != target.shape:
            return sums.fill_(torch.nan)
        # the loss of ignored pixels is 0, whatever class they are counted with
        rows = target.long().clamp(0, len(sums) - 2).flatten()
        sums[:-1] = sums_by_row(losses.detach().flatten(), rows, len(sums) - 1)
        sums[-1] = weights.sum(dtype=dtype)
        return sums

    def class_losses(self, terms: Tensor) -> Tensor:
        """What each class adds to the loss, (C,), of what `class_terms` were added up over."""
        return terms[:-1] if self.reduction == "sum" else mean_of(terms[:-1], terms[-1])

    def divisor(self, target: Tensor, channels: int) -> Tensor | None:
        """The divisor of the mean, a scalar, where the target alone decides it; else None.

        Divisors add up over the parts of a batch. With that of the whole, `share` of each part can
        be differentiated as soon as its logits are there.

        Args:
            target: Class ids (N, *d) of a part of a batch.
            channels: Number of logits of a pixel.

        Raises:
            ValueError: If a label is no class.
        """
        return None

    def share(self, logits: Tensor, target: Tensor, divisor: Tensor) -> Tensor:
        """What a part of a batch adds to the mean over the whole, whose divisor is known.

        Args:
            logits: Scores (N, C, *d) of the part.
            target: Its class ids (N, *d), of which `divisor` was asked before.
            divisor: Of the whole batch, float64; 1 makes shares of the sum.
        """
        self._require_weights()
        total = self.reduced(logits, target, "sum")[0]
        return mean_of(total, divisor.to(total.dtype))

    def rank_share(self, logits: Tensor, target: Tensor, ranks: Ranks) -> Tensor:
        """What this rank adds to the loss of the batch of all ranks, whatever decides its divisor.

        The ranks' shares add up to the loss, their gradients to its gradient.

        Args:
            logits: Scores (N, C, *d) of this rank's part of the batch, all of it.
            target: Its class ids or probabilities.
            ranks: The ranks that share the batch, with N images each.
        """
        self._require_weights()
        total, divisor = self.reduced(logits, target, "sum")
        return total if self.reduction == "sum" else mean_share(total, divisor, ranks)

    def observed(self, logits: Tensor, target: Tensor) -> Tensor | None:
        """Sums (K,) by which the loss adapts itself after a step; None if it does not.

        They add up over the parts of a batch. Training calls `adapt` with those of the whole;
        `forward` does so by itself.
        """
        return None

    def adapt(self, observed: Tensor) -> None:
        """Take in the sums of a whole batch."""


def mean_share(total: Tensor, divisor: Tensor, ranks: Ranks) -> Tensor:
    """What this rank adds to the mean Σ total / Σ divisor over the ranks."""
    if not divisor.requires_grad:
        return mean_of(total, ranks.sum(divisor))
    # a divisor that is learnt has a gradient by the totals of all ranks
    return share_of(mean_of(ranks.sum(total), ranks.sum(divisor)), ranks)


def share_of(value: Tensor, ranks: Ranks) -> Tensor:
    """This rank's share of a value of sums over all ranks, which every rank has.

    The shares add up to the value. By its own part of the sums each has a part of the gradient.
    """
    return value - (1 - 1 / ranks.size) * value.detach()
