"""What a loss refuses, each time with what to do instead."""

import torch
from torch import Tensor

from seg.lightning_compat.torch_names import assert_async
from seg.losses.tracing import traced, transformed, unreadable


def check_logits(logits: Tensor) -> None:
    """Refuses logits that are not floating (N, C, *d)."""
    if logits.ndim < 2 or not logits.is_floating_point():
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} and {logits.dtype}: expected floating scores "
            "(N, C, *d) with the classes at dim 1."
        )


def check_softmax_pair(
    logits: Tensor, target: Tensor, binary_twin: str = "BinaryCrossEntropyLoss"
) -> None:
    """Refuses a target that is neither ids (N, *d) nor probabilities (N, C, *d).

    Args:
        logits: Scores (N, C, *d) of two classes or more.
        target: What should pair with them.
        binary_twin: The loss that takes logits of one channel.

    Raises:
        ValueError: If the shapes do not pair, if the classes are last, or if the dtype does not
            go with the shape.
    """
    check_logits(logits)
    if logits.shape[1] < 2:
        raise ValueError(
            f"logits {tuple(logits.shape)} of {logits.shape[1]} channel: a softmax over it is 1 "
            f"whatever the logits; use seg.losses.{binary_twin}, or give a channel to each class, "
            "the background too."
        )
    ids_shape = logits.shape[:1] + logits.shape[2:]
    floating = target.is_floating_point()
    if target.shape == (logits.shape if floating else ids_shape):
        if target.dtype == torch.bool:
            raise ValueError("a bool target is no class id; pass target.long().")
        return
    if target.shape == ids_shape:
        raise ValueError(
            f"class ids {tuple(target.shape)} of dtype {target.dtype}: expected an integer dtype; "
            "pass target.long()."
        )
    if target.shape == logits.shape:
        raise ValueError(
            f"class probabilities {tuple(target.shape)} of dtype {target.dtype}: expected a "
            "floating dtype; pass target.float(), or class ids by target.argmax(1)."
        )
    remedy = _classes_last(logits, target) or (
        f"expected class ids {tuple(ids_shape)} or class probabilities {tuple(logits.shape)}."
    )
    raise ValueError(_mismatch(logits, target) + remedy)


def pair_binary(logits: Tensor, target: Tensor) -> Tensor:
    """Gives the target the shape of the logits, so that nothing can broadcast.

    Args:
        logits: One logit for each pixel (N, 1, *d), or C independent ones (N, C, *d).
        target: The same shape; with one logit (N, *d) is taken as well.

    Raises:
        ValueError: If the shapes do not pair or the classes are last.
    """
    check_logits(logits)
    if target.shape == logits.shape:
        return target
    if logits.shape[1] == 1 and target.shape == logits.shape[:1] + logits.shape[2:]:
        return target.unsqueeze(1)  # (n, *d) -> (n, 1, *d)
    remedy = _classes_last(logits, target) or (
        f"expected {tuple(logits.shape)}, or (N, *d) for logits (N, 1, *d)."
    )
    raise ValueError(_mismatch(logits, target) + remedy)


def check_range(values: Tensor, upper: float, expected: str) -> None:
    """Refuses a target value outside [0, upper]; ignored places must hold 0 by now.

    On CUDA, and in a graph, the check is an asynchronous assertion: no step waits for it, but its
    message cannot hold the value. Elsewhere it is one pass over the target.

    Raises:
        ValueError: With the value (a RuntimeError without it where asynchronous).
    """
    if values.numel() == 0 or values.dtype == torch.bool:
        return
    if not traced() and transformed():
        _check_range_of_all(values, upper, expected)
        return
    low, high = torch.aminmax(values)
    if values.is_cuda or unreadable(values):
        inside = ~((low < 0) | (high > upper))
        assert_async(inside, f"a target value is not {expected}.")
    elif low < 0 or high > upper:
        value = (low if low < 0 else high).item()
        raise ValueError(
            f"target value {value} is not {expected}; map it to one of these before the loss."
        )


# An operator sees the values themselves, which a transform of torch.func hides.
@torch.library.custom_op("seg::check_range", mutates_args=())
def _check_range_of_all(values: Tensor, upper: float, expected: str) -> Tensor:
    check_range(values, upper, expected)
    return values.new_empty(0)


@_check_range_of_all.register_fake
def _nothing(values: Tensor, upper: float, expected: str) -> Tensor:
    return values.new_empty(0)


@_check_range_of_all.register_vmap
def _check_range_of_samples(
    info: object, in_dims: object, values: Tensor, upper: float, expected: str
) -> tuple[Tensor, None]:
    return _check_range_of_all(values, upper, expected), None


def label_error(num_classes: int, ignore_index: int, value: int | None = None) -> str:
    """What is wrong with a label that is neither a class nor ignored."""
    found = "a target value" if value is None else f"target value {value}"
    return (
        f"{found} is not a class id 0..{num_classes - 1} or ignore_index {ignore_index}; map it to "
        "one of these before the loss."
    )


def _mismatch(logits: Tensor, target: Tensor) -> str:
    return f"logits {tuple(logits.shape)} and target {tuple(target.shape)} do not pair: "


def _classes_last(logits: Tensor, target: Tensor) -> str:
    """The remedy if one of the two tensors holds its classes in the last dim, else nothing."""
    last = f"holds the classes in dim {logits.ndim - 1}, but they belong in dim 1; pass "
    if target.shape == logits.shape[:-1]:
        return f"logits {last}logits.movedim(-1, 1)."
    if target.ndim == logits.ndim and target.movedim(-1, 1).shape == logits.shape:
        return f"target {last}target.movedim(-1, 1)."
    if target.ndim == logits.ndim and target.shape == logits.movedim(-1, 1).shape:
        return f"logits {last}logits.movedim(-1, 1)."
    return ""
