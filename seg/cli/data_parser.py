"""What the subcommands share: the data of a YAML, as `seg fit` reads it, and a progress bar."""

from collections.abc import Callable
from typing import Any

from rich.progress import Progress

from seg.cli.command_table import CONFIG
from seg.cli.parsers import CommandParser
from seg.data import SegmentationDataModule


def data_parser(command: str, description: str) -> CommandParser:
    """A parser that takes `-c FILE` and every option of `data`.

    Args:
        command: Name of the subcommand.
        description: What it does, for `--help`.
    """
    parser = CommandParser(prog=f"seg {command}", description=description)
    parser.add_argument("-c", "--config", action="config", help=CONFIG)
    parser.add_class_arguments(SegmentationDataModule, "data")
    return parser


def advancing(bar: Progress, name: str, total: int) -> Callable[[], Any]:
    """What is to be called for each of the `total` masks of a split."""
    task = bar.add_task(f"masks of {name}", total=total)
    return lambda: bar.advance(task)
