"""Training masks that nothing can be learnt from, or nothing of a class."""

import logging
from collections.abc import Sequence

import numpy as np
from lightning.fabric.utilities.rank_zero import rank_zero_only

from seg.constants import IGNORE_INDEX
from seg.data.files.headers import DataError
from seg.data.scan.scan_masks import HasMasks
from seg.data.scan.table import Scan

log = logging.getLogger(__name__)

_BLACK_AND_WHITE = (
    "The training masks hold 0 and 255 only, and 255 is ignored; if it is a class, write "
    "data.label_map: {0: 0, 255: 1}."
)
_OPENED = 8
"""Masks that are looked at again for the values that they hold."""


def nothing_to_learn(dataset: HasMasks, scan: Scan, class_names: Sequence[str]) -> list[str]:
    """Why nothing, or nothing of a class, can be learnt from a training split; one line each.

    Args:
        dataset: The split.
        scan: Of its masks.
        class_names: One name a class.
    """
    empty = np.flatnonzero(scan.pixels.sum(1) == 0)
    missing = [name for name, n in zip(class_names, scan.pixels.sum(0), strict=True) if n == 0]
    if (missing or 2 * len(empty) > len(scan)) and _black_and_white(dataset, scan):
        return [_BLACK_AND_WHITE]
    lines = []
    if 2 * len(empty) > len(scan):
        lines.append(
            f"{len(empty)} of {len(scan)} training masks are ignored throughout: every pixel is "
            f"{IGNORE_INDEX} after data.label_map; map the values that are classes to class ids."
        )
    if missing and len(empty) < len(scan):
        lines.append(
            f"No training mask has a pixel of {', '.join(missing)}; leave it out of "
            "data.class_names, or give the masks' values in data.label_map."
        )
    return lines


def refuse_empty(train: Scan, val: Scan, faults: Sequence[str], allowed: bool) -> None:
    """Refuse splits that nothing can be learnt from, or judged by.

    Args:
        train: Of the training masks.
        val: Of the validation masks.
        faults: What `nothing_to_learn` found.
        allowed: Whether to warn of the `faults` only.

    Raises:
        DataError: Gives the line to write.
    """
    for name, scan in (("training", train), ("validation", val)):
        if not scan.pixels.any() and not (name == "training" and faults and not allowed):
            raise DataError(
                f"All {len(scan)} {name} masks are ignored throughout: every pixel is "
                f"{IGNORE_INDEX}; see data.label_map."
            )
    if faults and not allowed:
        more = "set data.allow_empty_classes: true to train all the same."
        raise DataError(" ".join([*faults, f"Or {more}"]))
    for fault in faults:
        rank_zero_only(log.warning)(fault)


def _black_and_white(dataset: HasMasks, scan: Scan) -> bool:
    """Whether masks hold 0 and 255 alone, as far as some of them show, and 255 is ignored."""
    ignored = np.flatnonzero(scan.ignored)
    if scan.pixels[:, 1:].any() or not len(ignored):
        return False
    step = -(-len(ignored) // _OPENED)
    masks = (dataset.mask_values(index).values for index in ignored[::step].tolist())
    return all(np.isin(mask, (0, IGNORE_INDEX)).all() for mask in masks)
