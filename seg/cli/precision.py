"""What fills in the precision of a run where none was set."""

import logging
from importlib import import_module
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.plugins import Precision
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning_utilities.core.rank_zero import rank_zero_only

from seg.checkpoint_files.contents import read_checkpoint
from seg.training.precision import (
    FULL,
    device_type,
    precision_of_device,
    precision_of_evaluation,
)

log = logging.getLogger(__name__)


def link_precision(trainer: Namespace, command: str, checkpoint: str | None) -> None:
    """Fill in the precision, unless it was set: by the device, or as the checkpoint's run had it.

    Args:
        trainer: The `trainer` part of the configuration, changed in place.
        command: The command, such as fit.
        checkpoint: What is evaluated, or resumed with the configuration that it carries.
    """
    if trainer.precision is not None or _has_precision(trainer):
        return
    if checkpoint is None:
        found = _chosen(trainer)
        if found is not None:
            trainer.precision, device = found
            text = "Precision %s, chosen for %s; --trainer.precision sets another."
            _say(text, trainer.precision, device)
    elif command == "fit":
        trainer.precision = FULL  # of an older version, which had that where none was set
    else:
        trainer.precision = stored_precision(checkpoint, trainer.accelerator, trainer.devices)


def stored_precision(checkpoint: str, accelerator: Any = "auto", devices: Any = "auto") -> str:
    """The precision to evaluate a checkpoint in; the log says where it is not that of its run."""
    config = read_checkpoint(checkpoint).get("config", {})
    stored = config.get("trainer", {}).get("precision")
    precision, missing = precision_of_evaluation(stored, device_type(accelerator), devices)
    if missing:
        text = "Precision %s: the run had %s, for which this device has no fast instructions."
        _say(text, precision, missing)
    return precision


def _say(text: str, *values: str) -> None:
    if getattr(rank_zero_only, "rank", 0) == 0:
        log.info(text, *values)


def _chosen(trainer: Namespace) -> tuple[str, str] | None:
    """The precision by device and strategy, and what it is chosen for."""
    device = device_type(trainer.accelerator)
    strategy = getattr(trainer.strategy, "class_path", trainer.strategy)
    if device == "cuda" and any(word in str(strategy) for word in ("fork", "notebook")):
        return FULL, "a strategy that forks"  # before which no process may ask the GPU
    found = precision_of_device(device, trainer.devices)
    if found and found[0] == "16-mixed" and _is_a(strategy, ModelParallelStrategy):
        return FULL, "sharding on a GPU without bf16"  # it has no scaler of gradients
    return found


def _has_precision(trainer: Namespace) -> bool:
    """Whether a plugin or the strategy brings a precision of its own."""
    plugins = trainer.plugins if isinstance(trainer.plugins, list) else [trainer.plugins]
    own = trainer.strategy.get("init_args") if isinstance(trainer.strategy, Namespace) else None
    return bool(own and own.get("precision_plugin")) or any(
        _is_a(getattr(plugin, "class_path", None), Precision) for plugin in plugins
    )


def _is_a(path: Any, kind: type) -> bool:
    """Whether a dotted path is that of a class of this kind; names of Lightning's are not."""
    module, _, name = str(path).rpartition(".")
    found = getattr(import_module(module), name, None) if module else None
    return isinstance(found, type) and issubclass(found, kind)
