"""From the values of index masks to class ids: single values, ranges, and values below 0."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg.constants import IGNORE_INDEX
from seg.data.files.colour_table import UNKNOWN
from seg.errors import InputError

Ids = NDArray[np.uint8]

TABLE_SIZE = 2**16
_RANGE = re.compile(r"\s*(-?\d+)\s*(?:-\s*(-?\d+)\s*)?")
_IGNORE = "ignore"
_NAN = "nan"
QUESTION = "???"
"""Stands in a configuration for what its user has to fill in."""


class LabelMap:
    """Class id of every value of an index mask.

    Args:
        num_classes: Number of classes C.
        given: From a value, a range such as "1-20" (both ends count), or "nan", to a class id, or
            to 255 or "ignore". Of two that hold a value the later one counts. Other values must
            be class ids or 255.

    Attributes:
        table: Class id of the values 0 to 65535, `UNKNOWN` for those without one.
        named: Those of them that were given.

    Raises:
        InputError: Names the entry that is none.
    """

    def __init__(self, num_classes: int, given: Mapping[Any, Any]) -> None:
        self.table: Ids = np.full(TABLE_SIZE, UNKNOWN, np.uint8)
        self.table[:num_classes] = np.arange(num_classes)
        self.table[IGNORE_INDEX] = IGNORE_INDEX
        self.named: list[int] = []
        self._nan = UNKNOWN
        self._outside: list[tuple[int, int, int]] = []
        for key, value in given.items():
            label = class_of(key, value, num_classes)
            if str(key).strip().lower().lstrip(".") == _NAN:
                self._nan = label
                continue
            low, high = _ends(key)
            inside = range(max(low, 0), min(high, TABLE_SIZE - 1) + 1)
            self.table[inside] = label
            self.named += inside
            if low < 0 or high >= TABLE_SIZE:
                self._outside.append((low, high, label))

    @property
    def code(self) -> bytes:
        """The same for maps that read every value alike."""
        return self.table.tobytes() + repr((self._outside, self._nan)).encode()

    def ids(self, values: NDArray[Any]) -> Ids:
        """Class ids of values of any type, `UNKNOWN` for those without one."""
        found, place = np.unique(values, return_inverse=True)
        ids = np.full(found.shape, UNKNOWN, np.uint8)
        whole = found == np.rint(found) if found.dtype.kind == "f" else np.ones(found.shape, bool)
        inside = whole & (found >= 0) & (found < TABLE_SIZE)
        ids[inside] = self.table[found[inside].astype(np.int64)]
        for low, high, label in self._outside:
            ids[whole & ~inside & (found >= low) & (found <= high)] = label
        if found.dtype.kind == "f":
            ids[np.isnan(found)] = self._nan
        return ids[place].reshape(values.shape)


def question(value: Any) -> str:
    """Asks for the class of a value of the masks."""
    return f"data.label_map: what is {value}? Write a class id or ignore."


def class_of(key: Any, value: Any, num_classes: int) -> int:
    """Class id that an entry of a label map leads to, or 255.

    Raises:
        InputError: If it leads to neither.
    """
    if value == QUESTION:
        raise InputError(question(key))
    if value == _IGNORE:
        return IGNORE_INDEX
    if not str(value).isdigit() or int(value) not in (*range(num_classes), IGNORE_INDEX):
        raise InputError(
            f"data.label_map: {key} maps to {value}, which is neither a class id "
            f"0..{num_classes - 1} nor {IGNORE_INDEX} or {_IGNORE}."
        )
    return int(value)


def _ends(key: Any) -> tuple[int, int]:
    match = _RANGE.fullmatch(str(key))
    low = None if match is None else int(match[1])
    high = low if match is None or match[2] is None else int(match[2])
    if low is None or high is None or low > high:
        raise InputError(
            f"data.label_map: {key!r} is no whole number, no range such as 1-20, and not {_NAN}."
        )
    return low, high
