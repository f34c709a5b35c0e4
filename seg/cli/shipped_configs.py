"""The configurations that come with the program, by name: rare, loss/focal, data/camvid."""

import os
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from seg.errors import InputError

_PACKAGE = Path(__file__).resolve().parents[1]
_WHOLE = "experiment"
"""The folder of whole recipes, which a name without a folder means first."""

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)*")
_ATTACHED = re.compile(r"(-c=?|--config=)(.+)", re.DOTALL)


def folder() -> Path:
    """Where they are: in the package once it is installed, beside it in a checkout."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def shipped_names() -> list[str]:
    """All of them as FOLDER/NAME, the whole recipes first."""
    names = [f"{path.parent.name}/{path.stem}" for path in folder().glob("*/*.yaml")]
    return sorted(names, key=lambda name: (not name.startswith(f"{_WHOLE}/"), name))


def shipped_path(name: str) -> Path:
    """The file of a shipped configuration.

    Args:
        name: As in `shipped_names`. The folder may be left out: a whole recipe of that name comes
            first, then the only one of that name in any folder.

    Raises:
        InputError: If there is none of that name, or more than one; with the nearest.
    """
    names = shipped_names()
    for full in (name, f"{_WHOLE}/{name}"):
        if full in names:
            return folder() / f"{full}.yaml"
    found = [full for full in names if full.partition("/")[2] == name]
    if len(found) > 1:
        raise InputError(f"{name} may be {' or '.join(found)}; write the one that you mean.")
    if not found:
        raise InputError(f"{name}: {_nearest(name, names)}.")
    return folder() / f"{found[0]}.yaml"


def _nearest(name: str, names: Sequence[str]) -> str:
    """What an unknown name may have meant."""
    said = "no such file, and no shipped configuration"
    path = PurePosixPath(name)
    last = path.stem  # of configs/loss/focal.yaml that is not here, focal
    known = [*names, *(full.partition("/")[2] for full in names)]
    for part in ("/".join((*path.parts[-2:-1], last)), last):
        if close := get_close_matches(part, known, 1):
            return f"{said}; the nearest is {close[0]}"
    return f"{said}; `seg configs` lists them"


def with_shipped_paths(args: Sequence[str]) -> list[str]:
    """The arguments of a command, with the path of each shipped configuration for its name.

    A file of that name comes first, and YAML itself is left as it is.

    Raises:
        InputError: As `shipped_path`.
    """
    given = list(args)
    for place, arg in enumerate(args):
        if place and args[place - 1] in ("-c", "--config"):
            given[place] = _path_or_yaml(arg)
        elif found := _ATTACHED.fullmatch(arg):
            given[place] = f"--config={_path_or_yaml(found[2])}"
    return given


def _path_or_yaml(value: str) -> str:
    is_there = os.path.exists(value) and not os.path.isdir(value)  # a pipe is read as well
    if is_there or not _NAME.fullmatch(value):
        return value
    return str(shipped_path(value))
