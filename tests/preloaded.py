"""Imports all that runs of the command need; those forked from this process need not do so."""

from importlib import import_module

import torch.utils.tensorboard  # noqa: F401

import tests.moments  # noqa: F401
from seg.cli.command_table import COMMANDS

for command in COMMANDS.values():
    import_module(command.module)
