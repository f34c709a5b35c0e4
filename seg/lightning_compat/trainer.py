"""What of Lightning's trainer, strategies and callbacks has no public name."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins import LayerSync
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

SignalConnector = _SignalConnector
"""What takes the signals of a fit; it is no plugin that a Trainer could be given."""

ScriptLauncher = _SubprocessScriptLauncher
"""What starts the other ranks of a machine, and can send them a signal."""


def trainer_of(module: L.LightningModule) -> L.Trainer | None:
    """The trainer of a module; None without one, of which the public property is an error."""
    return module._trainer


def is_fitting(module: L.LightningModule) -> bool:
    """Whether a trainer fits the module at this moment; not without one."""
    trainer = trainer_of(module)
    return trainer is not None and trainer.state.fn == "fit"


def signal_connector(trainer: L.Trainer) -> SignalConnector:
    """What takes the signals of a trainer."""
    return trainer._signal_connector


def set_signal_connector(trainer: L.Trainer, connector: SignalConnector) -> None:
    """Have another take the signals; the trainer has no argument for it."""
    trainer._signal_connector = connector


def cluster_environment(trainer: L.Trainer) -> Any:
    """What a trainer was started by, such as SLURM; also for strategies that do not name it."""
    return trainer._accelerator_connector.cluster_environment


def is_requeued(trainer: L.Trainer) -> bool:
    """Whether SLURM starts the run again, from the checkpoint that Lightning left for it."""
    return trainer._checkpoint_connector._hpc_resume_path is not None


def spawns(strategy: Strategy) -> bool:
    """Whether the ranks are started by multiprocessing, in functions and not in scripts."""
    return isinstance(strategy.launcher, _MultiProcessingLauncher)


def has_own_saving(strategy: Any) -> bool:
    """Whether a strategy was given what saves its checkpoints; asked, it would make one."""
    return getattr(strategy, "_checkpoint_io", None) is not None


def layer_sync(strategy: ModelParallelStrategy) -> LayerSync | None:
    """What `trainer.sync_batchnorm` asks for; this strategy takes it and never applies it."""
    return strategy._layer_sync


def finds_unused_parameters(strategy: DDPStrategy) -> bool:
    """Whether DDP was told that parameters may be without gradient."""
    return bool(strategy._ddp_kwargs.get("find_unused_parameters"))


def looks_at_epoch_end(callback: EarlyStopping) -> bool:
    """Whether early stopping decides at the end of an epoch, else after a validation."""
    return bool(callback._check_on_train_epoch_end)


def look_at_epoch_end(callback: EarlyStopping, at_epoch_end: bool) -> None:
    """Set when early stopping decides; it can be told so only when it is made."""
    callback._check_on_train_epoch_end = at_epoch_end


def moments_within_epoch(callback: ModelCheckpoint) -> dict[str, Any]:
    """The options by which a callback saves within an epoch, by name; it has no public ones."""
    return {
        "every_n_train_steps": callback._every_n_train_steps,
        "train_time_interval": callback._train_time_interval,
    }


def saves_at_epoch_end(callback: ModelCheckpoint) -> bool | None:
    """Whether a callback saves at the end of an epoch; None where it was not told."""
    return callback._save_on_train_epoch_end


def save_at_epoch_end(callback: ModelCheckpoint, at_epoch_end: bool) -> None:
    """Set whether a callback saves at the end of an epoch, else after a validation."""
    callback._save_on_train_epoch_end = at_epoch_end


def numbers_versions(callback: ModelCheckpoint) -> bool:
    """Whether a callback gives a file another name where it would replace one."""
    return callback._enable_version_counter
