"""Imports all that runs of the command need; those forked from this process need not do so."""

import gc
from importlib import import_module

import torch.utils.tensorboard  # noqa: F401

from seg.cli.command_table import COMMANDS, TRAINER
from seg.lightning_compat.lean_imports import lean_torchmetrics
from tests.conftest import draw_curves_on_request

with lean_torchmetrics():  # as in the command itself
    for command in COMMANDS.values():
        import_module(command.module)
    import_module("tests.moments")

draw_curves_on_request()


def read_options() -> None:
    """Have what is found in the sources of these classes known to all runs."""
    cli = import_module(TRAINER)
    classes = {"model": cli.SegmentationModule, "data": cli.SegmentationDataModule}
    classes |= {"trainer": cli.Trainer, "checkpoint": cli.RunCheckpoint}
    parser = cli.RunParser()
    for name, of in classes.items():
        parser.add_lightning_class_args(of, name)
    parser.set_defaults({"model.network": cli.DEFAULT_NETWORK})
    parser.get_defaults()


read_options()
gc.freeze()  # no run looks for garbage among what is imported here
