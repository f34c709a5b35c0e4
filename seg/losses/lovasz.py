"""Lovász-Softmax: the Jaccard index itself, made continuous, as a loss."""

from functools import partial

import torch
from torch import Tensor

from seg.constants import IGNORE_INDEX
from seg.distributed.ranks import Ranks
from seg.losses.base import SegmentationLoss
from seg.losses.kernels.choice import kernels_for
from seg.losses.kernels.lovasz import jaccard_slopes, pixel_slopes, softmax_planes
from seg.losses.kernels.ranking import hardest_first
from seg.losses.reduction import Reduction, mean_of, reduce_losses
from seg.losses.targets import Logits, Target, images_that_count, takes_one_sample


@takes_one_sample
def lovasz_softmax_loss(
    logits: Logits,
    target: Target,
    ignore_index: int = IGNORE_INDEX,
    per_image: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """Lovász-Softmax: the mean over the classes present of the Lovász extension of 1 - IoU.

    A class c has at each pixel the error e = |q_c - p_c|, with q_c = 1 on its own pixels and 0 on
    the others; its loss is Σ e · g, where g is by how much 1 - IoU grows when this pixel becomes
    wrong after all those of a larger error. For p_c of 0 or 1 that is 1 - IoU. A class that no
    valid pixel has is left out of the mean.

    Class probabilities q give the same with soft counts: wrong pixels W have 1 - IoU =
    1 - (Q - Σ_W q_c) / (Q + Σ_W (1 - q_c)), Q = Σ q_c. For one-hot q these are the counts of the
    ids, and every q_c > 0 makes the class c present.

    The gradient takes g as a constant, as it is between two changes of the order; equal errors are
    ordered by position. On a CPU the gradient is computed with the value, class by class.

    Args:
        logits: Unnormalised scores, classes at dim 1.
        target: Class ids in [0, C) of any integer dtype, or class probabilities; in both,
            `ignore_index` marks what to ignore.
        ignore_index: Target value of the pixels that never contribute.
        per_image: Whether each image has a loss of its own; otherwise the batch is one image.
        reduction: `mean` over the images that have a valid pixel, their `sum`, or `none` for one
            loss an image, (N,) or (1,) for the batch; 0 where everything is ignored.

    Raises:
        ValueError: If the shapes do not pair, the classes seem to be last, or a label is no class.

    Reference:
        Berman et al., The Lovász-Softmax Loss, 2018, eq. 8, 9 and 11, algorithm 1.
    """
    losses, weights = _element_losses(logits, target, ignore_index, per_image)
    return reduce_losses(losses, weights, reduction)


class LovaszLoss(SegmentationLoss):
    """Lovász-Softmax: where IoU is the score, rare classes count as much as frequent ones.

    Without `per_image` the whole batch counts as one image. A training step then sorts the
    pixels of all devices and micro-batches together, so the errors of all pixels are sent to
    every device. In evaluation each batch counts as one image, and the mean is taken.

    Args:
        per_image: Whether each image has a loss of its own; otherwise the batch is one image, which
            keeps a class that an image lacks from counting there.
        ignore_index: Target value of the pixels that never contribute.
        reduction: `mean` over the images with a valid pixel (the batch is one, unless `per_image`),
            their `sum`, or `none`.
    """

    by_class = False  # the classes' errors are ranked over all pixels of all devices

    def __init__(
        self,
        per_image: bool = False,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(ignore_index, reduction)
        self.per_image = per_image

    def element_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of every image and whether it counts, (N,), or (1,) for the batch as one."""
        return _element_losses(logits, target, self.ignore_index, self.per_image)

    def divisor(self, target: Tensor, channels: int) -> Tensor | None:
        """Per image the number of images that count; None of the batch as one."""
        return images_that_count(target, self.ignore_index) if self.per_image else None

    def rank_share(self, logits: Tensor, target: Tensor, ranks: Ranks) -> Tensor:
        """As in `SegmentationLoss`, with the batch of all ranks as one image."""
        if self.per_image or ranks.size == 1:
            return super().rank_share(logits, target, ranks)
        return _rank_share(logits, target, self.ignore_index, ranks)


def _element_losses(
    logits: Tensor, target: Tensor, ignore_index: int, per_image: bool
) -> tuple[Tensor, Tensor]:
    plain = partial(_by_autograd, target, ignore_index, per_image)
    kernels = kernels_for(logits, target, probabilities=True)
    if kernels is None:
        return plain(logits)
    return kernels.lovasz_losses(logits, target, ignore_index, per_image, plain)


def _by_autograd(
    target: Tensor, ignore_index: int, per_image: bool, logits: Tensor
) -> tuple[Tensor, Tensor]:
    """The losses and whether they count in plain operations on all classes at once."""
    p, target, ignored = softmax_planes(logits, target, ignore_index)
    if not target.is_floating_point():
        classes = torch.arange(p.shape[1], device=p.device).unsqueeze(1)
        target = target.unsqueeze(1) == classes  # (n, s) -> (n, c, s)
    ignored = ignored.unsqueeze(1).expand_as(p)
    if not per_image:  # (n, c, s) -> (1, c, n * s)
        p, target, ignored = (x.transpose(0, 1).flatten(1)[None] for x in (p, target, ignored))
    errors = (p - target.to(p.dtype)).abs()
    order = hardest_first(errors.detach(), ignored)
    slopes = jaccard_slopes(target.gather(-1, order), p.dtype)
    slopes = torch.zeros_like(slopes).scatter(-1, order, slopes)
    present = (target > 0).any(-1).sum(-1)
    return mean_of((errors * slopes).sum((1, 2)), present), present > 0


def _rank_share(logits: Tensor, target: Tensor, ignore_index: int, ranks: Ranks) -> Tensor:
    """What this rank's pixels add to the loss of the batch of all ranks as one image."""
    p, target, ignored = softmax_planes(logits, target, ignore_index)
    soft = target.is_floating_point()
    # what gloo and NCCL both send
    targets = ranks.gather(target if soft else target.int())  # (n, ranks, [c,] s)
    ignoreds = ranks.gather(ignored.byte()).bool()
    total, present = p.new_zeros(()), p.new_zeros((), dtype=torch.int64)
    for c in range(p.shape[1]):
        q, own = (targets[:, :, c], target[:, c]) if soft else (targets == c, target == c)
        here = (q > 0).any()
        if p.device.type == "cpu" and not here:
            continue
        present += here
        errors = (p[:, c] - own.to(p.dtype)).abs()  # (n, s)
        everyones = ranks.gather(errors)
        slopes = pixel_slopes(*(x.reshape(-1) for x in (everyones, q, ignoreds)))
        total = total + (errors * slopes.view_as(everyones)[:, ranks.rank]).sum()
    return mean_of(total, present)
