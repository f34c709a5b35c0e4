"""What of a data set's settings can be said before any file is opened."""

from collections.abc import Mapping, Sequence
from inspect import Parameter
from typing import Any
from unicodedata import category

from seg.data import synthetic
from seg.errors import InputError

_NOT_IN_A_LINE = ("Cc", "Zl", "Zp")
"""Unicode's categories of control characters and of what separates lines and paragraphs."""


def resolve_class_names(
    root: str | None, class_names: list[str] | None, dataset: Any = None
) -> list[str]:
    """Names of the classes in the order of their ids, known before any file is opened.

    Args:
        root: Folder of the data; None for the synthetic set.
        class_names: Names as configured.
        dataset: What makes data sets of the user's own; None without.

    Raises:
        InputError: If files, or data sets of the user's own, have fewer than two class names, one
            twice, an empty one or one of several lines, or the synthetic set is renamed.
    """
    if root is None and dataset is None:
        own = list(synthetic.CLASS_NAMES)
        if class_names not in (None, own):
            raise InputError(
                f"data.class_names {class_names} without data.root: the synthetic set has {own}; "
                "set data.root to your data, or leave the names out."
            )
        return own
    if not class_names:
        raise InputError(
            f"data.{'root' if dataset is None else 'dataset'} needs data.class_names, one name a "
            "class in the order of their ids."
        )
    if len(class_names) == 1:
        raise InputError(
            f"data.class_names has one name, {class_names[0]!r}; a loss needs two: write "
            f"[background, {class_names[0]}]."
        )
    _check_names(class_names)
    return list(class_names)


def _check_names(class_names: Sequence[str]) -> None:
    """Refuse names that cannot be told apart, or that tables and files cannot hold in a line."""
    plain = [name.strip() for name in class_names]
    for class_id, name in enumerate(class_names):
        if not plain[class_id]:
            raise InputError(f"data.class_names: class {class_id} has no name; write one.")
        if any(category(letter) in _NOT_IN_A_LINE for letter in name):
            raise InputError(
                f"data.class_names: {name!a} has a line break or another control character; "
                "expected a name of one line."
            )
    repeated = {name for name in plain if plain.count(name) > 1}
    if repeated:
        raise InputError(
            f"data.class_names has {sorted(repeated)} more than once; expected one name a class."
        )


def resolve_class_colors(
    root: str | None, class_colors: list[list[int]] | None, dataset: Any = None
) -> list[list[int]] | None:
    """RGB colours of the classes as configured, or those of the synthetic set."""
    given = root is not None or dataset is not None
    return class_colors if given else [list(color) for color in synthetic.CLASS_COLORS]


def refuse_unused(
    root: str | None,
    dataset: Any,
    of_files: Mapping[str, Any],
    of_any: Mapping[str, Any],
    of_synthetic: Mapping[str, Any],
    parameters: Mapping[str, Parameter],
) -> None:
    """Refuse options of another kind of data: files, data sets of the user's own, the synthetic.

    Args:
        root: Folder of the data, if that is files.
        dataset: What makes data sets of the user's own, if it is these.
        of_files: Values of the options of files alone, by name.
        of_any: Values of the options of all but the synthetic set, by name.
        of_synthetic: Values of the options of the synthetic set, by name.
        parameters: All options, with their defaults.

    Raises:
        InputError: Names the options.
    """
    if root is not None and dataset is not None:
        raise InputError(
            f"data.root {root} beside data.dataset: samples come from one of them; leave one out."
        )
    refused, remedy = {**of_files, **of_any}, "set data.root to your data"
    if root is not None:
        refused, remedy = {**of_synthetic}, "leave out data.root"
    elif dataset is not None:
        refused, remedy = {**of_files, **of_synthetic}, "leave out data.dataset"
    changed = [f"data.{k}" for k, value in refused.items() if value != parameters[k].default]
    if changed:
        raise InputError(f"{', '.join(changed)} has no effect here; {remedy} or leave it out.")


def resolve_shown_channels(in_channels: int, given: Sequence[int] | None) -> list[int]:
    """Which channels of an image are red, green and blue in pictures.

    Args:
        in_channels: Channels of the images.
        given: As configured; left out, the first three, or of one or two the first as grey.

    Raises:
        InputError: If they are not three of the channels.
    """
    if given is None:
        return [0, 1, 2] if in_channels >= 3 else [0, 0, 0]
    if len(given) != 3 or not all(0 <= channel < in_channels for channel in given):
        raise InputError(
            f"data.shown_channels {list(given)}: expected three of 0 to {in_channels - 1}, the "
            f"channels of data.in_channels {in_channels}, for red, green and blue."
        )
    return list(given)


def check_counts(least: int, **counts: int) -> None:
    """Refuse options, by name, that are below the least number that they can be."""
    for name, count in counts.items():
        if count < least:
            must = "be at least 1" if least == 1 else f"be {least} or more"
            raise InputError(f"data.{name} {count} must {must}.")


def check_image_range(image_range: Sequence[float] | None) -> None:
    """Refuse what is no range of values."""
    if image_range is not None and (len(image_range) != 2 or image_range[0] >= image_range[1]):
        raise InputError(f"data.image_range {image_range} must be [low, high], low < high.")
