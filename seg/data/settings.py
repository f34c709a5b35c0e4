"""What of a data set's settings can be said before any file is opened."""

from collections.abc import Mapping
from inspect import Parameter
from typing import Any

from seg.data import synthetic
from seg.errors import InputError

_FILE_OPTIONS = (
    "images", "masks", "split_files", "split_fractions", "split_seed", "train_split", "val_split",
    "test_split", "class_colors", "ignore_colors", "label_map", "in_channels", "image_range",
)  # fmt: skip
_SYNTHETIC_OPTIONS = ("synthetic_length", "synthetic_size")
_POSITIVE = ("batch_size", "eval_batch_size", "in_channels", "synthetic_length")


def resolve_class_names(root: str | None, class_names: list[str] | None) -> list[str]:
    """Names of the classes in the order of their ids, known before any file is opened.

    Args:
        root: Folder of the data; None for the synthetic set.
        class_names: Names as configured.

    Raises:
        InputError: If files have no class names, names repeat, or the synthetic set is renamed.
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
    repeated = {name for name in class_names if class_names.count(name) > 1}
    if repeated:
        raise InputError(f"data.class_names has {sorted(repeated)} more than once.")
    return list(class_names)


def resolve_class_colors(
    root: str | None, class_colors: list[list[int]] | None
) -> list[list[int]] | None:
    """RGB colours of the classes as configured, or those of the synthetic set."""
    return [list(color) for color in synthetic.CLASS_COLORS] if root is None else class_colors


def check_settings(given: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> None:
    """Refuse what does not apply, and what is out of range.

    Args:
        given: Values of the data module's options by name, among others.
        parameters: The options, with their defaults.

    Raises:
        InputError: For options of files without files, those of the synthetic set with them, and
            numbers out of range.
    """
    _refuse_what_does_not_apply(given, parameters)
    for name in _POSITIVE:
        if given[name] < 1:
            raise InputError(f"data.{name} {given[name]} must be at least 1.")
    if given["num_workers"] is not None and given["num_workers"] < 0:
        raise InputError(f"data.num_workers {given['num_workers']} must be 0 or more.")
    image_range = given["image_range"]
    if image_range is not None and (len(image_range) != 2 or image_range[0] >= image_range[1]):
        raise InputError(f"data.image_range {image_range} must be [low, high], low < high.")


def _refuse_what_does_not_apply(
    given: Mapping[str, Any], parameters: Mapping[str, Parameter]
) -> None:
    synthetic_set = given["root"] is None
    refused = _FILE_OPTIONS if synthetic_set else _SYNTHETIC_OPTIONS
    changed = [f"data.{name}" for name in refused if given[name] != parameters[name].default]
    if changed:
        remedy = "set data.root to your data" if synthetic_set else "leave out data.root"
        raise InputError(f"{', '.join(changed)} has no effect here; {remedy} or leave it out.")
