"""Softmax focal loss of class ids in one sweep: value and gradient from chunks that stay in cache.

Autograd on the plain formula keeps the log-probabilities and makes two more tensors of the size of
the logits in the backward pass. Here the gradient is the only one: it is written already in the
forward pass, chunk by chunk, while a chunk's exponentials are in the cache.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seg.losses.base import mean_of
from seg.losses.checks import check_class_vector, check_softmax_pair
from seg.losses.sweep import Labels, chunks, flattened

Gamma = float | Tensor
"""Focusing exponent, a number or one a class (C,)."""


class Pixels(NamedTuple):
    """What the loss needs of each pixel of a chunk, all (b, 1, k)."""

    nll: Tensor  # -log p_t
    p: Tensor  # p_t
    q: Tensor  # 1 - p_t


def focal_terms(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    gamma: Gamma,
    ignore_index: int,
    plain: Callable[[Tensor], Tensor],
    mean: bool,
) -> tuple[Tensor, Tensor]:
    """Σ w_t (1 - p_t)^γ (-log p_t) over the pixels that count, or its mean, and Σ w_t.

    Args:
        logits: Scores (N, C, *d), used as they lie, contiguous or channels-last.
        target: Class ids (N, *d) of any integer dtype.
        weight: Weights w (C,); None for 1.
        gamma: Exponent γ, a number or one a class (C,).
        ignore_index: Target value of the pixels that count nowhere.
        plain: The sum from logits alone by differentiable operations, for a second derivative and
            for a second backward pass.
        mean: Whether to divide the sum by Σ w_t, which gives 0 if that is 0.

    Returns:
        The sum or the mean, differentiable, and Σ w_t; scalars, fp32 at least.
    """
    check_softmax_pair(logits, target)
    if weight is not None:
        check_class_vector("weight", weight, logits.shape[1])
    labels = Labels(target, weight, logits, ignore_index)
    weights = labels.weight_sum()
    divisor = weights if mean else torch.ones_like(weights)
    total: Tensor = _FocalTotal.apply(logits, labels, gamma, divisor, plain)
    return total, weights.to(total.dtype)


class _FocalTotal(torch.autograd.Function):
    """The sum over a divisor; its gradient is made in the forward pass, given in the other."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        labels: Labels,
        gamma: Gamma,
        divisor: Tensor,
        plain: Callable[[Tensor], Tensor],
    ) -> Tensor:
        gradient = torch.empty_like(flattened(logits)) if ctx.needs_input_grad[0] else None
        total = _sweep(logits, labels, gamma, divisor, gradient)
        ctx.gradient, ctx.plain, ctx.rest = gradient, plain, (labels, gamma, divisor)
        ctx.save_for_backward(logits)
        return mean_of(total, divisor).to(labels.table.dtype)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        (slope,), (logits,) = slopes, ctx.saved_tensors
        if torch.is_grad_enabled():
            scale = mean_of(slope, ctx.rest[-1])
            return _plain_gradient(ctx.plain, logits, scale), *[None] * 4
        gradient, ctx.gradient = ctx.gradient, None  # the engine may write into what it was given
        if gradient is None:  # a second backward pass
            gradient = torch.empty_like(flattened(logits))
            labels, gamma, divisor = ctx.rest
            _sweep(logits, labels, gamma, divisor, gradient)
        if slope.is_cuda or slope != 1:
            gradient *= slope
        return gradient.view(logits.shape), *[None] * 4


def _plain_gradient(plain: Callable[[Tensor], Tensor], logits: Tensor, slope: Tensor) -> Tensor:
    """The gradient as something that can be differentiated again."""
    total = plain(logits)
    return torch.autograd.grad(total, logits, slope.to(total.dtype), create_graph=True)[0]


def _sweep(
    logits: Tensor, labels: Labels, gamma: Gamma, divisor: Tensor, gradient: Tensor | None
) -> Tensor:
    """The sum, a float64 scalar; fills `gradient` (N, C, P) with that of sum / divisor."""
    z = flattened(logits)
    total = torch.zeros_like(divisor)  # float64, so that the chunks add up without loss
    room: Tensor | None = None
    for at in chunks(z):
        part, rows = z[at], labels.rows(labels.ids[at[0], at[2]])
        if room is None:
            room = torch.empty_like(part, dtype=labels.table.dtype)
        e = room[: part.shape[0], :, : part.shape[2]]
        slope = None if gradient is None else gradient[at]
        total += _chunk(part, rows, labels.table, gamma, divisor, e, slope)
    return total


def _chunk(
    z: Tensor,
    rows: Tensor,
    table: Tensor,
    gamma: Gamma,
    divisor: Tensor,
    e: Tensor,
    slope: Tensor | None,
) -> Tensor:
    """Weighted loss of a chunk; fills `slope` (b, c, k) with the gradient, using `e` as scratch."""
    ids = rows.clamp(max=z.shape[1] - 1).unsqueeze(1)  # (b, 1, k)
    weights = table.index_select(0, rows.view(-1)).view(ids.shape)
    if z.is_cuda:  # asking for finite values would wait for the device
        z = torch.where(weights == 0, 0, z)
    walk = _two_classes if z.shape[1] == 2 else _classes
    total = walk(z, ids, weights, gamma, divisor, e, slope)
    if not z.is_cuda and not total.isfinite():  # 0 · inf is NaN
        total = walk(torch.where(weights == 0, 0, z), ids, weights, gamma, divisor, e, slope)
    return total


def _classes(
    z: Tensor,
    ids: Tensor,
    weights: Tensor,
    gamma: Gamma,
    divisor: Tensor,
    e: Tensor,
    slope: Tensor | None,
) -> Tensor:
    """dℓ/dz_j = F (p_j - [j = t]) with F from `_focus`."""
    highest = z.amax(1, keepdim=True)
    _subtract(z, highest, e)
    margin = e.gather(1, ids)
    e.exp_()
    sums = e.sum(1, keepdim=True)
    own = margin.exp()
    pixels = Pixels(sums.log() - margin, own / sums, (sums - own) / sums)
    losses, factor = _focus(pixels, ids, gamma)
    if slope is not None:
        e.scatter_(1, ids, own - sums)
        _multiply(e, mean_of(factor * weights, divisor.to(e.dtype)) / sums, slope)
    return _weighted_sum(losses, weights)


def _two_classes(
    z: Tensor,
    ids: Tensor,
    weights: Tensor,
    gamma: Gamma,
    divisor: Tensor,
    e: Tensor,
    slope: Tensor | None,
) -> Tensor:
    """As `_classes`, from x = z_other - z_t alone: p_t = σ(-x), with half of the exponentials."""
    first, second = z[:, :1].to(e.dtype), z[:, 1:].to(e.dtype)
    sign = torch.sub(1, ids, alpha=2).to(e.dtype)  # 1 if t is 0, -1 if it is 1
    x = (second - first) * sign
    # log1p and softplus run ten times slower than log
    nll = x.relu() - x.abs().sigmoid_().log_()
    q = x.sigmoid()
    losses, factor = _focus(Pixels(nll, 1 - q, q), ids, gamma)
    if slope is not None:
        factor = mean_of(factor * weights, divisor.to(e.dtype)) * q * sign
        slope[:, 1:] = factor
        torch.neg(factor, out=factor)
        slope[:, :1] = factor
    return _weighted_sum(losses, weights)


def _focus(pixels: Pixels, ids: Tensor, gamma: Gamma) -> tuple[Tensor, Tensor]:
    """q^γ nll and F = q^γ (1 + γ p nll / q), which is -dℓ/d log p_t."""
    nll, p, q = pixels
    if isinstance(gamma, Tensor):
        gamma = gamma.to(q).take(ids)
    elif gamma == 0:
        return nll, torch.ones_like(q)
    focus = q**gamma
    # nll / q tends to 1 where q is 0; where q is rounded to 0, so is F
    ratio = nll / q.clamp_min(torch.finfo(q.dtype).tiny)
    return focus * nll, focus * (1 + gamma * p * ratio)


def _weighted_sum(losses: Tensor, weights: Tensor) -> Tensor:
    return (losses * weights).sum(dtype=torch.float64)


def _subtract(z: Tensor, highest: Tensor, out: Tensor) -> None:
    """Z - highest in the precision of `out`."""
    if z.dtype == out.dtype:
        torch.sub(z, highest, out=out)
    else:
        out.copy_(z).sub_(highest)


def _multiply(e: Tensor, factor: Tensor, out: Tensor) -> None:
    """E * factor rounded to the precision of `out`, written once."""
    if e.dtype == out.dtype:
        torch.mul(e, factor, out=out)
    else:
        out.copy_(e.mul_(factor))
