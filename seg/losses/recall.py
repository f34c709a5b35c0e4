"""Cross-entropy that weighs each class by the share of its pixels that the network misses."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from seg.constants import IGNORE_INDEX
from seg.exact_sums import counts_by_row
from seg.losses.arguments import ClassVector, check_class_vector, class_vector, number
from seg.losses.base import SegmentationLoss
from seg.losses.checks import check_softmax_pair
from seg.losses.cross_entropy import cross_entropy, cross_entropy_share
from seg.losses.kernels.choice import kernels_for
from seg.losses.kernels.id_rows import divisor_of_ids
from seg.losses.reduction import Reduction, sum_of_weights
from seg.losses.targets import Logits, Target, batched, takes_one_sample, unbatched
from seg.losses.tracing import beside, transformed, without_values

FLOOR = 0.01
"""Least weight of a class, so that one of which every pixel is found is not forgotten."""


@takes_one_sample
def recall_loss(
    logits: Logits,
    target: Target,
    false_negative_rate: ClassVector,
    ignore_index: int = IGNORE_INDEX,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy whose weight of class c is FN_c / (FN_c + TP_c), one minus its recall.

    It is `cross_entropy` with these weights, none below 0.01; as there, `mean` divides by their
    sum over the pixels, where the authors' code divides by the number of pixels.

    Args:
        logits: Unnormalised scores, classes at dim 1.
        target: Class ids in [0, C) of any integer dtype, or class probabilities; in both,
            `ignore_index` marks what to ignore.
        false_negative_rate: Share in [0, 1] of each class's pixels that are taken for another.
        ignore_index: Target value of the pixels that never contribute.
        reduction: `mean`, `sum`, or `none` for the loss of each pixel (N, *d).

    Raises:
        ValueError: If the shapes do not pair, the classes seem to be last, or a label is no class.

    Reference:
        Tian et al., Recall Loss for Imbalanced Image Classification and Semantic Segmentation,
        2021.
    """
    check_softmax_pair(logits, target)
    rate = class_vector("false_negative_rate", false_negative_rate, logits)
    weight = rate.clamp_min(FLOOR)
    return cross_entropy(logits, target, weight, ignore_index, reduction=reduction)


class RecallLoss(SegmentationLoss):
    """Recall loss: the more often a class is missed, the more its pixels count.

    The loss keeps two running counts for each class: its pixels, and those of them that the
    network took for another class. A training step updates them after the loss was computed. A
    class that no batch has shown yet has rate 1. The counts are in the state_dict. If the target
    holds probabilities, the most likely class is counted.

    Args:
        momentum: Share in [0, 1] of a class's counts that is kept at each batch that shows it: 0
            looks at the last such batch alone, 1 at all of them since the start alike.
        ignore_index: Target value of the pixels that never contribute.
        reduction: `mean` over the pixels that count, their `sum`, or `none`.
    """

    counts: Tensor | None

    def __init__(
        self,
        momentum: float = 0.99,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(ignore_index, reduction)
        self.momentum = number("momentum", momentum)
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum={self.momentum}: expected a share in [0, 1], such as 0.99.")
        self.register_buffer("counts", None)

    def bind(self, num_classes: int) -> None:
        """Makes room for the counts (2, C) of hits and misses, which start at 0."""
        super().bind(num_classes)
        if self.counts is None:
            self.register_buffer("counts", torch.zeros(2, num_classes))
        else:
            check_class_vector("counts", self.counts[0], num_classes)

    def element_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted loss of every pixel and its weight, both (N, *d)."""
        return self._weighed(logits, target, "none")

    @property
    def adds_up(self) -> bool:
        """As in `SegmentationLoss`."""
        return type(self) is RecallLoss

    def reduced(
        self, logits: Tensor, target: Tensor, reduction: Reduction
    ) -> tuple[Tensor, Tensor]:
        """As in `SegmentationLoss`."""
        loss, weights = self._weighed(logits, target, reduction)
        return loss, sum_of_weights(weights, loss)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of logits (N, C, *d); in training their pixels are counted then."""
        if logits.ndim == 1:
            return unbatched(self(*batched(logits, target)))
        loss = super().forward(logits, target)
        if self.training:
            self.adapt(self.observed(logits, target))
        return loss

    @property
    def filled_later(self) -> list[str]:
        """The counts, too."""
        return [*super().filled_later, "counts"]

    def divisor(self, target: Tensor, channels: int) -> Tensor | None:
        """Σ of the weights of ids, by what was counted before; None of probabilities."""
        return divisor_of_ids(target, self._weight(channels, target), channels, self.ignore_index)

    def share(self, logits: Tensor, target: Tensor, divisor: Tensor) -> Tensor:
        """As in `SegmentationLoss`, in one sweep where that serves."""
        kernels = kernels_for(logits, target)
        if kernels is None:
            return super().share(logits, target, divisor)
        options = self._weight(logits.shape[1], logits), self.ignore_index, divisor
        return cross_entropy_share(kernels, logits, target, *options)

    def observed(self, logits: Tensor, target: Tensor) -> Tensor:
        """Hits and misses of every class, (2 C,)."""
        classes, ignored = _labels(target, self.ignore_index)
        return _hits_and_misses(logits, classes, ignored).flatten()

    @torch.no_grad()
    def adapt(self, observed: Tensor) -> None:
        """Take in hits and misses (2 C,) of a batch."""
        batch = observed.view(2, -1)
        if self.counts is None:
            self.register_buffer("counts", _no_counts(batch))
        assert self.counts is not None
        if without_values(batch) and not without_values(self.counts):
            return  # a shape has no pixels
        if transformed():
            _count(self.counts, batch, self.momentum)
        else:
            _add(self.counts, batch, self.momentum)

    def _weight(self, channels: int, like: Tensor) -> Tensor:
        """Weight of every class (C,), on the device of `like`."""
        if self.counts is None:
            return torch.ones(channels, device=like.device)
        return false_negative_rate(beside(self.counts, like)).clamp_min(FLOOR)

    def _weighed(
        self, logits: Tensor, target: Tensor, reduction: Reduction
    ) -> tuple[Tensor, Tensor]:
        """The loss under a reduction, and the weight of every pixel (N, *d)."""
        weight = self._weight(logits.shape[1], logits)
        loss = cross_entropy(logits, target, weight, self.ignore_index, reduction=reduction)
        classes, ignored = _labels(target, self.ignore_index)
        weight = weight.to(loss.dtype)
        if target.is_floating_point():
            weights = (target * weight.view(-1, *(1 for _ in target.shape[2:]))).sum(1)
        else:
            weights = weight[classes]
        return loss, weights.masked_fill(ignored, 0)


def false_negative_rate(counts: Tensor) -> Tensor:
    """Share of each class's pixels that the network misses, (C,); 1 where it saw none.

    Args:
        counts: Hits and misses of each class, (2, C).
    """
    hits, misses = counts.float()
    return torch.where(hits + misses > 0, misses / (hits + misses).clamp_min(1), 1)


def _labels(target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Class ids (N, *d), int64 and 0 where ignored, and where that is."""
    if target.is_floating_point():
        ignored = (target == ignore_index).any(1)
        target = target.argmax(1)
    else:
        target = target.long()
        ignored = target == ignore_index
    return target.masked_fill(ignored, 0), ignored


def _no_counts(like: Tensor) -> Tensor:
    """Zeros (2, C), which outlive a transform of torch.func that this may be called in."""
    if transformed():  # what torch makes there is the transform's, and ends with it
        return from_dlpack(np.zeros(like.shape, np.float32))
    return torch.zeros_like(like, dtype=torch.float32)


def _add(counts: Tensor, batch: Tensor, momentum: float) -> None:
    """Take hits and misses (2, C) of a batch into the running ones."""
    batch = batch.to(counts.device)
    counts.mul_(torch.where(batch.sum(0) > 0, momentum, 1.0)).add_(batch)


# As an operator it may write into a buffer under a transform of torch.func.
_count = torch.library.custom_op("seg::count", _add, mutates_args=("counts",))


@_count.register_fake
def _count_nothing(counts: Tensor, batch: Tensor, momentum: float) -> None:
    return None


def _hits_and_misses(logits: Tensor, classes: Tensor, ignored: Tensor) -> Tensor:
    """How many pixels of each class have its logit as their largest, and how many not, (2, C).

    A tie is a hit, so that the order of the classes does not matter.
    """
    if transformed():
        counts: Tensor = _hits_and_misses_of_all(logits.detach(), classes, ignored)
        return counts
    return _sums_of_hits_and_misses(logits.detach(), classes, ignored)


def _sums_of_hits_and_misses(logits: Tensor, classes: Tensor, ignored: Tensor) -> Tensor:
    channels = logits.shape[1]
    own = logits.gather(1, classes.unsqueeze(1)).squeeze(1)
    missed = own < logits.amax(1)  # on a CPU an eighth of the time of argmax
    slot = (classes + channels * missed).masked_fill(ignored, 2 * channels).flatten()
    counts = counts_by_row(slot, 2 * channels + 1)
    return counts[:-1].view(2, channels).clone()  # without the slot of what is ignored


# An operator, so that the samples of a vmap are one batch, whose sums they share.
_hits_and_misses_of_all = torch.library.custom_op(
    "seg::hits_and_misses", _sums_of_hits_and_misses, mutates_args=()
)


@_hits_and_misses_of_all.register_fake
def _hits_and_misses_shape(logits: Tensor, classes: Tensor, ignored: Tensor) -> Tensor:
    return classes.new_empty(2, logits.shape[1], dtype=torch.int64)


@_hits_and_misses_of_all.register_vmap
def _hits_and_misses_of_samples(info: Any, in_dims: Any, *tensors: Tensor) -> tuple[Tensor, None]:
    batches = [
        x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
        for x, dim in zip(tensors, in_dims, strict=True)
    ]
    sums: Tensor = _hits_and_misses_of_all(*(x.flatten(0, 1) for x in batches))
    return sums, None
