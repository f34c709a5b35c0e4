"""The `seg` command. What a command needs is imported when it is given: torch takes seconds."""

import gc
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType

from lightning_utilities.core.rank_zero import rank_zero_only

from seg.cli.command_table import COMMANDS, TRAINER, commands_help
from seg.cli.shipped_configs import with_shipped_paths
from seg.cli.short_help import SHORT, short_help
from seg.distributed.launchers import started_by_lightning
from seg.errors import InputError, NonFiniteError, describe
from seg.lifecycle.stopped import Stopped, raising_signals
from seg.lightning_compat.lean_imports import lean_torchmetrics

_OF_NO_USE = (
    ".isinstance.treespec, LeafSpec",  # between lightning 2.6 and torch 2.14
    ".*callbacks used to create the checkpoint need to be provided",  # evaluation needs none
    "Checkpoint directory .* exists and is not empty",  # of a run that is resumed
    ".*does not have many workers",  # data.num_workers has a default by the cores
    ".*is smaller than the logging interval",  # the means of the epoch are logged
    ".*WeightAveraging callback with a model that overrides the configure_model",  # for FSDP only
    "SWA is currently only supported every epoch",  # it swaps the schedule for one by epochs
)
_SAID_ELSEWHERE = (
    "💡 Tip: For seamless cloud logging",  # an advert
    "Seed set to",
    "GPU available: ",  # one that is not used is warned of
    "TPU available: ",
    "Loading `train_dataloader`",
    "`Trainer.fit` stopped: `max_epochs=",
)
"""Beginnings of Lightning's messages that tell nothing beside what `seg` tells."""


def _show_messages() -> None:
    """Show what `seg` has to say, and not what only developers of its libraries can change."""
    logger = logging.getLogger("seg")
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)
    for message in _OF_NO_USE:
        warnings.filterwarnings("ignore", message)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(_is_new)


def _is_new(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_SAID_ELSEWHERE)


def _imported(module: str) -> ModuleType:
    """A module, in whose imports no garbage is looked for: then or later, it takes a second."""
    if module in sys.modules or not gc.isenabled():
        return import_module(module)
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.enable()
        gc.freeze()


def _at_home(arg: str) -> str:
    """An argument with the `~` of its path written out, which no shell does behind a `=`."""
    name, equals, value = arg.partition("=")
    if equals and name.startswith("--") and value.startswith("~/"):
        return f"{name}={os.path.expanduser(value)}"
    return os.path.expanduser(arg) if arg.startswith("~/") else arg


def _short_help(args: Sequence[str]) -> str:
    """The answer to a question for help, unless a parser has to give it."""
    if not any(arg in ("-h", "--help") for arg in args):
        return ""
    if args[0] in SHORT:
        return short_help(args[0])
    return commands_help() if args[0].startswith("-") else ""


def _command(args: Sequence[str]) -> Callable[[], int]:
    """What runs the command that the arguments begin with.

    Raises:
        InputError: If there is no such command.
    """
    if not args:
        raise InputError(f"give a command: {', '.join(COMMANDS)}; seg --help says what they do.")
    name = args[0]
    if name in COMMANDS:
        module = COMMANDS[name].module
        given = list(args if module == TRAINER else args[1:])
    elif name.startswith("-"):  # as in `seg --config ALL.yaml fit`, of which Lightning knows
        module, given = TRAINER, list(args)
    else:
        close = get_close_matches(name, COMMANDS, 1)
        hint = f"the nearest is {close[0]}" if close else "seg --help lists what there is"
        raise InputError(f"there is no command {name}; {hint}.")
    with lean_torchmetrics():
        run: Callable[[list[str]], int] = _imported(module).main
    return lambda: run(given)


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of the `seg` command; returns the exit status."""
    args = sys.argv[1:] if args is None else args
    if text := _short_help(args):
        print(text)
        return 0
    _show_messages()
    try:
        run = _command(
            ["--help" if arg == "--help-all" else _at_home(arg) for arg in with_shipped_paths(args)]
        )
        with raising_signals():
            return run()
    except Stopped as stopped:
        if stopped.message:
            print(f"seg: {stopped.message}", file=sys.stderr)
        return stopped.code
    except NonFiniteError as error:
        if getattr(rank_zero_only, "rank", 0) == 0:
            print(f"seg: error: {error}", file=sys.stderr)
        return 0 if started_by_lightning() else 2  # else it would kill the first process
    except InputError as error:
        print(f"seg: error: {describe(error)}", file=sys.stderr)
        return 2
