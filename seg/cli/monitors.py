"""What callbacks and schedules watch must be logged, and be there when they look."""

import difflib
from collections.abc import Iterator

import lightning as L
from lightning.pytorch.cli import LRSchedulerCallable

from seg.errors import InputError
from seg.module import SegmentationModule
from seg.training.optim import watched_metric

_OF_ONE_STEP = "train/loss_step"


def check_monitors(trainer: L.Trainer, module: SegmentationModule) -> None:
    """Refuse, before training, to watch a metric that no step ever logs, or the wrong way.

    Raises:
        InputError: Names who watches what, and what there is to watch instead.
    """
    training = [name for name in module.training_metrics if name != _OF_ONE_STEP]
    validation = module.validation_metrics
    why = _no_validation(trainer)
    logged = training if why else [*validation, *training]
    for watcher, monitor in _watchers(trainer, module.lr_scheduler):
        if monitor in logged:
            continue
        known = [name for name in logged if "_share/" not in name]  # nobody's aim
        near = difflib.get_close_matches(monitor, known, n=3) or known[:4]
        fault = "which is never logged"
        if monitor in validation:
            fault += f" as {why}"
        elif monitor == _OF_ONE_STEP:
            fault = "the loss of one step, whatever step that is"
        raise InputError(f"{watcher} watches {monitor!r}, {fault}; use {' or '.join(near)}.")
    _check_schedule(trainer, module, validation)
    _check_modes(trainer)


def _watchers(trainer: L.Trainer, schedule: LRSchedulerCallable) -> Iterator[tuple[str, str]]:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        monitor = getattr(callback, "monitor", None)
        if monitor is not None:
            yield type(callback).__name__, monitor
    monitor = watched_metric(schedule)
    if monitor is not None:
        yield "model.lr_scheduler", monitor


def _no_validation(trainer: L.Trainer) -> str | None:
    """Why a fit never validates; None if it does."""
    if trainer.limit_val_batches == 0:
        return "trainer.limit_val_batches is 0"
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    if every is not None and epochs is not None and 0 <= epochs < every:
        return f"trainer.check_val_every_n_epoch {every} is more than trainer.max_epochs {epochs}"
    return None


def _check_modes(trainer: L.Trainer) -> None:
    """Refuse to keep the worst: a loss is best at its least, a score at its most."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        monitor, mode = getattr(callback, "monitor", None), getattr(callback, "mode", None)
        if monitor is None or mode not in ("min", "max"):
            continue
        wanted = "min" if monitor.split("/")[1] == "loss" else "max"
        if mode != wanted:
            raise InputError(
                f"{type(callback).__name__} watches {monitor!r} with mode {mode}, which prefers "
                f"the worst; set its mode to {wanted}."
            )


def _check_schedule(trainer: L.Trainer, module: SegmentationModule, validation: list[str]) -> None:
    """Refuse a schedule that looks after each epoch at what only some epochs validate."""
    monitor, every = watched_metric(module.lr_scheduler), trainer.check_val_every_n_epoch
    if monitor in validation and every != 1:
        raise InputError(
            f"model.lr_scheduler watches {monitor!r} after every epoch, but "
            f"trainer.check_val_every_n_epoch is {every}; set that to 1, or watch train/loss."
        )
