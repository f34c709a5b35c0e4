"""Learning-rate schedules by optimiser step that span the run, and can be resumed for longer."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from seg.errors import InputError


class Decay(LambdaLR):
    """Linear warm-up from lr / (warmup_steps + 1), then a decay to zero.

    Args:
        optimizer: The wrapped optimiser.
        total_steps: Optimiser steps of the whole run, warm-up included.
        warmup_steps: Optimiser steps of the warm-up.
        decay: From the share of the steps that are left, in [0, 1], to a factor of the rate.

    Raises:
        InputError: If the warm-up does not fit into the run, or a value is negative.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int | None,
        warmup_steps: int,
        decay: Callable[[float], float],
    ):
        name = type(self).__name__
        if total_steps is None:
            raise InputError(f"{name}: total_steps is None; give the steps of the run.")
        if warmup_steps < 0 or warmup_steps >= total_steps:
            raise InputError(
                f"{name}: warmup_steps={warmup_steps}, total_steps={total_steps}; expected "
                "0 <= warmup_steps < total_steps: shorten the warm-up or train longer."
            )
        super().__init__(optimizer, partial(_factor, total_steps, warmup_steps, decay))

    @property
    def total_steps(self) -> int:
        """Optimiser steps until the rate is zero."""
        factor: Any = self.lr_lambdas[0]
        return int(factor.args[0])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at a saved step, with the rate that this run, which may be longer, has there."""
        super().load_state_dict(state_dict)
        factors = [factor(self.last_epoch) for factor in self.lr_lambdas]
        rates = [base * factor for base, factor in zip(self.base_lrs, factors, strict=True)]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = rates


class PolynomialDecay(Decay):
    """Linear warm-up, then polynomial decay to zero: lr · (1 - t / T)^power over the T steps left.

    Args:
        optimizer: The wrapped optimiser.
        total_steps: Optimiser steps of the whole run, warm-up included. Left out, it is the length
            of the run.
        power: Exponent of the decay; 0.9 is usual in semantic segmentation, 1 is linear.
        warmup_steps: Optimiser steps of linear warm-up from lr / (warmup_steps + 1).

    Raises:
        InputError: If the warm-up does not fit into the run, or a value is negative.

    Reference:
        Chen et al., DeepLab, 2018, section 4.1 ("poly" policy).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int | None = None,
        power: float = 0.9,
        warmup_steps: int = 0,
    ):
        if power < 0:
            raise InputError(f"PolynomialDecay: power={power}; expected 0 or more.")
        super().__init__(optimizer, total_steps, warmup_steps, partial(_power, power))


class CosineDecay(Decay):
    """Linear warm-up, then half a cosine: lr · (1 + cos(π t / T)) / 2 over the T steps left.

    Args:
        optimizer: The wrapped optimiser.
        total_steps: Optimiser steps of the whole run, warm-up included. Left out, it is the length
            of the run.
        warmup_steps: Optimiser steps of linear warm-up from lr / (warmup_steps + 1).

    Raises:
        InputError: If the warm-up does not fit into the run, or is negative.

    Reference:
        Loshchilov and Hutter, SGDR, 2017, eq. 5, without restarts.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int | None = None, warmup_steps: int = 0):
        super().__init__(optimizer, total_steps, warmup_steps, _half_cosine)


def _factor(
    total_steps: int, warmup_steps: int, decay: Callable[[float], float], step: int
) -> float:
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return decay(max(0, total_steps - step) / (total_steps - warmup_steps))


def _power(power: float, left: float) -> float:
    return float(left**power)


def _half_cosine(left: float) -> float:
    return (1 - math.cos(math.pi * left)) / 2
