"""Lovász-Softmax class by class: value and gradient, with the pixels of one class sorted at a time.

Autograd on all classes at once keeps several tensors of the size of the logits, and sorts pixels
that no class needs.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seg.exact_sums import widest
from seg.losses.kernels.ranking import hardest_first
from seg.losses.reduction import mean_of
from seg.losses.targets import softmax_inputs

Plain = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Losses and whether they count, from logits alone by differentiable operations."""


def lovasz_losses(
    logits: Tensor, target: Tensor, ignore_index: int, per_image: bool, plain: Plain
) -> tuple[Tensor, Tensor]:
    """Loss of every image and whether it counts, (N,), or (1,) for the batch as one.

    Args:
        logits: Scores (N, C, *d).
        target: Class ids (N, *d) or probabilities (N, C, *d).
        ignore_index: Target value of the pixels that count nowhere.
        per_image: Whether each image has a loss of its own.
        plain: The same by differentiable operations, for a second derivative.
    """
    backward = logits.requires_grad and torch.is_grad_enabled()
    losses, counts = _ClassByClass.apply(logits, target, ignore_index, per_image, plain, backward)
    return losses, counts


class _ClassByClass(torch.autograd.Function):
    """The losses and whether they count, with the gradient computed on the way.

    The second derivative is that of the plain operations.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        ignore_index: int,
        per_image: bool,
        plain: Plain,
        backward: bool,
    ) -> tuple[Tensor, Tensor]:
        p, q, ignored = softmax_planes(logits, target, ignore_index)
        gradient = torch.zeros_like(p) if backward else None
        parts = [slice(i, i + 1) for i in range(len(p))] if per_image else [slice(None)]
        losses, counts = p.new_zeros(len(parts)), ignored.new_zeros(len(parts))
        for i, part in enumerate(parts):
            slope = None if gradient is None else gradient[part]
            losses[i], counts[i] = _image_loss(p[part], q[part], ignored[part], slope)
        ctx.save_for_backward(logits, gradient)
        ctx.plain = plain
        ctx.mark_non_differentiable(counts)
        return losses, counts

    @staticmethod
    def backward(ctx: Any, scale: Tensor, _: Any) -> Any:
        logits, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # asked for with create_graph
            losses, _ = ctx.plain(logits)
            (slope,) = torch.autograd.grad(losses, logits, scale, create_graph=True)
            return slope, *[None] * 5
        slope = (gradient * scale.view(-1, 1, 1)).view(logits.shape)
        return slope.to(logits.dtype), *[None] * 5


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
        slopes = pixel_slopes(difference.abs().reshape(-1), q.reshape(-1), ignored.reshape(-1))
        slopes = slopes.view_as(difference)
        total += (difference.abs() * slopes).sum()
        if gradient is not None:
            torch.mul(slopes, difference.sign(), out=gradient[:, c])
            mean_slope.addcmul_(p[:, c], gradient[:, c])
    if gradient is not None:
        gradient.sub_(mean_slope.unsqueeze(1)).mul_(p).div_(present.clamp(min=1))
    return mean_of(total, present), present > 0


def pixel_slopes(errors: Tensor, foreground: Tensor, ignored: Tensor) -> Tensor:
    """The slopes g of one class, in the order of the pixels (P,).

    After the last foreground pixel they are 0. So on a CPU, where it costs no wait, what has a
    smaller error than every foreground pixel is not even sorted.
    """
    slopes = torch.zeros_like(errors)
    if errors.device.type != "cpu":
        order = hardest_first(errors, ignored)
        return slopes.scatter_(0, order, jaccard_slopes(foreground.gather(0, order), errors.dtype))
    least = errors.masked_fill(foreground == 0, torch.inf).min()
    rows = ((errors >= least) & ~ignored).nonzero().squeeze(1)
    rows = rows.gather(0, hardest_first(errors.gather(0, rows)))
    return slopes.scatter_(0, rows, jaccard_slopes(foreground.gather(0, rows), errors.dtype))


def jaccard_slopes(foreground: Tensor, dtype: torch.dtype) -> Tensor:
    """By how much 1 - IoU grows from one wrong pixel to the next, in the order given, (*, P).

    With the intersection I and the union U after a pixel of foreground q, and the union U' before
    it, that is (I + q) / U' - I / U = ((1 - q) I + q U) / (U U'), in which nothing cancels. It is
    0 for a class without foreground.

    Args:
        foreground: What belongs to the class of each pixel (*, P), bool for ids.
        dtype: Of the result.
    """
    hard = foreground.dtype == torch.bool
    q = foreground.to(torch.int64 if hard else widest(foreground.device))
    missed = q.cumsum(-1)
    total = missed[..., -1:]
    rank = torch.arange(q.shape[-1], device=q.device)
    before = ((rank - missed) + q + total).to(dtype)
    intersection = (total - missed).to(dtype)
    q = q.to(dtype)
    union = before + (1 - q)
    slopes = torch.lerp(intersection, union, q) / union
    return slopes / before.clamp_min(torch.finfo(dtype).tiny)


def softmax_planes(
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
