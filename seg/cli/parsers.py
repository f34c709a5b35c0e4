"""Parsers whose errors are one line: the value, what is expected, the nearest name."""

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

_OPTION = re.compile(r"--([\w.]+)")
_KEY = re.compile(r'Parser key "([^"]+)":?')

Names = Callable[[], Sequence[str]]
"""Gives the names of all options, such as data.crop_size."""


class CommandParser(ArgumentParser):
    """That of a command of ours."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.family: list[ArgumentParser] = []
        """Those of the subcommands, whose options a wrong one is compared with."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the message in one line and end with status 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        print(f"seg: error: {one_line(message, self._names)}", file=sys.stderr)
        sys.exit(2)

    def _names(self) -> Sequence[str]:
        helps = [parser.format_help() for parser in (self, *self.family)]
        return sorted({name for text in helps for name in _OPTION.findall(text)})


def one_line(message: str, names: Names) -> str:
    """What a parser's message says, in one line.

    Args:
        message: As jsonargparse writes it.
        names: Asked where the nearest option is to be told.
    """
    key = _KEY.search(message)
    at = "" if key is None else f"{key[1]}: "
    for pattern, said in _RULES:
        if found := re.search(pattern, message, re.DOTALL):
            return f"{at}{said(found, names)}."
    lines = [line.strip(" -\t") for line in _KEY.sub(lambda k: f"{k[1]}:", message).splitlines()]
    return " ".join(line for line in lines if line)


def _unknown_argument(found: re.Match[str], names: Names) -> str:
    option = found[1].split("=")[0]
    if not option.startswith("--"):
        return f"{option}: no option stands before it"
    nearest = _nearest(option.lstrip("-"), names(), "--")
    return f"there is no {option}{nearest}"


def _unknown_key(found: re.Match[str], names: Names) -> str:
    key = f"data.{found[2]}" if found[1] == "Group 'data'" else found[2]
    return f"there is no {key}{_nearest(key, names())}"


def _unknown_option(found: re.Match[str], names: Names) -> str:
    return f"there is no {found[1]}{_nearest(found[1], names())}"


def _unknown_class(found: re.Match[str], names: Names) -> str:
    module, name = found.groups()
    return f"there is no {module}.{name}{_nearest(name, dir(import_module(module)))}"


def _unknown_init(found: re.Match[str], names: Names) -> str:
    path, name = found.groups()
    module, _, kind = path.rpartition(".")
    try:
        parameters = [*inspect.signature(getattr(import_module(module), kind)).parameters]
    except (AttributeError, ImportError, TypeError, ValueError):  # a class in C has none
        parameters = []
    return f"{path} takes no {name}{_nearest(name, parameters)}"


def _union(found: re.Match[str], names: Names) -> str:
    plain = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", found[1]).replace("NoneType", "null")
    kinds = " or ".join(kind.strip() for kind in re.split(r",\s*(?![^\[]*\])", plain))
    other = re.search(r"Expected a <class 'str'>\. Got value: (\w+|[\d.-]+)$", found.string, re.M)
    quote = ""
    if other is not None and "list[str]" in kinds:
        booleans = other[1] in ("True", "False")
        quote = "; YAML reads yes, no, on and off as True and False" if booleans else ""
        quote += ": quote them" if booleans else "; quote what is to be text"
    if re.match(r"tuple|list", kinds) and re.fullmatch(r"[\w.+-]+", found[2].strip()):
        quote = quote or f"; write several as [{found[2].strip()},...], without spaces"
    return f"expected {kinds}; got {found[2].strip()}{quote}"


def _expected(found: re.Match[str], names: Names) -> str:
    return f"expected {found[1]}; got {found[2].strip()}"


def _no_class(found: re.Match[str], names: Names) -> str:
    return f"{found[1].strip()} is no known class, and no file; write its class_path"


def _tab(found: re.Match[str], names: Names) -> str:
    return f"config: line {found[1]} begins with what YAML cannot take, such as a tab; use spaces"


_RULES: tuple[tuple[str, Callable[[re.Match[str], Names], str]], ...] = (
    (r"^unrecognized arguments: (\S+)", _unknown_argument),
    (r"(Subcommand '\w+'|Group '\w+') does not accept option '([\w.]+)'", _unknown_key),
    (r"^Option '([\w.]+)' is not accepted", _unknown_option),
    (r"cannot start any token.*? line (\d+), column", _tab),
    (r"module '([\w.]+)' has no attribute '(\w+)'", _unknown_class),
    (r"given class_path '([\w.]+)':\s+Option '(\w+)' is not accepted", _unknown_init),
    (r"Subtypes: \[(.*?)\]\n.*Given value: (.*)", _union),
    (r"Expected a <class '([\w.]+)'>\. Got value: (.*)", _expected),
    (r"- Expected a dot import path string: (.*)", _no_class),
    (r"^Call to compute_fn of link '.*?' with args .*? failed: (.*)\.$", lambda found, _: found[1]),
)


def _nearest(name: str, names: Sequence[str], dashes: str = "") -> str:
    close = get_close_matches(name, names, 1)
    last = [known for known in names if known.rpartition(".")[2] == name.rpartition(".")[2]]
    found = (close or last)[:1]
    return f"; the nearest is {dashes}{found[0]}" if found else "; --help-all lists what there is"
