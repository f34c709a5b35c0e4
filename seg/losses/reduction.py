"""How element losses become one: their mean over what counts, their sum, or none of both."""

from typing import Literal, get_args

import torch
from torch import Tensor

Reduction = Literal["none", "mean", "sum"]
"""`none` keeps the loss of each element; `mean` divides by the sum of the weights that count."""

_REDUCTIONS = get_args(Reduction)  # here, as torch 2.6 cannot compile the call


def mean_of(total: Tensor, divisor: Tensor) -> Tensor:
    """The mean total / divisor; 0 with a zero gradient if nothing counts and the divisor is 0."""
    return total / torch.where(divisor == 0, 1, divisor)


def reduce_losses(losses: Tensor, weights: Tensor, reduction: Reduction) -> Tensor:
    """Reduces element losses, which are 0 where ignored, as the reduction says.

    Args:
        losses: One weighted loss an element.
        weights: What each element adds to the divisor of the mean: its weight or whether it counts.
        reduction: `none`, `mean` or `sum`.

    Raises:
        ValueError: If the reduction is none of these.
    """
    check_reduction(reduction)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return mean_of(losses.sum(), sum_of_weights(weights, losses))


def sum_of_weights(weights: Tensor, losses: Tensor) -> Tensor:
    """The divisor of the mean, Σ of the weights, in the dtype of the losses."""
    return weights.sum().to(losses.dtype)


def check_reduction(reduction: str) -> None:
    """Refuses an unknown reduction."""
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction {reduction!r}: expected one of {_REDUCTIONS}.")
