"""A resumed run takes every step that the run would have taken that was never stopped."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loops.evaluation_loop import RestartStage as EvaluationStage
from lightning.pytorch.loops.fit_loop import RestartStage as FitStage
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import RestartStage as EpochStage

from seg.errors import InputError
from seg.lifecycle.run_checkpoint import RunCheckpoint

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
            loops["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1
            for count in ("current", "total"):
                epochs = loops["epoch_progress"][count]
                epochs["processed"] = epochs["completed"] = epochs["ready"] - 1
        current = loops["epoch_loop.batch_progress"]["current"]
        if current["ready"] > current["processed"]:
            self._go_back(loops, resumed)
        for count in ("current", "total"):
            batches = loops["epoch_loop.batch_progress"][count]
            batches["completed"] = batches["ready"] = batches["started"] = batches["processed"]
        loops["epoch_loop.state_dict"]["_batches_that_stepped"] += 1

    def _go_back(self, loops: dict[str, Any], resumed: dict[str, Any]) -> None:
        """Go to before a step that an exception ended: it is still due, what came before is not."""
        progress = loops["epoch_loop.batch_progress"]
        place = {
            "epoch": loops["epoch_progress"]["current"]["processed"],
            "step": progress["current"]["processed"],
        }
        self._loaders = [state | place for state in self._loaders]
        progress["is_last_batch"] = False
        loops["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1
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
        assert trainer.fit_loop._combined_loader is not None
        trainer.fit_loop._combined_loader._load_state_dicts(self._loaders)
        trainer._logger_connector._callback_metrics.update(resumed["metrics"])
        self._validated = resumed["validated"]
        if resumed["epoch_ended"]:
            _begin_next_epoch(trainer.fit_loop)
            _step_plateaus(trainer)
        else:
            _go_on_within_epoch(trainer.fit_loop, resumed["validated"])
            # left out by Lightning, but it is where modules prepare for an epoch
            pl_module.on_train_epoch_start()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From here on nothing is resumed any more; save an epoch that is not over as it stands.

        The run ends in it, and others may now count it as a whole one.
        """
        trainer.fit_loop.epoch_loop._restarting = False
        if not trainer.fit_loop.epoch_loop._num_ready_batches_reached():
            self._let_early_stopping_wait(trainer, for_epoch_end=False)
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, RunCheckpoint):
                    callback.save_unfinished(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave early stopping as it was configured."""
        self._metrics = None
        while self._paused:
            callback, at_epoch_end = self._paused.pop()
            callback._check_on_train_epoch_end = at_epoch_end

    def _let_early_stopping_wait(self, trainer: L.Trainer, *, for_epoch_end: bool) -> None:
        """Have it look at the end of an epoch, or at validations, of which none is to come."""
        for callback in trainer.early_stopping_callbacks:
            if isinstance(callback, EarlyStopping):
                self._paused.append((callback, bool(callback._check_on_train_epoch_end)))
                callback._check_on_train_epoch_end = for_epoch_end


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
    fit = trainer.fit_loop
    assert fit._data_fetcher is not None
    trainer.should_stop = False
    due = fit.epoch_loop._should_check_val_fx(fit._data_fetcher)
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


def _begin_next_epoch(fit: _FitLoop) -> None:
    if fit.restarting:  # as Lightning takes it to be wherever max_steps is set
        fit.epoch_progress.increment_completed()
        fit.restarting = False
        for loop in (fit, fit.epoch_loop, fit.epoch_loop.val_loop):
            loop._restarting = False
            loop.reset_restart_stage()


def _go_on_within_epoch(fit: _FitLoop, validated: bool) -> None:
    steps = fit.epoch_loop
    fit._restarting = False  # else the schedulers would not be stepped at the end of the epoch
    fit._restart_stage = FitStage.RESTARTED_MID_EPOCH
    steps._restart_stage = EpochStage.RESTARTED_ON_LAST
    assert fit._data_fetcher is not None
    if steps._should_check_val_fx(fit._data_fetcher):
        # counted again after the validation, which is done or, where it was, passed over
        steps._batches_that_stepped -= 1
        if not validated:
            steps.val_loop._restarting = False
            steps.val_loop._restart_stage = EvaluationStage.RESTARTED_MID_EVALUATION
    elif steps._num_ready_batches_reached():
        steps.val_loop._has_run = True  # nothing but the end of the epoch is due


def _step_plateaus(trainer: L.Trainer) -> None:
    """Step what Lightning steps at the end of an epoch after the checkpoint is written."""
    trainer.fit_loop.epoch_loop._update_learning_rates("epoch", update_plateau_schedulers=True)
