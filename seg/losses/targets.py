"""Logits and targets made ready for the formulas: checked, in fp32, ignored pixels neutralised.

An ignored pixel gets logits and target 0 before the formula, and its loss is set to 0 after it.
Both are needed for a gradient of exactly 0 where its logits are inf or NaN, because 0 · inf is NaN.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from seg.exact_sums import widest
from seg.losses.checks import check_range, check_softmax_pair, pair_binary

Logits = Float[Tensor, "n c *d"] | Float[Tensor, " c"]
"""Scores of pixels (N, C, *d), or of one sample (C,)."""

Target = (
    Integer[Tensor, "n *d"] | Float[Tensor, "n c *d"] | Integer[Tensor, ""] | Float[Tensor, " c"]
)
"""Class ids (N, *d) or probabilities (N, C, *d); of one sample a scalar, or (C,)."""

BinaryTarget = Integer[Tensor, "..."] | Bool[Tensor, "..."] | Float[Tensor, "..."]
"""Labels (N, 1, *d) or (N, *d) of one logit, or (N, C, *d) of C independent ones; of one sample
the same without N."""

_Function = TypeVar("_Function", bound=Callable[..., Tensor])

ROUNDING = 1e-2
"""How far above 1 a probability may be: what mixing labels in bf16 can add."""


def takes_one_sample(function: _Function) -> _Function:
    """Lets a loss of logits (N, C, *d) take those of one sample (C,), as torch's losses do."""

    @wraps(function)
    def loss(logits: Tensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        value = function(*batched(logits, target), *args, **kwargs)
        return unbatched(value) if logits.ndim == 1 else value

    return cast(_Function, loss)


def batched(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """One sample, logits (C,) and what belongs to it, as a batch of one; a batch as it is.

    Raises:
        ValueError: If the target of one sample is neither a scalar nor (C,).
    """
    if logits.ndim != 1:
        return logits, target
    if target.shape not in ((), logits.shape):
        raise ValueError(
            f"logits {tuple(logits.shape)} of one sample and target {tuple(target.shape)} do not "
            f"pair: expected a scalar or {tuple(logits.shape)}; a batch has logits (N, C, *d)."
        )
    return logits[None], target[None]


def unbatched(value: Tensor) -> Tensor:
    """The loss of one sample from that of a batch of one."""
    return value[0] if value.ndim else value


def softmax_inputs(
    logits: Tensor, target: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Prepares logits (N, C, *d) with ids (N, *d) or probabilities (N, C, *d).

    Logits that lie classes-last in memory (channels_last) come back flattened to (P, C) with
    P pixels, which copies nothing; the target then is (P,) or (P, C).

    Returns:
        The logits, fp32 at least; the target as int64 ids or as probabilities; and which pixels
        are ignored, always (N, *d).
    """
    check_softmax_pair(logits, target)
    if target.is_floating_point():
        target, outside = _probabilities(target, ignore_index)
        ignored = outside.any(1)  # (n, c, *d) -> (n, *d)
    else:
        target, ignored = class_ids(target, logits.shape[1], ignore_index)
    mask = ignored.unsqueeze(1)
    if logits.ndim > 2 and logits.movedim(1, -1).is_contiguous():
        logits, mask = _flat(logits), mask.reshape(-1, 1)
        target = _flat(target) if target.is_floating_point() else target.reshape(-1)
    logits = _at_least_fp32(torch.where(mask, 0, logits))
    if target.is_floating_point():
        target = torch.where(mask, 0, target).to(logits.dtype)
    return logits, target, ignored


def binary_inputs(
    logits: Tensor, target: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Prepares logits (N, C, *d) with labels 0 and 1 of the same shape, or (N, *d) if C is 1.

    Returns:
        The logits, fp32 at least; the labels in the same dtype, which may be probabilities; and
        which elements are ignored; all three (N, C, *d).
    """
    target, ignored = _probabilities(pair_binary(logits, target), ignore_index)
    if not logits.is_contiguous() and logits.shape[1] > 1:
        # results take the layout of the first operand, which shall be that of the logits
        target, ignored = (
            torch.empty_like(logits, dtype=x.dtype).copy_(x) for x in (target, ignored)
        )
    logits = _at_least_fp32(torch.where(ignored, 0, logits))
    return logits, target.to(logits.dtype), ignored


def images_that_count(target: Tensor, ignore_index: int) -> Tensor | None:
    """Number of images with a pixel that counts, a float scalar, of ids; None of probabilities."""
    if target.is_floating_point():
        return None
    counts = (~is_ignored(target, ignore_index)).flatten(1).any(1)
    return counts.sum().to(widest(target.device))


def is_ignored(target: Tensor, ignore_index: int) -> Tensor:
    """Where ids, labels or probabilities are the ignored value, in the shape of the target."""
    if not target.is_floating_point() and target.dtype != torch.bool:
        held = torch.iinfo(target.dtype)
        if not held.min <= ignore_index <= held.max:  # torch would compare it modulo 256
            return torch.zeros_like(target, dtype=torch.bool)
    return target == ignore_index


def per_channel(values: Tensor, like: Tensor) -> Tensor:
    """Values (C,) as (1, C, 1, ...) in the dtype of `like` (N, C, *d)."""
    return values.to(like.dtype).view(1, -1, *(1 for _ in like.shape[2:]))


def one_hot(ids: Tensor, like: Tensor) -> Tensor:
    """Ids (N, *d) as probabilities in the shape, dtype and memory layout of `like` (N, C, *d)."""
    return torch.zeros_like(like).scatter(1, ids.unsqueeze(1), 1)


def class_ids(target: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Ids as int64 with 0 where ignored, and where that is."""
    target = target.long()
    ignored = target == ignore_index
    target = target.masked_fill(ignored, 0)
    last = num_classes - 1
    check_range(target, last, f"a class id 0..{last} or ignore_index {ignore_index}")
    return target, ignored


def _probabilities(target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Labels or probabilities in [0, 1] with 0 where ignored, and where that is."""
    if target.dtype == torch.bool:
        return target, torch.zeros_like(target)
    if not target.is_floating_point():
        target = target.long()
    elif ignore_index in (0, 1):
        raise ValueError(
            f"ignore_index {ignore_index} is a probability as well: every {ignore_index:.1f} of "
            "the target would be ignored; use another, such as 255."
        )
    ignored = target == ignore_index
    target = target.masked_fill(ignored, 0)
    check_range(target, 1 + ROUNDING, f"in [0, 1] or ignore_index {ignore_index}")
    return target, ignored


def _flat(scores: Tensor) -> Tensor:
    """(N, C, *d) to (P, C), without a copy if it lies classes-last in memory."""
    return scores.movedim(1, -1).reshape(-1, scores.shape[1])


def _at_least_fp32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
