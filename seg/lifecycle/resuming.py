"""A resumed run takes every step that the run would have taken that was never stopped."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping

from seg.errors import InputError
from seg.lifecycle.run_checkpoint import RunCheckpoint
from seg.lightning_compat.loops import (
    STEPPED,
    FitLoop,
    count_step_again,
    end_of_restart,
    load_loader_states,
    load_metrics,
    pass_over_validation,
    repeat_validation,
    restart_within_epoch,
    step_plateau_schedules,
    steps_are_over,
    steps_follow,
    validation_is_due,
)
from seg.lightning_compat.trainer import look_at_epoch_end, looks_at_epoch_end

_KEY = "seg.resuming"


class ExactResume(L.Callback):
    """Makes Lightning's loops go on exactly where a checkpoint was written.

    Left to itself, Lightning 2.6 leaves out the validation and the end of an epoch when the
    checkpoint is of its last batch or of its validation, counts an epoch twice when `max_steps` is
    set, takes an epoch in which the run ended for a whole one, loses a step of ReduceLROnPlateau
    in each resumed epoch, and the place in the training data when the schedule asks for the number
    of steps. A validation that had not ended is done from its start.
    """

    def __init__(self) -> None:
        self._validated = False
        self._resumed: dict[str, Any] | None = None
        self._loaders: list[dict[str, Any]] = []
        self._metrics: dict[str, Any] | None = None
        self._paused: list[tuple[EarlyStopping, bool]] = []

    def attach(self, trainer: L.Trainer) -> None:
        """Become the trainer's first callback: what it saves, no other has yet changed."""
        trainer.callbacks.insert(0, self)  # type: ignore[attr-defined]

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """From here on, the newest validation is not of the newest weights."""
        self._validated = False

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave a validation that only the end of the run asks for out of what decides later."""
        if trainer.sanity_checking or _validation_is_due(trainer):
            return
        self._metrics = dict(trainer.callback_metrics)
        self._let_early_stopping_wait(trainer, for_epoch_end=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note that the validation of these weights is over, before a checkpoint is written."""
        self._validated = not trainer.sanity_checking

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put in what Lightning leaves out: what is done since the last step, and the metrics."""
        progress: Any = trainer.fit_loop.epoch_progress.current
        checkpoint[_KEY] = {
            "validated": self._validated,
            "epoch_ended": progress.processed == progress.ready,
            "metrics": dict(trainer.callback_metrics) if self._metrics is None else self._metrics,
        }

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """State the progress within an epoch as that of a step which is wholly done."""
        self._resumed = resumed = checkpoint.get(_KEY)
        if resumed is None:
            return
        loops = checkpoint["loops"]["fit_loop"]
        self._loaders = loops["state_dict"].get("combined_loader", [])
        if epoch_is_over(checkpoint):
            return
        if resumed["epoch_ended"]:  # with the run, and not after its last batch
            resumed["epoch_ended"] = False
            loops["epoch_loop.state_dict"][STEPPED] -= 1
            for count in ("current", "total"):
                epochs = loops["epoch_progress"][count]
                epochs["processed"] = epochs["completed"] = epochs["ready"] - 1
        current = loops["epoch_loop.batch_progress"]["current"]
        if current["ready"] > current["processed"]:
            self._go_back(loops, resumed)
        for count in ("current", "total"):
            batches = loops["epoch_loop.batch_progress"][count]
            batches["completed"] = batches["ready"] = batches["started"] = batches["processed"]
        loops["epoch_loop.state_dict"][STEPPED] += 1

    def _go_back(self, loops: dict[str, Any], resumed: dict[str, Any]) -> None:
        """Go to before a step that an exception ended: it is still due, what came before is not."""
        progress = loops["epoch_loop.batch_progress"]
        place = {
            "epoch": loops["epoch_progress"]["current"]["processed"],
            "step": progress["current"]["processed"],
        }
        self._loaders = [state | place for state in self._loaders]
        progress["is_last_batch"] = False
        loops["epoch_loop.state_dict"][STEPPED] -= 1
        resumed["validated"] = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the loops to what is due next, and the loader to its place.

        Raises:
            InputError: If the training data is not in the order of before, or an epoch is shorter
                than what is done of this one.
        """
        resumed, self._resumed = self._resumed, None
        if resumed is None:
            return
        if not resumed["epoch_ended"]:
            _check_length(trainer)
        load_loader_states(trainer, self._loaders)
        load_metrics(trainer, resumed["metrics"])
        self._validated = resumed["validated"]
        if resumed["epoch_ended"]:
            _begin_next_epoch(trainer.fit_loop)
            step_plateau_schedules(trainer)
        else:
            _go_on_within_epoch(trainer.fit_loop, resumed["validated"])
            # left out by Lightning, but it is where modules prepare for an epoch
            pl_module.on_train_epoch_start()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From here on nothing is resumed any more; save an epoch that is not over as it stands.

        The run ends in it, and others may now count it as a whole one.
        """
        steps_follow(trainer)
        if not steps_are_over(trainer):
            self._let_early_stopping_wait(trainer, for_epoch_end=False)
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, RunCheckpoint):
                    callback.save_unfinished(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave early stopping as it was configured."""
        self._metrics = None
        while self._paused:
            callback, at_epoch_end = self._paused.pop()
            look_at_epoch_end(callback, at_epoch_end)

    def _let_early_stopping_wait(self, trainer: L.Trainer, *, for_epoch_end: bool) -> None:
        """Have it look at the end of an epoch, or at validations, of which none is to come."""
        for callback in trainer.early_stopping_callbacks:
            if isinstance(callback, EarlyStopping):
                self._paused.append((callback, looks_at_epoch_end(callback)))
                look_at_epoch_end(callback, for_epoch_end)


def epoch_is_over(checkpoint: dict[str, Any]) -> bool:
    """Whether the epoch in which a checkpoint was written is to be trained and logged no further.

    So for one written without `ExactResume`, of which this is not known.
    """
    batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    own = checkpoint.get(_KEY)
    return own is None or bool(own["epoch_ended"] and batches["is_last_batch"])


def _validation_is_due(trainer: L.Trainer) -> bool:
    """Whether the running validation would take place in a run that goes on as well."""
    if not trainer.should_stop:
        return True
    trainer.should_stop = False
    due = validation_is_due(trainer.fit_loop)
    trainer.should_stop = True
    return due


def _check_length(trainer: L.Trainer) -> None:
    done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    steps = trainer.num_training_batches
    if done > steps:
        raise InputError(
            f"trainer.limit_train_batches makes epochs of {steps} steps, and the checkpoint is of "
            f"step {done} of its epoch: expected {done} or more; resume with the limit of before."
        )


def _begin_next_epoch(fit: FitLoop) -> None:
    if fit.restarting:  # as Lightning takes it to be wherever max_steps is set
        fit.epoch_progress.increment_completed()
        fit.restarting = False
        end_of_restart(fit)


def _go_on_within_epoch(fit: FitLoop, validated: bool) -> None:
    restart_within_epoch(fit)
    if validation_is_due(fit):
        # by the end of the validation, which is done or, where it was done before, passed over
        count_step_again(fit)
        if not validated:
            repeat_validation(fit)
    elif steps_are_over(fit.trainer):
        pass_over_validation(fit)  # nothing but the end of the epoch is due
