"""`seg init`: from a folder of images and masks to a YAML that reads it as it is."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from seg.cli.parsers import CommandParser
from seg.data.discovery.folder import Found, look_at
from seg.data.discovery.setting import Setting
from seg.data.discovery.yaml_file import next_commands, yaml_text
from seg.errors import InputError
from seg.files import write_text
from seg.report.terminal import print_lines

_SHOWN = 10


def main(args: list[str]) -> int:
    """Look at a folder and write the YAML; returns 1 if something stops a training.

    Raises:
        InputError: If no image pairs with a mask, or a file of that name is there.
    """
    parser = CommandParser(prog="seg init", description="From a folder of images to a YAML.")
    parser.add_argument(
        "folder", type=str, help="Holds images and masks; nothing in it is changed."
    )
    parser.add_argument("--output", default="mine.yaml", help="The YAML that is written.")
    parser.add_argument("--overwrite", action="store_true", help="Write it though it exists.")
    config = parser.parse_args(args)
    root, output = Path(config.folder), Path(config.output)
    lists = output.with_name(f"{output.stem}_splits")
    _refuse_place(root, output, lists, config.overwrite)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        found = look_at(root, partial(_advancing, bar))
    for role, names in found.lists.items():
        first = f"# Written by seg init {config.folder}\n"
        write_text(lists / f"{role}.txt", first + "".join(f"{name}\n" for name in names))
    found = _with_lists(found, lists, root)
    write_text(output, yaml_text(found, config.folder, output))
    _print(found, output, lists)
    return 1 if found.faults or found.questions else 0


def _refuse_place(root: Path, output: Path, lists: Path, overwrite: bool) -> None:
    """Refuse to write into the folder, or over what is there."""
    if Path(os.path.realpath(output)).is_relative_to(os.path.realpath(root)):
        raise InputError(
            f"{output}: lies in {root}, in which nothing is changed; give another --output."
        )
    for path in (output, lists):
        if os.path.lexists(path) and not overwrite:
            raise InputError(f"{path}: exists; write it anew with --overwrite, or give --output.")


def _advancing(bar: Progress, name: str, total: int) -> Callable[[], Any]:
    task = bar.add_task(name, total=total)
    return lambda: bar.advance(task)


def _with_lists(found: Found, lists: Path, root: Path) -> Found:
    """With the line that names the lists, if there are any."""
    if not found.lists:
        return found
    counts = ", ".join(f"{role} has {len(names)} images" for role, names in found.lists.items())
    reason = f"Lists written beside this file: {counts}."
    line = Setting("split_files", f"{_from_root(lists, root)}/{{split}}.txt", reason)
    place = 1 + max(i for i, s in enumerate(found.settings) if s.key in ("root", "images", "masks"))
    return replace(found, settings=(*found.settings[:place], line, *found.settings[place:]))


def _from_root(lists: Path, root: Path) -> str:
    """The lists' path from the folder, if both can be moved together; else from the top.

    They can where the folder is in that of the YAML, or beside it, and is no link to another.
    """
    real, folder = Path(os.path.realpath(lists)), Path(os.path.realpath(root))
    beside = real.parent.parent
    near = real.parent if beside == beside.parent else beside
    if not folder.is_relative_to(near) or folder != Path(os.path.abspath(root)):
        return real.as_posix()
    return Path(os.path.relpath(real, folder)).as_posix()


def _print(found: Found, output: Path, lists: Path) -> None:
    print_lines(found.summary)
    print_lines(found.remarks)
    print_lines(_first(found.faults), style="bold red")
    print_lines(found.questions, style="bold red")
    written = f"Written: {output}" + (f" and {lists}/" if found.lists else "")
    if found.faults:
        print_lines([written, "Settle what is red, then run seg init again with --overwrite."])
    elif found.questions:
        print_lines([f"{written}. Fill in what is red, then:", *next_commands(output)])
    else:
        print_lines([written, "Next:", *(f"  {command}" for command in next_commands(output))])


def _first(lines: tuple[str, ...]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"… and {more} more"] if more > 0 else [])]
