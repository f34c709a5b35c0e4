"""-log p of the target class of every pixel, by operations that autograd or a compiler can follow.

Compiled, the loss takes one pass over the logits each way. For that the ids are int32, which go
through vector units at the same pace as floats, and the logits are kept as they are, where autograd
would keep a masked copy.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seg.losses.checks import check_range, check_softmax_pair
from seg.losses.targets import softmax_inputs


def pixel_nll(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, Tensor]:
    """-log p_t of every pixel, its id, and whether it is ignored, all (N, *d).

    Args:
        logits: Scores (N, C, *d), also inf or NaN where ignored.
        target: Class ids (N, *d) of any integer dtype.
        ignore_index: Target value of the pixels that count nowhere; they get id and loss 0.
    """
    if not torch.compiler.is_compiling():
        logits, ids, ignored = softmax_inputs(logits, target, ignore_index)
        nll = F.cross_entropy(logits, ids, reduction="none")
        return nll.view(ignored.shape).masked_fill(ignored, 0), ids.view(ignored.shape), ignored
    check_softmax_pair(logits, target)
    ignored = target.long() == ignore_index
    last = logits.shape[1] - 1
    known = torch.where(ignored, 0, target.long())
    check_range(known, last, f"a class id 0..{last} or ignore_index {ignore_index}")
    ids = torch.where(ignored, 0, target.int())
    return (_two_classes if last == 1 else _TargetNLL.apply)(logits, ids, ignored), ids, ignored


def of_pixels(values: Tensor, ids: Tensor, ignored: Tensor) -> Tensor:
    """The values (C,) at the ids (N, *d), 0 where ignored."""
    # a choice is a vector operation, looking up is none
    two = len(values) == 2
    found = torch.where(ids == 1, values[1], values[0]) if two else values[ids]
    return torch.where(ignored, 0, found)


class _Softplus(torch.autograd.Function):
    """log(1 + exp(x)) from log and sigmoid; `F.softplus` runs log1p, ten times slower on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.relu() - x.abs().sigmoid().log()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slope: Tensor = slopes[0] * x.sigmoid()
        return slope


def _two_classes(logits: Tensor, ids: Tensor, ignored: Tensor) -> Tensor:
    """softplus(z_other - z_t)."""
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    margin = z[:, 1] - z[:, 0]
    x = torch.where(ids == 1, -margin, margin)
    return torch.where(ignored, 0, _Softplus.apply(torch.where(ignored, 0, x)))


class _TargetNLL(torch.autograd.Function):
    """For compiled graphs, which are differentiated once."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor, ignored: Tensor) -> Tensor:
        z = logits.to(torch.promote_types(logits.dtype, torch.float32))
        highest = z.amax(1, keepdim=True)
        lse = (z - highest).exp().sum(1, keepdim=True).log() + highest
        ctx.save_for_backward(logits, ids, ignored, lse)
        nll = (lse - z.gather(1, ids.long().unsqueeze(1))).squeeze(1)
        return torch.where(ignored, 0, nll)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        logits, ids, ignored, lse = ctx.saved_tensors
        classes = torch.arange(logits.shape[1], dtype=torch.int32, device=logits.device)
        classes = classes.view(-1, *(1 for _ in ids.shape[1:]))
        p = (logits.to(lse.dtype) - lse).exp()
        p = torch.where(classes == ids.unsqueeze(1), p - 1, p)
        gradient = torch.where(ignored.unsqueeze(1), 0, slopes[0].unsqueeze(1) * p)
        return gradient.to(logits.dtype), None, None
