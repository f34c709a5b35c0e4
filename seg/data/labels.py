"""Raw mask values to class ids, through one table that is made once."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seg.constants import IGNORE_INDEX
from seg.data.header import DataError
from seg.data.reading import read_mask
from seg.errors import InputError

MAX_CLASSES = 254
"""Class ids 0..253 leave 254 as a sentinel for unknown values and 255 for ignored pixels."""

_UNKNOWN = 254
_TABLE_SIZE = 2**16

Colours = Sequence[Sequence[int]]
ToIds = Callable[[NDArray[Any]], NDArray[np.uint8]]


class Labels:
    """Reads masks as uint8 class ids: index masks by `label_map`, RGB masks by `class_colors`.

    Args:
        num_classes: Number of classes C, at most 254.
        label_map: Raw value of an index mask to class id, or to 255 to ignore it. Other values
            must be class ids 0..C-1 or 255.
        class_colors: RGB colour of each class in class order, for masks stored as colours.
        ignore_colors: RGB colours that are ignored, for masks stored as colours.

    Raises:
        InputError: If a number of classes, a label or a colour is outside its range.
    """

    def __init__(
        self,
        num_classes: int,
        label_map: Mapping[int, int] | None = None,
        class_colors: Colours | None = None,
        ignore_colors: Colours | None = None,
    ) -> None:
        if not 1 <= num_classes <= MAX_CLASSES:
            raise InputError(f"{num_classes} classes, but 1 to {MAX_CLASSES} are possible.")
        self.num_classes = num_classes
        self._table = _value_table(num_classes, label_map or {})
        self._colours: NDArray[np.uint32] | None = None
        self._ids: NDArray[np.uint8] | None = None
        if class_colors is not None:
            self._colours, self._ids = _colour_table(num_classes, class_colors, ignore_colors or [])

    @property
    def fingerprint(self) -> str:
        """The same for labels that read every mask alike."""
        tables = (self._table, self._colours, self._ids)
        parts = [b"" if table is None else table.tobytes() for table in tables]
        return sha256(b"|".join(parts)).hexdigest()

    def read(self, path: Path | str) -> NDArray[np.uint8]:
        """Class ids of a mask file, uint8 of shape (H, W).

        Raises:
            DataError: If the file cannot be read, or holds a value or colour that has no class.
        """
        path = Path(path)
        raw = read_mask(path)
        if raw.ndim == 3 and self._colours is not None:
            return self._from_colours(path, raw)
        if raw.ndim == 3:
            raw = _single_channel(path, raw)
        return self._from_values(path, raw)

    def read_values(self, path: Path) -> tuple[NDArray[Any], ToIds]:
        """Values (H, W) of a mask file, and what gives the class ids of some of them.

        Raises:
            DataError: As `read`, for labels without a class when their ids are asked for.
        """
        raw = read_mask(path)
        if raw.ndim == 3 or raw.dtype not in (np.uint8, np.uint16):
            return self.read(path), lambda ids: ids
        return raw, partial(self._ids_of_some, path, raw)

    def _ids_of_some(self, path: Path, raw: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
        ids: NDArray[np.uint8] = self._table[values]
        if (ids == _UNKNOWN).any():
            return self._from_values(path, raw)  # raises, with the pixels counted
        return ids

    def _from_values(self, path: Path, raw: NDArray[Any]) -> NDArray[np.uint8]:
        if raw.dtype not in (np.uint8, np.uint16):
            raw = _as_uint16(path, raw)
        ids = cv2.LUT(raw, self._table[:256]) if raw.dtype == np.uint8 else self._table[raw]
        unknown = ids == _UNKNOWN
        if unknown.any():
            values, counts = np.unique(raw[unknown], return_counts=True)
            more = f" and {len(values) - 1} other values" if len(values) > 1 else ""
            raise DataError(
                f"{path}: label {values[0]} ({counts[0]} pixels){more} is in neither label_map "
                f"nor class ids 0..{self.num_classes - 1}; add it to data.label_map "
                f"(map it to {IGNORE_INDEX} to ignore it)."
            )
        return np.asarray(ids, np.uint8)

    def _from_colours(self, path: Path, raw: NDArray[Any]) -> NDArray[np.uint8]:
        assert self._colours is not None
        assert self._ids is not None
        if raw.dtype != np.uint8:
            raise DataError(f"{path}: a mask of colours has 8 bits a channel, not {raw.dtype}.")
        codes = _pack(raw)
        position = np.searchsorted(self._colours, codes).clip(max=len(self._colours) - 1)
        unknown = self._colours[position] != codes
        if unknown.any():
            values, counts = np.unique(codes[unknown], return_counts=True)
            most = int(counts.argmax())
            colour = [int(values[most]) >> shift & 255 for shift in (16, 8, 0)]
            raise DataError(
                f"{path}: colour {colour} ({counts[most]} pixels; {len(values)} unknown colours) "
                "is in neither data.class_colors nor data.ignore_colors; add it to one of them."
            )
        ids: NDArray[np.uint8] = self._ids[position]
        return ids


def _value_table(num_classes: int, label_map: Mapping[int, int]) -> NDArray[np.uint8]:
    table = np.full(_TABLE_SIZE, _UNKNOWN, np.uint8)
    table[:num_classes] = np.arange(num_classes)
    table[IGNORE_INDEX] = IGNORE_INDEX
    for value, label in label_map.items():
        if not 0 <= value < _TABLE_SIZE:
            raise InputError(f"data.label_map: value {value} is outside 0..{_TABLE_SIZE - 1}.")
        if label != IGNORE_INDEX and not 0 <= label < num_classes:
            raise InputError(
                f"data.label_map: {value} maps to {label}, which is neither a class id "
                f"0..{num_classes - 1} nor {IGNORE_INDEX}."
            )
        table[value] = label
    return table


def _colour_table(
    num_classes: int, class_colors: Colours, ignore_colors: Colours
) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Packed colours in ascending order, and the class id of each."""
    if len(class_colors) != num_classes:
        raise InputError(
            f"data.class_colors has {len(class_colors)} colours for {num_classes} classes; "
            "give one a class."
        )
    colours = [tuple(c) for c in (*class_colors, *ignore_colors)]
    for colour in colours:
        if len(colour) != 3 or not all(0 <= v <= 255 for v in colour):
            raise InputError(f"Colour {list(colour)} is not three numbers from 0 to 255.")
        if colours.count(colour) > 1:
            raise InputError(f"Colour {list(colour)} is given twice; each class needs its own.")
    ids = [*range(num_classes), *[IGNORE_INDEX] * len(ignore_colors)]
    packed = _pack(np.asarray(colours, np.uint8))
    order = np.argsort(packed)
    return packed[order], np.asarray(ids, np.uint8)[order]


def _pack(rgb: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """RGB in the last axis to one number 0xRRGGBB."""
    wide = rgb.astype(np.uint32)
    packed: NDArray[np.uint32] = wide @ np.array([2**16, 2**8, 1], np.uint32)
    return packed


def _single_channel(path: Path, raw: NDArray[Any]) -> NDArray[Any]:
    if not ((raw[..., 0] == raw[..., 1]) & (raw[..., 0] == raw[..., 2])).all():
        raise DataError(
            f"{path}: the mask holds RGB colours; set data.class_colors to the colour of each "
            "class (and data.ignore_colors)."
        )
    return raw[..., 0]  # indices saved as grey RGB


def _as_uint16(path: Path, raw: NDArray[Any]) -> NDArray[np.uint16]:
    values = np.unique(raw)
    bad = values[(values != np.rint(values)) | (values < 0) | (values >= _TABLE_SIZE)]
    if len(bad):
        raise DataError(f"{path}: label {bad[0]} is no whole number from 0 to {_TABLE_SIZE - 1}.")
    return raw.astype(np.uint16)
