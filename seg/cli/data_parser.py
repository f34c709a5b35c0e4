"""What the subcommands share: the data of a YAML, as `seg fit` reads it, and a progress bar."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.progress import Progress

from seg.cli.command_table import CONFIG
from seg.cli.parsers import CommandParser
from seg.data import SegmentationDataModule

OF_A_RUN = frozenset(
    {"trainer", "model", "checkpoint", "seed_everything", "ckpt_path", "weights_only", "name"}
    | {"class_curves", "trust"}
)
"""What the configuration of a run has beside `data`."""
_OPTIONS = ("-c", "--config")


class DataParser(CommandParser):
    """Takes the `data` alone of a run's configuration, which has `model` or `trainer` as well."""

    def parse_args(self, args: Sequence[str] | None = None, *others: Any, **given: Any) -> Any:  # type: ignore[override]
        """As jsonargparse's; `config` has the files as they were given."""
        changed, files = _data_alone(args or [])
        config = super().parse_args(changed, *others, **given)
        if files:
            config.config = files
        return config


def data_parser(command: str, description: str) -> CommandParser:
    """A parser that takes `-c FILE` and every option of `data`.

    Args:
        command: Name of the subcommand.
        description: What it does, for `--help`.
    """
    parser = DataParser(prog=f"seg {command}", description=description)
    parser.add_argument("-c", "--config", action="config", help=CONFIG)
    parser.add_class_arguments(SegmentationDataModule, "data")
    return parser


def _data_alone(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments with the data of each run's configuration in place of its file; the files."""
    found, files = [], []
    for before, arg in zip(["", *args], args, strict=False):
        option, equals, value = arg.partition("=")
        if before in _OPTIONS:
            files.append(arg)
            found.append(_data_of(arg))
        elif equals and option in _OPTIONS:
            files.append(value)
            found.append(f"{option}={_data_of(value)}")
        else:
            found.append(arg)
    return found, files


def _data_of(config: str) -> str:
    """The configuration without what is of a run alone, if it is that of a run; else itself."""
    try:
        read = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):  # which the parser tells
        return config
    if not isinstance(read, dict) or not read.keys() & {"model", "trainer"}:
        return config
    return json.dumps({key: value for key, value in read.items() if key not in OF_A_RUN})


def advancing(bar: Progress, name: str, total: int) -> Callable[[], Any]:
    """What is to be called for each of the `total` masks of a split."""
    task = bar.add_task(f"masks of {name}", total=total)
    return lambda: bar.advance(task)
