"""From the names of annotated areas to class ids."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg.constants import IGNORE_INDEX
from seg.data.files.annotations import AnnotatedMask
from seg.data.files.colour_table import UNKNOWN
from seg.data.files.headers import DataError, LabelError
from seg.data.files.label_map import class_of

Ids = NDArray[np.uint8]

_EMPTY = "0"
"""Key of what is not annotated in a label map."""
_BACKGROUND = "background"
_IGNORE = "__ignore__"
"""labelme's name of areas that are ignored."""


class LabelNames:
    """Class id of each name: that of the class of this name, or what the label map says.

    What is not annotated is class 0. labelme's `_background_` is as well, and its `__ignore__` is
    ignored.

    Args:
        class_names: One name a class.
        given: From a name, or 0 for what is not annotated, to a class id, or to 255 or "ignore".

    Raises:
        InputError: Names the entry that leads to no class.
    """

    def __init__(self, class_names: Sequence[str], given: Mapping[Any, Any]) -> None:
        self._first = class_names[0]
        self._ids = {"_background_": 0, _IGNORE: IGNORE_INDEX}
        self._ids |= {name: place for place, name in enumerate(class_names)}
        self._given = {str(k): class_of(k, v, len(class_names)) for k, v in given.items()}
        self._empty = self._given.get(_EMPTY, 0)

    @property
    def code(self) -> bytes:
        """The same for names that are read alike."""
        return repr((self._first, self._ids, self._given)).encode()

    def table(self, path: Path, names: Sequence[str]) -> Ids:
        """Class id of each value of an `AnnotatedMask`, `UNKNOWN` for those without one.

        Raises:
            DataError: If class 0 is annotated, and what is not annotated would be of it too.
        """
        has_background = self._first.strip("_").lower() == _BACKGROUND
        if self._first in names and not has_background and _EMPTY not in self._given:
            raise DataError(
                f"{path}: class 0 of data.class_names, {self._first!r}, is annotated, but what is "
                "not annotated is class 0 as well: begin data.class_names with background, or set "
                "data.label_map: {0: ignore}."
            )
        ids = [self._given.get(name, self._ids.get(name, UNKNOWN)) for name in names]
        return np.array([self._empty, *ids], np.uint8)

    def fault(self, path: Path, mask: AnnotatedMask, ids: Ids) -> DataError:
        """What is wrong with a mask some `ids` of which are unknown."""
        values, counts = np.unique(mask.values[ids == UNKNOWN], return_counts=True)
        named = zip(values.tolist(), counts.tolist(), strict=True)
        found = {f"label {mask.names[value - 1]!r}": count for value, count in named}
        return LabelError(
            path,
            found,
            "is in neither data.class_names nor data.label_map; add it to one of them (map it to "
            "ignore to ignore it).",
        )
