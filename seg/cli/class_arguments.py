"""Arguments of a class belong to that class: another class in its place takes none of them."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from inspect import isclass, signature
from pkgutil import resolve_name
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from torch import nn

from seg.lightning_compat.parsers import discarding
from seg.losses import SegmentationLoss

log = logging.getLogger(__name__)

FROM_DATA = ("classes", "in_channels")
"""Arguments of a network that are filled in from the data."""

TO_FILL_IN = 0
"""Stands for a number of classes or channels until the data is known."""


@contextmanager
def kept_apart(defaults: Mapping[str, Any]) -> Iterator[None]:
    """Parse such that a new `class_path` starts with the new class's own defaults.

    jsonargparse keeps the arguments that both classes have by name, so that SGD would take the
    weight decay of an AdamW that nobody asked for. It has no setting for this. What was given to
    the class before is dropped with a message.

    Args:
        defaults: Arguments that the program itself gives; these are dropped without a message.
    """
    said: set[str] = set()

    def discard(parser_or_action: Any, before: Any, value: Any) -> None:
        """Empty in place what the class `before` was given, where `value` names another class."""
        if not before or before["class_path"] in (None, value["class_path"]):
            return
        arguments = before.get("init_args") or {}
        arguments = arguments if isinstance(arguments, dict) else vars(arguments)
        later = _filled_in_later(resolve_name(value["class_path"]))
        if not arguments and not later and "dict_kwargs" not in before:
            return
        old, new = resolve_name(before["class_path"]), resolve_name(value["class_path"])
        if old is new:
            return
        given = _given(old, arguments, defaults)
        if given and (message := f"{new.__name__} takes no argument of {old.__name__}") not in said:
            said.add(message)
            log.info("%s before it: %s; give them after it if it needs them.", message, given)
        before["init_args"] = Namespace(**later)  # type: ignore[no-untyped-call]
        before.pop("dict_kwargs", None)

    with discarding(discard):
        yield


def _filled_in_later(new: Any) -> dict[str, int]:
    """`TO_FILL_IN` for what a network must be given and only the data can tell."""
    if not isclass(new) or not issubclass(new, nn.Module) or issubclass(new, SegmentationLoss):
        return {}
    parameters = signature(new).parameters.items()
    return {k: TO_FILL_IN for k, p in parameters if k in FROM_DATA and p.default is p.empty}


def _given(of: Any, arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Names of the arguments that differ from the class's own defaults and from the program's."""
    own = _defaults(of)
    known = ([own.get(key), defaults.get(key)] for key in arguments)
    pairs = zip(arguments.items(), known, strict=True)
    return ", ".join(key for (key, value), others in pairs if _plain(value) not in _plain(others))


@cache
def _defaults(of: Any) -> Namespace:
    """The defaults of a class, which are found in its source."""
    parser = ArgumentParser()
    (parser.add_class_arguments if isclass(of) else parser.add_function_arguments)(
        of, fail_untyped=False
    )
    return parser.get_defaults()


def _plain(value: Any) -> Any:
    """The value with lists for tuples, as a configuration file has them."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
