"""Which checkpoints a run keeps, and when they are saved."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from torch import Tensor

from seg.errors import InputError
from seg.lightning_compat.loops import may_stop_early, steps_are_over
from seg.lightning_compat.trainer import (
    is_requeued,
    moments_within_epoch,
    numbers_versions,
    save_at_epoch_end,
    saves_at_epoch_end,
)

log = logging.getLogger(__name__)


class RunCheckpoint(ModelCheckpoint):
    """Keeps the best checkpoint by a monitor, and `last.ckpt` of every epoch, best or not.

    A checkpoint that a validation chose holds the weights of that validation: it is saved when the
    validation ends, and at no other moment; `every_n_train_steps` or `train_time_interval` renew
    `last.ckpt` alone. Lightning's own would save the best then as well, with the score of an
    earlier validation, and renews `last.ckpt` only together with another checkpoint: a run that no
    longer improves would be resumed from its best epoch. A run that ends within an epoch is saved
    as it is before that epoch's end, which is still to come when it is resumed. A score that is not
    finite is never the best, not even for want of another.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.after_best: Callable[[L.Trainer], None] | None = None
        """Called on every rank when `best_model_path` has been written."""
        self._last_renewed = 0
        """The step of `last.ckpt`; -1 when there has been a validation since."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse settings by which a score would be saved with other weights."""
        super().setup(trainer, pl_module, stage)
        save_when_measured(self, trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        """Renew `last.ckpt` when the steps or the time for it have passed."""
        if self.monitor is None:
            super().on_train_batch_end(trainer, pl_module, *args)
        else:
            self._renew_last(trainer, due=self._is_due_within_epoch(trainer))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save what no validation chose, and `last.ckpt`."""
        if steps_are_over(trainer):
            if self.monitor is None:
                super().on_train_epoch_end(trainer, pl_module)
            elif self._save_on_train_epoch_end:
                self._save_best(trainer)
            self._renew_last(trainer, due=self._is_due(trainer) or _run_ends(trainer))
        elif self._should_save_on_train_epoch_end(trainer) and not self.best_model_path:
            # a mean over a part of an epoch is compared with no other
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def save_unfinished(self, trainer: L.Trainer) -> None:
        """Save a run that ends within an epoch, with all state as it is after the last step."""
        self._renew_last(trainer, due=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save what this validation chose; after a validation within an epoch also `last.ckpt`."""
        if self.monitor is None:
            super().on_validation_end(trainer, pl_module)
        elif not self._save_on_train_epoch_end:
            self._save_best(trainer)
        self._last_renewed = -1
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._renew_last(trainer, due=self._is_due(trainer))

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        """Whether a score, the same on all ranks, is among the best."""
        if current is not None and not bool(torch.as_tensor(current).isfinite()):
            if trainer.is_global_zero:
                log.warning("%s is %g: these weights are not the best.", self.monitor, current)
            return False
        return super().check_monitor_top_k(trainer, current)

    def _is_due(self, trainer: L.Trainer) -> bool:
        """Whether the checkpoints of this epoch are to be kept."""
        within = self._every_n_train_steps or self._train_time_interval is not None
        every = self._every_n_epochs or int(bool(within))
        return every >= 1 and (trainer.current_epoch + 1) % every == 0

    def _is_due_within_epoch(self, trainer: L.Trainer) -> bool:
        if self._every_n_train_steps:
            return trainer.global_step % self._every_n_train_steps == 0
        if self._train_time_interval is None or self._last_time_checked is None:
            return False
        now = time.monotonic()
        passed = now - self._last_time_checked >= self._train_time_interval.total_seconds()
        due: bool = trainer.strategy.broadcast(passed)  # by the clock of one rank
        if due:
            self._last_time_checked = now
        return due

    def _save_best(self, trainer: L.Trainer) -> None:
        if self._is_fitting(trainer) and self._is_due(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def _renew_last(self, trainer: L.Trainer, *, due: bool) -> None:
        if due and self._is_fitting(trainer) and self._last_renewed != trainer.global_step:
            saved = self._last_global_step_saved
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
            self._last_global_step_saved = saved  # the best of this step may still be due

    def _is_fitting(self, trainer: L.Trainer) -> bool:
        trial = trainer.fast_dev_run or trainer.sanity_checking  # type: ignore[attr-defined]
        return not trial and trainer.state.fn == "fit"

    def _save_last_checkpoint(
        self, trainer: L.Trainer, monitor_candidates: dict[str, Tensor]
    ) -> None:
        self._last_renewed = trainer.global_step
        super()._save_last_checkpoint(trainer, monitor_candidates)

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        if self.after_best is not None and filepath == self.best_model_path:
            self.after_best(trainer)


def save_when_measured(callback: ModelCheckpoint, trainer: L.Trainer) -> None:
    """Let a checkpoint that a metric chooses be saved only when that metric has been measured.

    A metric `train/...` is measured at the end of an epoch, any other at the end of a validation.

    Raises:
        InputError: If the callback is set to save at other moments, or the checkpoints that it
            keeps would overwrite each other.
    """
    name, monitor = type(callback).__name__, callback.monitor
    if callback.save_top_k not in (0, 1) and not numbers_versions(callback):
        _check_names(callback, trainer)
    if monitor is None:
        return
    of_epoch = monitor.startswith("train/")
    moment = "the end of an epoch" if of_epoch else "a validation"
    others: dict[str, Any] = {"save_on_exception": callback.save_on_exception}
    if not isinstance(callback, RunCheckpoint):
        others |= moments_within_epoch(callback)
    for option, value in others.items():
        if value:
            raise InputError(
                f"{name}: {option} {value} would save weights with the {monitor} of others, which "
                f"is measured at {moment}; leave it out. For last.ckpt within an epoch set "
                "checkpoint.every_n_train_steps or checkpoint.train_time_interval."
            )
    if saves_at_epoch_end(callback) not in (None, of_epoch):
        raise InputError(
            f"{name}: save_on_train_epoch_end {not of_epoch}: {monitor} is "
            f"measured at {moment}, and then the checkpoint is saved; leave it out."
        )
    save_at_epoch_end(callback, of_epoch)


def refuse_checkpoints(callbacks: Any) -> None:
    """Refuse callbacks that save, in a run that saves nothing.

    Args:
        callbacks: One, several or None.

    Raises:
        InputError: Names the callback.
    """
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        if isinstance(callback, Checkpoint):
            raise InputError(
                f"trainer.enable_checkpointing is false, and trainer.callbacks has "
                f"{type(callback).__name__}, which saves checkpoints; leave out one of the two."
            )


def refuse_to_overwrite(
    callback: ModelCheckpoint, trainer: L.Trainer, resumed: str | Path | None
) -> None:
    """Refuse a folder, given by `dirpath`, that holds the checkpoints of another run.

    Args:
        callback: What saves.
        trainer: The run's.
        resumed: The checkpoint that the run goes on from.

    Raises:
        InputError: If a checkpoint would be overwritten.
    """
    if callback.dirpath is None or numbers_versions(callback) or is_requeued(trainer):
        return
    folder = Path(callback.dirpath)
    found = sorted(folder.glob("*.ckpt"))
    if found and not (resumed and Path(resumed).resolve().parent == folder.resolve()):
        raise InputError(
            f"{type(callback).__name__}: dirpath {folder} holds {found[0].name} of another run, "
            "and this one may overwrite it; give another folder, or leave dirpath out. To go on "
            "with that run, give --ckpt_path."
        )


def _check_names(callback: ModelCheckpoint, trainer: L.Trainer) -> None:
    """Refuse to keep several checkpoints in one file."""
    filename = callback.filename or "{epoch}-{step}"
    once = trainer.val_check_interval == 1.0 and trainer.check_val_every_n_epoch is not None
    if "{step" not in filename and not (once and "{epoch" in filename):
        raise InputError(
            f"{type(callback).__name__}: save_top_k {callback.save_top_k} keeps several "
            f"checkpoints, and all would be {filename}.ckpt; set filename to {filename}-{{step}}."
        )


def _run_ends(trainer: L.Trainer) -> bool:
    """Whether the epoch that ends is the last; Lightning's own answer would print it."""
    fit: Any = trainer.fit_loop
    epochs = fit.epoch_progress.current.processed
    limits = ((fit.max_steps, trainer.global_step), (fit.max_epochs, epochs))
    reached = any(0 <= limit <= count for limit, count in limits)
    return reached or bool(trainer.should_stop and may_stop_early(fit))
