"""Optimisers with their schedules, and parameter groups for fine-tuning."""

import inspect
import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lightning.pytorch.cli import ReduceLROnPlateau as MonitoredPlateau
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LRScheduler,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
)

from seg.errors import InputError
from seg.training.schedules import Decay

# checkpoints of before name it here
from seg.training.schedules import PolynomialDecay as PolynomialDecay

log = logging.getLogger(__name__)


def optimizer_and_schedule(
    network: nn.Module,
    encoder: nn.Module | None,
    loss: nn.Module,
    optimizer_of: Callable[..., Optimizer],
    schedule_of: Callable[..., LRScheduler],
    encoder_lr_factor: float,
    total_steps: float,
    saved: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What Lightning takes from `configure_optimizers`: an optimiser and its schedule.

    Args:
        network: Whose parameters are trained; those outside the encoder are the first group.
        encoder: Part of the network, whose parameters are the second group; None without one.
        loss: What it learns itself is the last group, without weight decay.
        optimizer_of: From groups of parameters to their optimiser.
        schedule_of: From the optimiser to its schedule.
        encoder_lr_factor: Learning rate of the encoder, as a multiple of the others'.
        total_steps: Optimiser steps of the whole run; infinite where nothing limits it.
        saved: The state of a checkpoint's schedule, None for a run from its start.

    Raises:
        InputError: As `build_scheduler` and `check_schedule`.
    """
    groups = parameter_groups(network, encoder)
    optimizer = optimizer_of([*groups, *loss_group(loss)])
    scheduler = build_scheduler(schedule_of, optimizer, total_steps)
    check_schedule(scheduler, total_steps, saved)
    if len(groups) == 2 and encoder_lr_factor != 1.0:
        scale_group(optimizer, scheduler, 1, encoder_lr_factor)
    schedule: dict[str, Any] = {"scheduler": scheduler, "interval": "step"}
    if isinstance(scheduler, MonitoredPlateau):
        schedule |= {"interval": "epoch", "monitor": scheduler.monitor}
    return {"optimizer": optimizer, "lr_scheduler": schedule}


def build_scheduler(
    factory: Callable[..., LRScheduler], optimizer: Optimizer, total_steps: float
) -> LRScheduler:
    """Call `factory(optimizer)`, with `total_steps` where it takes that and was not given it.

    So `torch.optim.lr_scheduler.OneCycleLR` and `PolynomialDecay` span exactly the run, whatever
    its number of epochs, batches or devices.

    Raises:
        InputError: If it needs the length of a run that has none.
    """
    given = factory.keywords if isinstance(factory, partial) else {}
    # OneCycleLR takes epochs and steps_per_epoch as well; where given, they stand
    open_length = given.get("total_steps") is None and given.get("epochs") is None
    if open_length and _takes(factory, "total_steps"):
        _check_finite(getattr(_made_by(factory), "__name__", "the schedule"), total_steps)
        return factory(optimizer, total_steps=int(total_steps))
    return factory(optimizer)


def check_schedule(
    scheduler: LRScheduler, total_steps: float, saved: Mapping[str, Any] | None
) -> None:
    """Refuse a schedule that ends before the run, or is not that of the run that is resumed.

    Args:
        scheduler: As configured, before the state of a checkpoint is loaded.
        total_steps: Optimiser steps of the whole run; infinite where nothing limits it.
        saved: The state of the checkpoint's schedule, None for a run from its start.

    Raises:
        InputError: If the schedule has no rate, or the rate 0, for the last steps, or the
            checkpoint's is another one or has other settings, which would prevail in silence.
    """
    name = f"model.lr_scheduler {type(scheduler).__name__}"
    state: Mapping[str, Any] = scheduler.state_dict()
    if saved is not None:
        _check_same(name, scheduler, state, saved)
        state = saved
    if isinstance(scheduler, CosineAnnealingLR) and state["T_max"] < total_steps:
        log.warning(
            f"{name}: T_max counts optimiser steps and is {state['T_max']}; the run makes "
            f"{total_steps}, and after each T_max steps the rate rises again. For one fall over "
            "the whole run use seg.optim.CosineDecay."
        )
    length = _length(scheduler, state)
    if length is None or length[1] >= total_steps:
        return
    option, steps = length
    _check_finite(name, total_steps)
    after = "there is no rate" if isinstance(scheduler, OneCycleLR) else "the rate is 0"
    remedy = f"set {option} to {total_steps}"
    if saved is not None and not isinstance(scheduler, Decay):
        remedy = (
            "start a new run from the checkpoint's weights with --model.init_from; a run with "
            "seg.optim.PolynomialDecay or CosineDecay can be resumed for longer"
        )
    raise InputError(
        f"{name}: {option} {steps}, and the run makes {total_steps} steps; after step {steps} "
        f"{after}: {remedy}."
    )


def _length(scheduler: LRScheduler, state: Mapping[str, Any]) -> tuple[str, int] | None:
    """The option that says for how many steps there is a rate, and its value."""
    if isinstance(scheduler, Decay):
        return "total_steps", scheduler.total_steps
    options = {OneCycleLR: "total_steps", PolynomialLR: "total_iters"}
    option = options.get(type(scheduler))
    return None if option is None else (option, state[option])


def _check_finite(name: str, total_steps: float) -> None:
    if math.isinf(total_steps):
        raise InputError(
            f"trainer.max_epochs -1 without trainer.max_steps: {name} needs the length of the "
            "run; set --trainer.max_steps."
        )


def _check_same(
    name: str, scheduler: LRScheduler, state: Mapping[str, Any], saved: Mapping[str, Any]
) -> None:
    parameters = {name for cls in type(scheduler).__mro__ for name in _parameters(cls)}
    settings = (parameters | {"lr_lambdas"}) & state.keys()
    if settings - saved.keys():
        raise InputError(
            f"{name}: the checkpoint was written with another schedule; resume with that one, or "
            "start a new run from the checkpoint's weights with --model.init_from."
        )
    for setting in sorted(settings - {"last_epoch", "lr_lambdas", "total_steps"}):
        if state[setting] != saved[setting]:
            raise InputError(
                f"{name}: {setting} is {state[setting]}, and the checkpoint was written with "
                f"{saved[setting]}, which a schedule keeps; resume with {saved[setting]}, or start "
                "a new run from the checkpoint's weights with --model.init_from."
            )


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
    return name in _parameters(_made_by(factory))


def _parameters(made_by: Callable[..., Any]) -> Mapping[str, Any]:
    return inspect.signature(made_by).parameters


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


def loss_group(loss: nn.Module) -> list[dict[str, Any]]:
    """The group of what a loss learns itself, without weight decay; none if it learns nothing."""
    parameters = list(loss.parameters())
    return [{"params": parameters, "weight_decay": 0.0}] if parameters else []


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
