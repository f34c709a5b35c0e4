"""What a user gives a loss: numbers, and one value a class, in whatever holds them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from seg.losses.tracing import beside, unreadable

if TYPE_CHECKING:
    ClassValues = Sequence[float] | np.ndarray[Any, Any] | Tensor
    """One value a class, (C,)."""
else:
    ClassValues = list[float]  # what a configuration can say, and its help shows

ClassVector = Float[Tensor, " c"] | Integer[Tensor, " c"] | np.ndarray | Sequence[float]
"""One value a class, (C,), of a function."""


def class_values(name: str, values: Any) -> Tensor:
    """A copy of the values as fp32 (C,), where a tensor lies, else on the CPU.

    Args:
        name: The argument for which they were given, for the messages.
        values: A list, tuple, array or tensor of one number a class.

    Raises:
        ValueError: If they are no numbers in one dim, or a tensor that waits for a gradient.
    """
    device = None
    if isinstance(values, Tensor):
        if values.requires_grad:
            raise ValueError(
                f"{name} requires a gradient, which the values of a class never get; pass "
                f"{name}.detach()."
            )
        if values.ndim == 1 and not values.is_complex() and unreadable(values):
            return values.to(torch.float32, copy=True)
        device = values.device
    return torch.tensor(_numbers(name, values), dtype=torch.float32, device=device)


def check_weights(name: str, values: Tensor) -> None:
    """Refuses what is no set of weights: a number that is negative, inf or NaN, or only zeros."""
    if unreadable(values):
        return
    for value in values.tolist():
        if not 0 <= value < math.inf:
            raise ValueError(
                f"{name}={_shown(values)}: {value:g} is no weight; use finite numbers >= 0."
            )
    if not values.any():
        raise ValueError(
            f"{name}={_shown(values)}: nothing is left to learn; make a weight positive."
        )


def class_vector(name: str, values: float | ClassVector, logits: Tensor) -> Tensor:
    """The values (C,) of a function's argument, on the device of the logits (N, C, *d).

    Raises:
        ValueError: If they are not one number for each channel of the logits.
    """
    if not isinstance(values, Tensor):
        values = torch.tensor(_numbers(name, values), device=logits.device)
    elif not values.is_floating_point():
        values = values.float()
    check_class_vector(name, values, logits.shape[1])
    return beside(values, logits)


def check_class_vector(name: str, values: Tensor, length: int) -> None:
    """Refuses class weights that are not one number for each of the `length` channels."""
    if values.shape != (length,):
        raise ValueError(
            f"{name} of shape {tuple(values.shape)} for logits of {length} channels: expected "
            f"({length},); give one value for each."
        )


def is_number(value: Any) -> bool:
    """Whether this is one number, also as an array or a tensor without dims."""
    return (not isinstance(value, str) and getattr(value, "ndim", None) == 0) or _is_real(value)


def number(name: str, value: Any) -> float:
    """The one number of an argument, which an array or a tensor of one element may hold.

    Raises:
        ValueError: If it is no number, or more than one.
    """
    if _is_real(value):
        return float(value)
    listed = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(listed, list | tuple) and len(listed) == 1:
        listed = listed[0]
    if not _is_real(listed):
        raise ValueError(f"{name}={_shown(value)}: expected one number.")
    return float(listed)


def _numbers(name: str, values: Any) -> list[float]:
    listed = values.tolist() if hasattr(values, "tolist") else values
    try:
        if not isinstance(listed, Sequence) or isinstance(listed, str):
            raise TypeError
        return [float(value) for value in listed]
    except (TypeError, ValueError):
        shape = f" of shape {tuple(values.shape)}" if hasattr(values, "shape") else ""
        raise ValueError(
            f"{name}={_shown(values)}{shape}: expected one number a class, such as [1.0, 2.5]."
        ) from None


def _is_real(value: Any) -> bool:
    # a tuple, as torch 2.6 to 2.10 cannot compile a union
    return isinstance(value, (int, float, np.integer, np.floating))


def _shown(values: Any) -> str:
    """A few of the values, on one line."""
    text = " ".join(str(values.tolist() if hasattr(values, "tolist") else values).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
