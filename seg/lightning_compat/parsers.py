"""What of jsonargparse and argparse has no public name."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from jsonargparse import ArgumentParser, _core, _subcommands, _typehints, _util, typing

_DISCARD = "discard_init_args_on_class_path_change"
_FIND, _PATH = "find_action_and_subcommand", "get_import_path"
_FINDING, _NAMING = (_subcommands, _core), (_util, typing)
"""Modules that have those two functions."""


def option_of(parser: ArgumentParser, key: str) -> Any:
    """An option of a parser, to change what its help says of it."""
    return next(action for action in parser._actions if action.dest == key)


@contextmanager
def discarding(discard: Callable[[Any, Any, Any], None]) -> Iterator[None]:
    """Within it, `discard` drops the arguments of a class that gave way to another.

    There is no setting for what is dropped.

    Args:
        discard: From the parser or its option, the value before, changed in place, and the new one.
    """
    with _in_place(_typehints, _DISCARD, discard):
        yield


@contextmanager
def known_classes() -> Iterator[None]:
    """Within it, the shortest import path of a class is looked for once, not thousands of times."""
    original = getattr(_util, _PATH)
    known: dict[type, Any] = {}

    def get_import_path(value: Any) -> Any:
        if not isinstance(value, type):
            return original(value)
        if value not in known:
            known[value] = original(value)
        return known[value]

    with ExitStack() as stack:
        for module in _NAMING:
            stack.enter_context(_in_place(module, _PATH, get_import_path))
        yield


@contextmanager
def known_options() -> Iterator[None]:
    """Within it, an option is looked for among all those of a parser once, not at every value.

    For parsers that have all their options.
    """
    original = getattr(_subcommands, _FIND)
    known: dict[tuple[Any, ...], Any] = {}

    def find_action_and_subcommand(parser: Any, dest: str, exclude: Any = None) -> Any:
        key = parser, len(parser._actions), dest, exclude
        if key not in known:
            known[key] = original(parser, dest, exclude)
        return known[key]

    with ExitStack() as stack:
        for module in _FINDING:
            stack.enter_context(_in_place(module, _FIND, find_action_and_subcommand))
        yield


@contextmanager
def _in_place(module: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, original)
