"""Which images belong together, by their names: those of a patient, a video, a scene."""

import re
from collections.abc import Sequence

from seg.errors import InputError


def check_groups(expression: str | None, option: str, names: Sequence[str] = ()) -> None:
    """Refuse an expression that is none, or that is not found in all names.

    Args:
        expression: Regular expression; None is always right.
        option: What the user calls it.
        names: Names of images.

    Raises:
        InputError: With the first name in which it is not found.
    """
    if expression is None:
        return
    try:
        re.compile(expression)
    except re.error as error:
        raise InputError(f"{option} {expression!r} is no regular expression: {error}.") from error
    for name in names:
        group_of(expression, option, name)


def group_of(expression: str, option: str, name: str) -> str:
    """The first group of an expression, or all of it, as found in the name of an image.

    Args:
        expression: Regular expression.
        option: What the user calls it.
        name: Name of the image.

    Raises:
        InputError: If it is not found.
    """
    found = re.search(expression, name)
    if found is None:
        raise InputError(f"{option} {expression!r} is not found in {name!r}; widen it.")
    return str(found.group(min(1, found.re.groups)) or "")
