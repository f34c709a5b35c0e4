"""-log p of the target class of every pixel, by operations that autograd or a compiler can follow.

Compiled, the loss takes one pass over the logits each way. For that the ids are int32 before the
graph sees them, as int64 keeps a CPU's compiler from vector operations; and the logits are kept as
they are, where autograd would keep a masked copy.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seg.losses.checks import check_range, check_softmax_pair
from seg.losses.targets import is_ignored, softmax_inputs
from seg.losses.tracing import transformed


class PixelLosses(NamedTuple):
    """-log p_t of every pixel, and how to look up what belongs to its class, all (N, *d)."""

    nll: Tensor  # 0 where ignored
    counts: Tensor  # whether it counts, bool or 1 and 0
    of: "_Lookup | _Choice"  # gives values (C,) at the target classes, 0 where ignored


def pixel_nll(logits: Tensor, target: Tensor, ignore_index: int) -> PixelLosses:
    """-log p_t of every pixel.

    Args:
        logits: Scores (N, C, *d), also inf or NaN where ignored.
        target: Class ids (N, *d) of any integer dtype.
        ignore_index: Target value of the pixels that count nowhere.
    """
    if torch.compiler.is_compiling() and not transformed():
        check_softmax_pair(logits, target)
        return (_two_classes if logits.shape[1] == 2 else _classes)(logits, target, ignore_index)
    logits, ids, ignored = softmax_inputs(logits, target, ignore_index)
    nll = F.cross_entropy(logits, ids, reduction="none").view(ignored.shape)
    return PixelLosses(nll.masked_fill(ignored, 0), ~ignored, _Lookup(ids, ignored))


def _classes(logits: Tensor, target: Tensor, ignore_index: int) -> PixelLosses:
    ids = _class_ids(target, logits.shape[1], ignore_index)
    ignored = ids < 0
    ids = torch.where(ignored, 0, ids)
    return PixelLosses(_TargetNLL.apply(logits, ids, ignored), ~ignored, _Lookup(ids, ignored))


def _two_classes(logits: Tensor, target: Tensor, ignore_index: int) -> PixelLosses:
    """softplus(z_other - z_t), from floats alone: a compiler stores and loads bools one by one."""
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    sign = _signs(target, ignore_index).to(z.dtype)
    x = torch.where(sign == 0, 0, z[:, 1] - z[:, 0]) * sign
    counts = sign.square()
    return PixelLosses(_Softplus.apply(x) * counts, counts, _Choice(sign))


@dataclass(eq=False)  # torch 2.6 cannot compile a call of a tuple
class _Lookup:
    ids: Tensor
    ignored: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        return torch.where(self.ignored, 0, values[self.ids].view(self.ignored.shape))


@dataclass(eq=False)
class _Choice:
    sign: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        chosen = torch.where(self.sign < 0, values[1], values[0])
        return torch.where(self.sign == 0, 0, chosen)


@torch.library.custom_op("seg::signs", mutates_args=())
def _signs(target: Tensor, ignore_index: int) -> Tensor:
    """1 for class 0, -1 for class 1, 0 where ignored, fp32; other labels as `_class_ids`."""
    sign = target.float().mul_(-2).add_(1).masked_fill_(is_ignored(target, ignore_index), 0)
    if target.is_cuda or (sign.numel() and sign.abs().max() > 1):
        _class_ids(target, 2, ignore_index)  # refuses what is no label
    return sign


@_signs.register_fake
def _signs_shape(target: Tensor, ignore_index: int) -> Tensor:
    return torch.empty_like(target, dtype=torch.float32)


@torch.library.custom_op("seg::class_ids", mutates_args=())
def _class_ids(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """The ids as int32, -1 where ignored; one operation of a graph, which runs what is inside.

    Raises:
        ValueError: If a label is neither a class nor `ignore_index`, as `check_range` does.
    """
    ids = target.long()
    ignored = ids == ignore_index
    last = num_classes - 1
    expected = f"a class id 0..{last} or ignore_index {ignore_index}"
    check_range(ids.masked_fill(ignored, 0), last, expected)
    return ids.masked_fill(ignored, -1).int()


@_class_ids.register_fake
def _class_ids_shape(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    return torch.empty_like(target, dtype=torch.int32)


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
