"""What of a data set's settings can be said before any file is opened."""

from collections.abc import Mapping, Sequence
from inspect import Parameter
from typing import Any

from seg.data import synthetic
from seg.errors import InputError


def resolve_class_names(root: str | None, class_names: list[str] | None) -> list[str]:
    """Names of the classes in the order of their ids, known before any file is opened.

    Args:
        root: Folder of the data; None for the synthetic set.
        class_names: Names as configured.

    Raises:
        InputError: If files have fewer than two class names, or one twice, or the synthetic set is
            renamed.
    """
    if root is None:
        own = list(synthetic.CLASS_NAMES)
        if class_names not in (None, own):
            raise InputError(
                f"data.class_names {class_names} without data.root: the synthetic set has {own}; "
                "set data.root to your data, or leave the names out."
            )
        return own
    if not class_names:
        raise InputError(
            "data.root needs data.class_names, one name a class in the order of their ids."
        )
    if len(class_names) == 1:
        raise InputError(
            f"data.class_names has one name, {class_names[0]!r}; a loss needs two: write "
            f"[background, {class_names[0]}]."
        )
    repeated = {name for name in class_names if class_names.count(name) > 1}
    if repeated:
        raise InputError(f"data.class_names has {sorted(repeated)} more than once.")
    return list(class_names)


def resolve_class_colors(
    root: str | None, class_colors: list[list[int]] | None
) -> list[list[int]] | None:
    """RGB colours of the classes as configured, or those of the synthetic set."""
    return [list(color) for color in synthetic.CLASS_COLORS] if root is None else class_colors


def refuse_unused(
    root: str | None,
    of_files: Mapping[str, Any],
    of_synthetic: Mapping[str, Any],
    parameters: Mapping[str, Parameter],
) -> None:
    """Refuse options of files where there are none, and those of the synthetic set with files.

    Args:
        root: Folder of the data; None for the synthetic set.
        of_files: Values of the options of files, by name.
        of_synthetic: Values of the options of the synthetic set, by name.
        parameters: All options, with their defaults.

    Raises:
        InputError: Names the options.
    """
    refused = of_files if root is None else of_synthetic
    changed = [f"data.{k}" for k, value in refused.items() if value != parameters[k].default]
    if changed:
        remedy = "set data.root to your data" if root is None else "leave out data.root"
        raise InputError(f"{', '.join(changed)} has no effect here; {remedy} or leave it out.")


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
