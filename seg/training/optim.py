"""Learning-rate schedules by optimiser step, and parameter groups for fine-tuning."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from seg.errors import InputError


class PolynomialDecay(LambdaLR):
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
        if total_steps is None:
            raise InputError("PolynomialDecay: total_steps is None; give the steps of the run.")
        if warmup_steps < 0 or power < 0 or warmup_steps >= total_steps:
            raise InputError(
                f"PolynomialDecay: warmup_steps={warmup_steps}, power={power}, "
                f"total_steps={total_steps}; expected power >= 0 and "
                "0 <= warmup_steps < total_steps: shorten the warm-up or train longer."
            )
        super().__init__(optimizer, partial(_polynomial_factor, total_steps, power, warmup_steps))


def _polynomial_factor(total_steps: int, power: float, warmup_steps: int, step: int) -> float:
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    left = max(0, total_steps - step) / (total_steps - warmup_steps)
    return float(left**power)


def build_scheduler(
    factory: Callable[..., LRScheduler], optimizer: Optimizer, total_steps: int
) -> LRScheduler:
    """Call `factory(optimizer)`, with `total_steps` where it takes that and was not given it.

    So `torch.optim.lr_scheduler.OneCycleLR` and `PolynomialDecay` span exactly the run, whatever
    its number of epochs, batches or devices.
    """
    given = factory.keywords if isinstance(factory, partial) else {}
    # OneCycleLR takes epochs and steps_per_epoch as well; where given, they stand
    open_length = given.get("total_steps") is None and given.get("epochs") is None
    if open_length and _takes(factory, "total_steps"):
        return factory(optimizer, total_steps=total_steps)
    return factory(optimizer)


def watched_metric(factory: Callable[..., Any]) -> str | None:
    """The metric that a schedule waits for; None where it goes by steps alone.

    Raises:
        InputError: If it waits for one, as torch's own ReduceLROnPlateau, and cannot say for which.
    """
    if _made_by(factory) is ReduceLROnPlateau:
        raise InputError(
            "model.lr_scheduler torch.optim.lr_scheduler.ReduceLROnPlateau watches a metric that "
            "it has no argument for; use lightning.pytorch.cli.ReduceLROnPlateau with monitor."
        )
    return factory.keywords.get("monitor") if isinstance(factory, partial) else None


def _takes(factory: Callable[..., Any], name: str) -> bool:
    return name in inspect.signature(_made_by(factory)).parameters


def _made_by(factory: Callable[..., Any]) -> Callable[..., Any]:
    """The class that a factory makes, or itself where it does not say."""
    if isinstance(factory, partial):
        # of a callable that jsonargparse made, the class is an argument
        return next((arg for arg in factory.args if inspect.isclass(arg)), factory.func)
    return factory


def parameter_groups(network: nn.Module, encoder: nn.Module | None) -> list[dict[str, Any]]:
    """Split the parameters of `network`: what is not in `encoder` first, the encoder's second."""
    inside = {id(p) for p in encoder.parameters()} if encoder is not None else set()
    groups = [
        {"params": [p for p in network.parameters() if id(p) not in inside]},
        {"params": [p for p in network.parameters() if id(p) in inside]},
    ]
    return [group for group in groups if group["params"]]


def scale_group(optimizer: Optimizer, scheduler: LRScheduler, group: int, factor: float) -> None:
    """Multiply the whole schedule of one parameter group by `factor`.

    Schedulers keep their rates in the group (OneCycleLR) or in `base_lrs` (LambdaLR); both follow.
    """
    settings = optimizer.param_groups[group]
    for key in ("lr", "initial_lr", "max_lr", "min_lr"):
        if key in settings:
            settings[key] *= factor
    if hasattr(scheduler, "base_lrs"):
        scheduler.base_lrs[group] *= factor
