"""Sums of overlap between softmax and target: what Dice, Jaccard and Tversky are made of.

For class ids the sums and their gradient are made chunk by chunk; the softmax is computed anew in
the backward pass instead of being kept, so that the gradient is the only tensor of the size of the
logits.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seg.exact_sums import sums_by_row
from seg.losses.checks import check_softmax_pair
from seg.losses.kernels.chunks import At, chunks, flattened
from seg.losses.kernels.id_rows import IdRows


def overlap_sums(
    logits: Tensor, target: Tensor, ignore_index: int, plain: Callable[[Tensor], Tensor]
) -> Tensor:
    """Of each image and class: Σ p q, Σ p and Σ q over the pixels that count.

    Args:
        logits: Scores (N, C, *d), of which p is the softmax.
        target: Class ids (N, *d), of which q is the one-hot form.
        ignore_index: Target value of the pixels that count nowhere.
        plain: The sums from logits alone by differentiable operations, for a second derivative.

    Returns:
        The three sums (N, 3, C), fp32 at least.
    """
    check_softmax_pair(logits, target)
    rows = IdRows(target, None, logits.shape[1], logits.dtype, ignore_index)
    rows.weight_sum()  # refuses what is no label
    sums: Tensor = _OverlapSums.apply(logits, rows, plain)
    return sums


class _OverlapSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: IdRows, plain: Callable[[Tensor], Tensor]
    ) -> Tensor:
        z = flattened(logits)
        ctx.masked = z.is_cuda  # asking for finite values would wait for the device
        sums = _sums(z, labels, ctx.masked)
        if not ctx.masked and not sums.isfinite().all():  # 0 · inf is NaN
            ctx.masked = True
            sums = _sums(z, labels, True)
        ctx.labels, ctx.plain = labels, plain
        ctx.save_for_backward(logits)
        return sums.to(labels.table.dtype)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        (slope,), (logits,) = slopes, ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again
            sums = ctx.plain(logits)
            (gradient,) = torch.autograd.grad(sums, logits, slope, create_graph=True)
        else:
            gradient = _gradient(flattened(logits), ctx.labels, ctx.masked, slope)
        return gradient.view(logits.shape), None, None


class _Chunk(NamedTuple):
    """A part of the batch: logits (b, c, k), and of each pixel its row and 1 if it counts."""

    at: At
    z: Tensor  # (b, c, k)
    rows: Tensor  # (b, 1, k)
    valid: Tensor  # (b, 1, k)


def _chunks(z: Tensor, labels: IdRows, masked: bool) -> Iterator[_Chunk]:
    for at in chunks(z):
        rows = labels.rows(labels.ids[at[0], at[2]]).unsqueeze(1)
        valid = labels.table.take(rows)
        part = torch.where(valid == 0, 0, z[at]) if masked else z[at]
        yield _Chunk(at, part.to(labels.table.dtype), rows, valid)


def _sums(z: Tensor, labels: IdRows, masked: bool) -> Tensor:
    """Σ p q, Σ p and Σ q (N, 3, C), in float64 so that the chunks add up without loss."""
    n, c = z.shape[:2]
    total = torch.zeros(n, 3, c, dtype=torch.float64, device=z.device)
    of_chunk = _two_class_sums if c == 2 else _class_sums
    for chunk in _chunks(z, labels, masked):
        total[chunk.at[0]] += of_chunk(chunk, len(labels.table))
    return total


def _class_sums(chunk: _Chunk, num_rows: int) -> Tensor:
    """The sums of one chunk (b, 3, c)."""
    c = chunk.z.shape[1]
    e, inverse = _softmax(chunk)
    own = e.gather(1, chunk.rows.clamp(max=c - 1)) * inverse
    p = torch.bmm(e, inverse.transpose(1, 2))[..., 0]
    both, truth = (_by_row(x, chunk.rows, num_rows)[:, :c] for x in (own, chunk.valid))
    return torch.stack([both, p.to(both.dtype), truth], 1)


def _two_class_sums(chunk: _Chunk, num_rows: int) -> Tensor:
    """As `_class_sums`, from the foreground's probability alone."""
    truth = (chunk.rows == 1) * chunk.valid
    p = _foreground(chunk).mul_(chunk.valid)
    counted, t, p_all, both = (
        x.sum((1, 2), dtype=torch.float64) for x in (chunk.valid, truth, p, p * truth)
    )
    background = counted - t
    rows = [background - (p_all - both), both, counted - p_all, p_all, background, t]
    return torch.stack(rows, 1).view(-1, 3, 2)


def _gradient(z: Tensor, labels: IdRows, masked: bool, slope: Tensor) -> Tensor:
    """Gradient (N, C, P) from the slopes (N, 3, C) of the sums, of which Σ q has none."""
    gradient = torch.empty_like(z)
    c = z.shape[1]
    both, p = slope[:, 0], slope[:, 1]
    if c == 2:  # by the probability of the foreground
        both, p = both * both.new_tensor([-1, 1]), p[:, 1:] - p[:, :1]
    # one slope a row of the table, 0 for what does not count
    both = torch.nn.functional.pad(both, (0, len(labels.table) - c))
    fill = _fill_two_classes if c == 2 else _fill_classes
    for chunk in _chunks(z, labels, masked):
        images = chunk.at[0]
        own = both[images].gather(1, chunk.rows[:, 0]).unsqueeze(1)  # (b, 1, k)
        fill(chunk, own, p[images].unsqueeze(2), gradient[chunk.at])
    return gradient


def _fill_classes(chunk: _Chunk, own: Tensor, p: Tensor, out: Tensor) -> None:
    """dz_j = p_j (P_j - h) + [j = t] I_t p_t; slopes P and I, h = Σ_c P_c p_c + I_t p_t."""
    ids = chunk.rows.clamp(max=chunk.z.shape[1] - 1)
    e, inverse = _softmax(chunk)
    own = own * e.gather(1, ids) * inverse  # I_t p_t
    mean = torch.bmm(p.transpose(1, 2), e).mul_(inverse).add_(own)  # h
    factor = torch.addcmul(-mean * inverse, p, inverse)  # (b, c, k)
    out.copy_(e.mul_(factor).scatter_add_(1, ids, own))


def _fill_two_classes(chunk: _Chunk, own: Tensor, p: Tensor, out: Tensor) -> None:
    """As `_fill_classes`, by dz_1 = p_1 (1 - p_1) (P_1 - P_0 ± I_t) = -dz_0."""
    foreground = _foreground(chunk)
    slope = own.add_(p).mul_(chunk.valid).mul_(foreground).mul_(1 - foreground)
    out[:, 1:] = slope
    out[:, :1] = slope.neg_()


def _softmax(chunk: _Chunk) -> tuple[Tensor, Tensor]:
    """Exponentials (b, c, k) and what makes them probabilities (b, 1, k), 0 where ignored."""
    e = (chunk.z - chunk.z.amax(1, keepdim=True)).exp_()
    return e, chunk.valid / e.sum(1, keepdim=True)


def _foreground(chunk: _Chunk) -> Tensor:
    """Probability of class 1 of two, (b, 1, k)."""
    return (chunk.z[:, 1:] - chunk.z[:, :1]).sigmoid_()


def _by_row(values: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """Sums (b, R) in float64 of the values (b, 1, k) that share a row."""
    b = len(values)
    index = rows + num_rows * torch.arange(b, device=rows.device).view(-1, 1, 1)
    return sums_by_row(values.reshape(-1), index.view(-1), b * num_rows).view(b, num_rows)
