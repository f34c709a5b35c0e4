"""Clauses on what the value of a loss is: its reductions, and what must not change it."""

import copy
import inspect
from functools import partial

import torch
from torch import Tensor, nn

from seg.losses.base import SegmentationLoss
from seg.losses.contract.subject import Subject, measure, require, tensors


def reductions(subject: Subject) -> None:
    """`none` is 0 where ignored, `sum` its sum, `mean` that over Σ weights; others are refused.

    `none` has the shape of the target, or (N,) or (1,) for a loss of images or of a batch. A sum
    of losses is exempt: its parts reduce each its own elements.
    """
    if _is_sum(subject.loss):
        return
    require(hasattr(subject.loss, "reduction"), "it has no attribute `reduction`")
    logits, target = subject.sample(3, 4, 5, ignored=True)
    single, total, mean = (
        _with_reduction(subject.loss, name)(logits, target) for name in ("none", "sum", "mean")
    )
    shapes = (target.shape, target.shape[:1], (1,))
    require(single.shape in shapes, f"none has shape {tuple(single.shape)}, not one of {shapes}")
    if single.shape == target.shape:
        require((single[target == subject.ignore_index] == 0).all(), "none is not 0 where ignored")
    torch.testing.assert_close(total, single.sum(), rtol=subject.rtol, atol=0)
    divisor = _divisor(subject, single, logits, target)
    torch.testing.assert_close(mean, total / divisor, rtol=subject.rtol, atol=0)
    _require_refusal_of_a_bad_name(subject.original)


def split_terms(subject: Subject) -> None:
    """Terms add up over parts of a batch to those of the whole, of which the value is the loss.

    For losses with `terms`; exempt is one whose elements depend on the rest of the batch, and a sum
    of losses, of which the parts have them.
    """
    loss = subject.loss
    if not isinstance(loss, SegmentationLoss) or _is_sum(loss):
        return
    logits, target = subject.sample(3, 4, 5, ignored=True)
    parts = [(logits[i : i + 1], target[i : i + 1]) for i in range(3)]
    if type(loss).terms is SegmentationLoss.terms:
        whole = loss.element_losses(logits, target)[0]
        pieces = [loss.element_losses(*part)[0] for part in parts]
        if len(whole) != 3 or not torch.allclose(torch.cat(pieces), whole):
            return
    summed = torch.stack([loss.terms(*part) for part in parts]).sum(0)
    require(summed.shape == (loss.num_terms(subject.channels),), "num_terms is another number")
    torch.testing.assert_close(summed, loss.terms(logits, target), rtol=subject.rtol, atol=1e-13)
    mean = _with_reduction(loss, "mean")(logits, target)
    torch.testing.assert_close(loss.value(summed), mean, rtol=subject.rtol, atol=0)


def split_shares(subject: Subject) -> None:
    """Shares of parts of a batch add up to the loss of the whole, and so do their gradients.

    For losses that state the `divisor` of a target; of a sum of losses, each of its components.
    """
    if not isinstance(subject.loss, SegmentationLoss):
        return
    logits, target = subject.sample(4, 4, 5, ignored=True)
    target[3] = subject.ignore_index if subject.ignores else target[3]
    for _, loss in subject.loss.components().values():
        divisors = [loss.divisor(part, subject.channels) for part in torch.split(target, 1)]
        if divisors[0] is None:
            continue
        divisor = torch.stack([part for part in divisors if part is not None]).sum()
        shares = measure(partial(_shares, loss, divisor), logits, target)
        subject.agree(shares, measure(_with_reduction(loss, "mean"), logits, target))


def _shares(loss: SegmentationLoss, divisor: Tensor, logits: Tensor, target: Tensor) -> Tensor:
    parts = zip(torch.split(logits, 1), torch.split(target, 1), strict=True)
    return torch.stack([loss.share(x, y, divisor) for x, y in parts]).sum()


def _is_sum(loss: nn.Module) -> bool:
    return isinstance(loss, SegmentationLoss) and "" not in loss.components()


def shift_invariance(subject: Subject) -> None:
    """A constant added to all logits of a pixel changes neither loss nor gradient (softmax)."""
    if subject.sigmoid:
        return
    logits, target = subject.sample(2, 3, 5, ignored=True)
    shift = torch.linspace(-50, 50, target.numel(), dtype=subject.dtype).view(2, 1, 3, 5)
    subject.agree(
        measure(subject.loss, logits + shift, target), measure(subject.loss, logits, target)
    )


def permutation(subject: Subject) -> None:
    """Classes renamed in logits, targets and weights alike change neither loss nor gradient."""
    if subject.channels == 1:
        return
    logits, target = subject.sample(2, 3, 5, ignored=True)
    order = torch.arange(subject.channels).roll(1)
    if subject.sigmoid:
        renamed = target[:, order]
    else:
        ignored = target == subject.ignore_index
        renamed = order.argsort()[target.masked_fill(ignored, 0)]
        renamed[ignored] = subject.ignore_index
    if (renamed == subject.ignore_index).sum() != (target == subject.ignore_index).sum():
        return  # a class is the ignored one, which has no other name
    value, slope = measure(subject.loss, logits, target)
    permuted = measure(_permuted(subject, order), logits[:, order], renamed)
    subject.agree(
        permuted, (value[:, order] if value.shape == logits.shape else value, slope[:, order])
    )


def absent_class(subject: Subject) -> None:
    """One more class, in no target and with logits of -1e4, changes nothing (softmax).

    Exempt are losses made for a number of classes, by weights of each or `num_classes`, and those
    with `label_smoothing`, which asks for a share of every class.
    """
    loss = subject.loss
    fixed = hasattr(loss, "num_classes") or any(
        subject.channels in tensor.shape for _, _, tensor in tensors(loss)
    )
    if subject.sigmoid or fixed or getattr(loss, "label_smoothing", False):
        return
    logits, target = subject.sample(2, 3, 5, ignored=True)
    value, slope = measure(loss, logits, target)
    more = torch.cat([logits, torch.full_like(logits[:, :1], -1e4)], 1)
    value_of_more, slope_of_more = measure(loss, more, target)
    subject.agree((value_of_more, slope_of_more[:, :-1]), (value, slope))


def _with_reduction(loss: nn.Module, reduction: str) -> nn.Module:
    loss = copy.deepcopy(loss)
    for module in loss.modules():
        if "reduction" in vars(module):
            vars(module)["reduction"] = reduction
    return loss


def _divisor(subject: Subject, single: Tensor, logits: Tensor, target: Tensor) -> Tensor:
    """Σ weights of the elements that count: as the loss says, else those of the class weights."""
    if isinstance(subject.loss, SegmentationLoss):
        return subject.loss.element_losses(logits, target)[1].sum()
    if single.shape != target.shape:
        return torch.tensor(single.numel())
    counts = target != subject.ignore_index
    for _, _, weights in tensors(subject.loss):
        if weights.shape == (subject.channels,) and not subject.sigmoid:
            return weights[target[counts]].sum()
    return counts.sum()


def _require_refusal_of_a_bad_name(loss: nn.Module) -> None:
    """Builds the class anew with a reduction that is none, if it can be built with one that is."""
    arguments = {
        name: getattr(loss, str(name), None)
        for name, parameter in inspect.signature(type(loss)).parameters.items()
        if parameter.default is parameter.empty and parameter.kind != parameter.VAR_KEYWORD
    }
    try:
        type(loss)(**{**arguments, "reduction": "sum"})
    except Exception:
        return  # it cannot be built from here
    try:
        type(loss)(**{**arguments, "reduction": "average"})
    except Exception:
        return
    raise AssertionError("the reduction 'average' is not refused at construction")


def _permuted(subject: Subject, order: Tensor) -> nn.Module:
    """A copy of the loss with every tensor permuted along the dims that are as long as classes."""
    loss = copy.deepcopy(subject.loss)
    for module, name, tensor in list(tensors(loss)):
        permuted = tensor.detach()
        for dim in (dim for dim, size in enumerate(tensor.shape) if size == subject.channels):
            permuted = permuted.index_select(dim, order)
        learns = isinstance(tensor, nn.Parameter)
        setattr(module, name, nn.Parameter(permuted) if learns else permuted)
    return loss
