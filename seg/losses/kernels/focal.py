"""Softmax focal loss of class ids in one sweep: value and gradient from chunks that stay in cache.

Autograd on the plain formula keeps the log-probabilities and makes two more tensors of the size of
the logits in the backward pass. Here the gradient is the only one: it is written already in the
forward pass, chunk by chunk, while a chunk's exponentials are in the cache.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seg.losses.kernels.chunks import chunks, flattened
from seg.losses.kernels.id_rows import IdRows
from seg.losses.reduction import mean_of

Gamma = float | Tensor
"""Focusing exponent, a number or one a class (C,)."""


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
        target: Class ids (N, *d) of any integer dtype, known to pair with the logits.
        weight: Weights w (C,); None for 1.
        gamma: Exponent γ, a number or one a class (C,).
        ignore_index: Target value of the pixels that count nowhere.
        plain: The sum from logits alone by differentiable operations, for a second derivative.
        mean: Whether to divide the sum by Σ w_t, which gives 0 if that is 0.

    Returns:
        The sum or the mean, differentiable, and Σ w_t; scalars, fp32 at least.
    """
    labels = IdRows(target, weight, logits.shape[1], logits.dtype, ignore_index)
    weights = labels.weight_sum()
    divisor = weights if mean else torch.ones_like(weights)
    total: Tensor = _FocalTotal.apply(logits, labels, gamma, divisor, plain)
    return total, weights.to(total.dtype)


def focal_share(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    gamma: Gamma,
    ignore_index: int,
    plain: Callable[[Tensor], Tensor],
    divisor: Tensor,
) -> Tensor:
    """The sum of `focal_terms` over a divisor (float64 scalar) that is known; 0 if that is 0.

    The labels are taken as they are: what made the divisor has checked them.
    """
    labels = IdRows(target, weight, logits.shape[1], logits.dtype, ignore_index)
    share: Tensor = _FocalTotal.apply(logits, labels, gamma, divisor, plain)
    return share


class _FocalTotal(torch.autograd.Function):
    """The sum over a divisor; its gradient is made in the forward pass, given in the other.

    In fp16 the gradient of the sum is kept instead, and divided in the backward pass together with
    the slope: a loss scale comes with that, too late for what had been rounded to 0 before.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        labels: IdRows,
        gamma: Gamma,
        divisor: Tensor,
        plain: Callable[[Tensor], Tensor],
    ) -> Tensor:
        gradient = torch.empty_like(flattened(logits)) if ctx.needs_input_grad[0] else None
        total = _sweep(logits, labels, gamma, _scale(logits, divisor), gradient)
        ctx.gradient, ctx.plain, ctx.rest = gradient, plain, (labels, gamma, divisor)
        ctx.save_for_backward(logits)
        return mean_of(total, divisor).to(labels.table.dtype)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        (slope,), (logits,), (labels, gamma, divisor) = slopes, ctx.saved_tensors, ctx.rest
        if torch.is_grad_enabled():
            return _plain_gradient(ctx.plain, logits, mean_of(slope, divisor)), *[None] * 4
        gradient, ctx.gradient = ctx.gradient, None  # the engine may write into what it was given
        if gradient is None:  # a second backward pass
            gradient = torch.empty_like(flattened(logits))
            _sweep(logits, labels, gamma, _scale(logits, divisor), gradient)
        if logits.dtype == torch.float16:
            slope = mean_of(slope, divisor).to(slope.dtype)
        if slope.is_cuda or slope != 1:
            gradient *= slope
        return gradient.view(logits.shape), *[None] * 4


def _scale(logits: Tensor, divisor: Tensor) -> Tensor:
    """What the sweep multiplies the gradient of the sum with."""
    one = torch.ones_like(divisor)
    return one if logits.dtype == torch.float16 else mean_of(one, divisor)


def _plain_gradient(plain: Callable[[Tensor], Tensor], logits: Tensor, slope: Tensor) -> Tensor:
    """The gradient as something that can be differentiated again."""
    total = plain(logits)
    return torch.autograd.grad(total, logits, slope.to(total.dtype), create_graph=True)[0]


def _sweep(
    logits: Tensor, labels: IdRows, gamma: Gamma, scale: Tensor, gradient: Tensor | None
) -> Tensor:
    """The sum, a float64 scalar; fills `gradient` (N, C, P) with that of the sum times `scale`."""
    z = flattened(logits)
    dtype = labels.table.dtype
    walk = _Walk(gamma, scale.to(dtype))
    total = torch.zeros_like(scale)  # float64, so that the chunks add up without loss
    room: Tensor | None = None
    for at in chunks(z):
        part, rows = z[at], labels.rows(labels.ids[at[0], at[2]])
        if room is None:  # of two classes it is not needed
            room = torch.empty_like(part if part.shape[1] > 2 else part[:0], dtype=dtype)
        e = room[: part.shape[0], :, : part.shape[2]]
        weights = labels.table.index_select(0, rows.view(-1)).view(rows.shape).unsqueeze(1)
        total += walk.chunk(part, rows, weights, e, None if gradient is None else gradient[at])
    return total


class _Walk(NamedTuple):
    """The sums and gradients of chunks: logits (b, c, k), per pixel (b, 1, k), rows (b, k)."""

    gamma: Gamma
    scale: Tensor  # of the gradient

    def chunk(
        self, z: Tensor, rows: Tensor, weights: Tensor, e: Tensor, slope: Tensor | None
    ) -> Tensor:
        """Weighted loss; fills `slope` (b, c, k) with the gradient, using `e` as scratch."""
        step = self.two_classes if z.shape[1] == 2 else self.classes
        if z.is_cuda:  # asking for finite values would wait for the device
            return step(torch.where(weights == 0, 0, z), rows, weights, e, slope)
        total = step(z, rows, weights, e, slope)
        if not total.isfinite():  # 0 · inf is NaN
            total = step(torch.where(weights == 0, 0, z), rows, weights, e, slope)
        return total

    def classes(
        self, z: Tensor, rows: Tensor, weights: Tensor, e: Tensor, slope: Tensor | None
    ) -> Tensor:
        """dℓ/dz_j = F (p_j - [j = t]), with F = -dℓ/d log p_t, which is 1 for cross-entropy."""
        ids = rows.clamp(max=z.shape[1] - 1).unsqueeze(1)
        _subtract(z, z.amax(1, keepdim=True), e)
        own = e.gather(1, ids)
        sums = e.exp_().sum(1, keepdim=True)
        losses = sums.log().sub_(own)
        own.exp_()
        factor = weights
        if self.focuses:
            q = (sums - own).div_(sums)
            losses, factor = self.focus(losses, own / sums, q, ids)
            # where q is 0, so is the factor
            factor.mul_(weights).div_(q.clamp_min_(torch.finfo(q.dtype).tiny))
        if slope is not None:
            e.scatter_(1, ids, own.sub_(sums))
            _multiply(e, (factor / sums).mul_(self.scale), slope)
        return losses.mul_(weights).sum(dtype=torch.float64)

    def two_classes(
        self, z: Tensor, rows: Tensor, weights: Tensor, e: Tensor, slope: Tensor | None
    ) -> Tensor:
        """As `classes`, from x = z_other - z_t alone: p_t = σ(-x), with fewer exponentials."""
        first, second = z[:, :1].to(e.dtype), z[:, 1:].to(e.dtype)
        sign = rows.to(e.dtype).mul_(-2).add_(1).unsqueeze(1)  # 1 if t is 0, -1 if it is 1
        x = (second - first).mul_(sign)
        # log1p and softplus run ten times slower than log
        losses = x.relu().sub_(x.abs().sigmoid_().log_())
        factor = q = x.sigmoid_()
        if self.focuses:
            losses, factor = self.focus(losses, 1 - q, q, rows.clamp(max=1).unsqueeze(1))
        if slope is not None:
            factor.mul_(weights).mul_(sign)
            torch.mul(factor, self.scale, out=slope[:, 1:])
            torch.mul(factor, -self.scale, out=slope[:, :1])
        return losses.mul_(weights).sum(dtype=torch.float64)

    @property
    def focuses(self) -> bool:
        """Whether this is more than cross-entropy."""
        return isinstance(self.gamma, Tensor) or self.gamma != 0

    def focus(self, nll: Tensor, p: Tensor, q: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """q^γ nll and F q = q^γ (q + γ p nll), from -log p, p and q = 1 - p of the target."""
        if isinstance(self.gamma, Tensor):
            gamma = self.gamma.to(q).take(ids)
            power, factor = q**gamma, torch.addcmul(q, p.mul_(gamma), nll)
        else:
            power, factor = q**self.gamma, torch.addcmul(q, p, nll, value=self.gamma, out=p)
        return nll.mul_(power), factor.mul_(power)


def _subtract(z: Tensor, highest: Tensor, out: Tensor) -> None:
    """Writes z - highest in the precision of `out`."""
    if z.dtype == out.dtype:
        torch.sub(z, highest, out=out)
    else:
        out.copy_(z).sub_(highest)


def _multiply(e: Tensor, factor: Tensor, out: Tensor) -> None:
    """Writes e * factor once, rounded to the precision of `out`."""
    if e.dtype == out.dtype:
        torch.mul(e, factor, out=out)
    else:
        out.copy_(e.mul_(factor))
