"""Lovász-Softmax: the Jaccard index itself, made continuous, as a loss."""

import math
from typing import Any

import torch
from torch import Tensor

from seg.constants import IGNORE_INDEX
from seg.distributed.ranks import Ranks
from seg.losses.base import SegmentationLoss
from seg.losses.kernels.ranking import hardest_first
from seg.losses.reduction import Reduction, mean_of, reduce_losses
from seg.losses.targets import Logits, Target, images_that_count, softmax_inputs, takes_one_sample
from seg.losses.tracing import formula_only


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
        ignore_index: Target value of the pixels that count nowhere.
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

    With the batch as one image, a training step orders the pixels of all its devices and
    micro-batches together, for which the errors of all pixels are sent to every device; with
    `per_image` nothing is. In evaluation each batch is an image, and their mean is taken.

    Args:
        per_image: Whether each image has a loss of its own; otherwise the batch is one image, which
            keeps a class that an image lacks from counting there.
        ignore_index: Target value of the pixels that count nowhere.
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
    if formula_only(logits, target):
        return _by_autograd(logits, target, ignore_index, per_image)
    backward = logits.requires_grad and torch.is_grad_enabled()
    losses, counts = _ClassByClass.apply(logits, target, ignore_index, per_image, backward)
    return losses, counts


def _by_autograd(
    logits: Tensor, target: Tensor, ignore_index: int, per_image: bool
) -> tuple[Tensor, Tensor]:
    """The losses and whether they count in plain operations on all classes at once."""
    p, target, ignored = _probabilities(logits, target, ignore_index)
    if not target.is_floating_point():
        classes = torch.arange(p.shape[1], device=p.device).unsqueeze(1)
        target = target.unsqueeze(1) == classes  # (n, s) -> (n, c, s)
    ignored = ignored.unsqueeze(1).expand_as(p)
    if not per_image:  # (n, c, s) -> (1, c, n * s)
        p, target, ignored = (x.transpose(0, 1).flatten(1)[None] for x in (p, target, ignored))
    errors = (p - target.to(p.dtype)).abs()
    order = hardest_first(errors.detach(), ignored)
    slopes = _slopes(target.gather(-1, order), p.dtype)
    slopes = torch.zeros_like(slopes).scatter(-1, order, slopes)
    present = (target > 0).any(-1).sum(-1)
    return mean_of((errors * slopes).sum((1, 2)), present), present > 0


class _ClassByClass(torch.autograd.Function):
    """The losses and whether they count, with the gradient computed on the way.

    The second derivative is that of `_by_autograd`.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, ignore_index: int, per_image: bool, backward: bool
    ) -> tuple[Tensor, Tensor]:
        p, q, ignored = _probabilities(logits, target, ignore_index)
        gradient = torch.zeros_like(p) if backward else None
        parts = [slice(i, i + 1) for i in range(len(p))] if per_image else [slice(None)]
        losses, counts = p.new_zeros(len(parts)), ignored.new_zeros(len(parts))
        for i, part in enumerate(parts):
            slope = None if gradient is None else gradient[part]
            losses[i], counts[i] = _image_loss(p[part], q[part], ignored[part], slope)
        ctx.save_for_backward(logits, target, gradient)
        ctx.options = ignore_index, per_image
        ctx.mark_non_differentiable(counts)
        return losses, counts

    @staticmethod
    def backward(ctx: Any, scale: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        logits, target, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # asked for with create_graph
            losses, _ = _by_autograd(logits, target, *ctx.options)
            (slope,) = torch.autograd.grad(losses, logits, scale, create_graph=True)
            return slope, None, None, None, None
        slope = (gradient * scale.view(-1, 1, 1)).view(logits.shape)
        return slope.to(logits.dtype), None, None, None, None


def _image_loss(
    p: Tensor, target: Tensor, ignored: Tensor, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Loss over the classes present in p (n, C, S) as one image, and whether there is one.

    Writes the gradient by the logits, (n, C, S), into `gradient`, which is 0.
    """
    total, present = p.new_zeros(()), p.new_zeros((), dtype=torch.int64)
    mean_slope = torch.zeros_like(p[:, 0])  # Σ_c p_c dL/dp_c
    for c in range(p.shape[1]):
        q = target[:, c] if target.is_floating_point() else target == c
        here = (q > 0).any()
        if p.device.type == "cpu" and not here:
            continue
        present += here
        difference = p[:, c] - q.to(p.dtype)  # (n, s)
        slopes = _pixel_slopes(difference.abs().reshape(-1), q.reshape(-1), ignored.reshape(-1))
        slopes = slopes.view_as(difference)
        total += (difference.abs() * slopes).sum()
        if gradient is not None:
            torch.mul(slopes, difference.sign(), out=gradient[:, c])
            mean_slope.addcmul_(p[:, c], gradient[:, c])
    if gradient is not None:
        gradient.sub_(mean_slope.unsqueeze(1)).mul_(p).div_(present.clamp(min=1))
    return mean_of(total, present), present > 0


def _rank_share(logits: Tensor, target: Tensor, ignore_index: int, ranks: Ranks) -> Tensor:
    """What this rank's pixels add to the loss of the batch of all ranks as one image."""
    p, target, ignored = _probabilities(logits, target, ignore_index)
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
        slopes = _pixel_slopes(*(x.reshape(-1) for x in (everyones, q, ignoreds)))
        total = total + (errors * slopes.view_as(everyones)[:, ranks.rank]).sum()
    return mean_of(total, present)


def _pixel_slopes(errors: Tensor, foreground: Tensor, ignored: Tensor) -> Tensor:
    """The slopes g of one class, in the order of the pixels (P,).

    After the last foreground pixel they are 0. So on a CPU, where it costs no wait, what has a
    smaller error than every foreground pixel is not even sorted.
    """
    slopes = torch.zeros_like(errors)
    if errors.device.type != "cpu":
        order = hardest_first(errors, ignored)
        return slopes.scatter_(0, order, _slopes(foreground.gather(0, order), errors.dtype))
    least = errors.masked_fill(foreground == 0, torch.inf).min()
    rows = ((errors >= least) & ~ignored).nonzero().squeeze(1)
    rows = rows.gather(0, hardest_first(errors.gather(0, rows)))
    return slopes.scatter_(0, rows, _slopes(foreground.gather(0, rows), errors.dtype))


def _slopes(foreground: Tensor, dtype: torch.dtype) -> Tensor:
    """By how much 1 - IoU grows from one wrong pixel to the next, in the order given, (*, P).

    With the intersection I and the union U after a pixel of foreground q, and the union U' before
    it, that is (I + q) / U' - I / U = ((1 - q) I + q U) / (U U'), in which nothing cancels. It is
    0 for a class without foreground.

    Args:
        foreground: What belongs to the class of each pixel (*, P), bool for ids.
        dtype: Of the result.
    """
    q = foreground.to(torch.int64 if foreground.dtype == torch.bool else torch.float64)
    missed = q.cumsum(-1)
    total = missed[..., -1:]
    rank = torch.arange(q.shape[-1], device=q.device)
    before = ((rank - missed) + q + total).to(dtype)
    intersection = (total - missed).to(dtype)
    q = q.to(dtype)
    union = before + (1 - q)
    slopes = torch.lerp(intersection, union, q) / union
    return slopes / before.clamp_min(torch.finfo(dtype).tiny)


def _probabilities(
    logits: Tensor, target: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted p (N, C, S), target (N, S) or (N, C, S), and which pixels are ignored (N, S).

    S is the number of pixels of an image. An ignored pixel has no class in the target.
    """
    classes = logits.shape[1]
    logits, target, ignored = softmax_inputs(logits, target, ignore_index)
    images, pixels = ignored.shape[0], math.prod(ignored.shape[1:])
    ignored = ignored.reshape(images, pixels)
    p = _planes(logits.softmax(1), images, classes, pixels)
    if target.is_floating_point():
        return p, _planes(target, images, classes, pixels), ignored
    return p, target.reshape(images, pixels).masked_fill(ignored, -1), ignored


def _planes(values: Tensor, images: int, classes: int, pixels: int) -> Tensor:
    """(N, C, *d), or (N * S, C) if the classes lie last in memory, as (N, C, S)."""
    if values.ndim == 2:
        return values.view(images, pixels, classes).movedim(2, 1)
    return values.reshape(images, classes, pixels)
