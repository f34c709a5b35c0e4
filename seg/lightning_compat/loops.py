"""What of Lightning's loops has no public name: where a fit is, and how it goes on."""

from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.loops.evaluation_loop import RestartStage as EvaluationStage
from lightning.pytorch.loops.fit_loop import RestartStage as FitStage
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import RestartStage as EpochStage

FitLoop = _FitLoop
STEPPED = "_batches_that_stepped"
"""Key of a checkpoint's epoch loop: the count of steps that loggers are given."""


def steps_are_over(trainer: L.Trainer) -> bool:
    """Whether the step that was taken is the last of its epoch; the progress leaves out limits."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def validation_is_due(fit: FitLoop) -> bool:
    """Whether Lightning validates after the running step; many options decide on it."""
    assert fit._data_fetcher is not None
    return fit.epoch_loop._should_check_val_fx(fit._data_fetcher)


def may_stop_early(fit: FitLoop) -> bool:
    """Whether the least number of epochs and of steps are done; `done` would print its reason."""
    return fit._can_stop_early


def load_loader_states(trainer: L.Trainer, states: list[dict[str, Any]]) -> None:
    """Set the training loaders to their places; Lightning does so too early, or not at all."""
    loader = trainer.fit_loop._combined_loader
    assert loader is not None
    loader._load_state_dicts(states)


def load_metrics(trainer: L.Trainer, metrics: Mapping[str, Any]) -> None:
    """Put back what was logged last, which monitors and schedules read; no checkpoint has it."""
    trainer._logger_connector._callback_metrics.update(metrics)


def write_step_logs(trainer: L.Trainer) -> None:
    """Write what a step has logged, as Lightning would do after it; for a run that ends in it."""
    trainer._logger_connector.on_batch_end()
    trainer._logger_connector.update_train_step_metrics()


def step_plateau_schedules(trainer: L.Trainer) -> None:
    """Step the schedules that wait for a metric, as the end of an epoch does after its save."""
    trainer.fit_loop.epoch_loop._update_learning_rates("epoch", update_plateau_schedulers=True)


def end_of_restart(fit: FitLoop) -> None:
    """Have all loops take what follows for a run that was never stopped.

    The public setter of `restarting` would set the loops within as well, but not the stages.
    """
    for loop in (fit, fit.epoch_loop, fit.epoch_loop.val_loop):
        loop._restarting = False
        loop.reset_restart_stage()


def steps_follow(trainer: L.Trainer) -> None:
    """Have the epoch loop alone take the next epoch for one that begins at its first step."""
    trainer.fit_loop.epoch_loop._restarting = False


def restart_within_epoch(fit: FitLoop) -> None:
    """Have the loops go on after a step that is wholly done; there is no setting for the place."""
    fit._restarting = False  # else the schedulers would not be stepped at the end of the epoch
    fit._restart_stage = FitStage.RESTARTED_MID_EPOCH
    fit.epoch_loop._restart_stage = EpochStage.RESTARTED_ON_LAST


def count_step_again(fit: FitLoop) -> None:
    """Take back the count of a step, which is raised after the validation that follows it."""
    fit.epoch_loop._batches_that_stepped -= 1


def repeat_validation(fit: FitLoop) -> None:
    """Have the validation after the step done from its start."""
    fit.epoch_loop.val_loop._restarting = False
    fit.epoch_loop.val_loop._restart_stage = EvaluationStage.RESTARTED_MID_EVALUATION


def pass_over_validation(fit: FitLoop) -> None:
    """Have the loop take the validation for done, where only the end of the epoch is due."""
    fit.epoch_loop.val_loop._has_run = True


def send_no_sigterm(trainer: L.Trainer) -> None:
    """Leave out Lightning's own question to rank 0 in each step, which waits for the GPU."""
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
