"""Imports all that runs of the command need; those forked from this process need not do so."""

import gc
from importlib import import_module

import torch.utils.tensorboard  # noqa: F401

from seg.cli.command_table import COMMANDS
from seg.lightning_compat.lean_imports import lean_torchmetrics
from tests.conftest import draw_curves_on_request

with lean_torchmetrics():  # as in the command itself
    for command in COMMANDS.values():
        import_module(command.module)
    import_module("tests.moments")

draw_curves_on_request()

gc.freeze()  # no run looks for garbage among what is imported here
