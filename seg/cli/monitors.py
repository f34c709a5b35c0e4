"""What callbacks and schedules watch must be logged, and be there when they look."""

import difflib
from collections.abc import Iterator
from typing import Any

import lightning as L
from lightning.pytorch.cli import LRSchedulerCallable

from seg.errors import InputError
from seg.module import SegmentationModule
from seg.training.optim import watched_metric

_OF_ONE_STEP = "train/loss_step"
_BASE = "is a base class that does nothing by itself; give the path of a class of yours"
_REFUSED = {
    "BackboneFinetuning": "looks for model.backbone, which there is not; leave it out, and set "
    "model.freeze_encoder_epochs and model.encoder_lr_factor",
    "BaseFinetuning": _BASE,
    "BasePredictionWriter": _BASE,
    "ProgressBar": _BASE,
    "ModelPruning": "cannot prune weights whose channels are last in memory; leave it out, and "
    "prune what seg.load gives with torch.nn.utils.prune",
    "OnExceptionCheckpoint": "would have Lightning look for other checkpoints than the run's; "
    "leave it out, and set checkpoint.every_n_train_steps",
    "Timer": "cannot be written to config.yaml; leave it out, and set trainer.max_time",
}
"""Callbacks of Lightning that cannot work in a run, and what to do."""


def check_trainer(given: Any) -> None:
    """Refuse what a run cannot do of what Lightning's Trainer can, before anything is made.

    Args:
        given: The configuration's `trainer`.

    Raises:
        InputError: Says what to do.
    """
    if given.model_registry is not None:
        raise InputError(
            f"trainer.model_registry {given.model_registry} would send checkpoints elsewhere, "
            "which a run of seg does not; leave it out."
        )
    if given.barebones:
        raise InputError(
            "trainer.barebones true forbids the logs and checkpoints of a run; leave it out. "
            "To time steps, set trainer.enable_checkpointing false and limit_val_batches 0."
        )
    for callback in given.callbacks if isinstance(given.callbacks, list) else [given.callbacks]:
        package, _, name = getattr(callback, "class_path", "").rpartition(".")
        if package.startswith("lightning.") and name in _REFUSED:
            raise InputError(f"{name} {_REFUSED[name]}.")


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
