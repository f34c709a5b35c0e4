"""What of jsonargparse and argparse has no public name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jsonargparse import ArgumentParser, _typehints

_DISCARD = "discard_init_args_on_class_path_change"


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
    original = getattr(_typehints, _DISCARD)
    setattr(_typehints, _DISCARD, discard)
    try:
        yield
    finally:
        setattr(_typehints, _DISCARD, original)
