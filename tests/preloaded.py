"""Imports all that runs of the command need; those forked from this process need not do so."""

import gc
from importlib import import_module

import torch.utils.tensorboard  # noqa: F401

import tests.moments  # noqa: F401
from seg.cli.command_table import COMMANDS
from tests.conftest import draw_curves_on_request

for command in COMMANDS.values():
    import_module(command.module)

draw_curves_on_request()

gc.freeze()  # no run looks for garbage among what is imported here
