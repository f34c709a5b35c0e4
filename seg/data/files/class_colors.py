"""Colours of masks to class ids: RGB, palettes, and grey levels that are colours of classes."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seg.constants import IGNORE_INDEX
from seg.data.files.headers import DataError, LabelError
from seg.data.files.palettes import Palette, grey, pack, unpack
from seg.errors import InputError

UNKNOWN = 254
"""What stands for values and colours without a class in a table of ids."""

Colours = Sequence[Sequence[int]]
Ids = NDArray[np.uint8]

_LEVELS = 256
_NEITHER = "is in neither data.class_colors nor data.ignore_colors"


class ClassColours:
    """One class id a colour.

    Args:
        num_classes: Number of classes C.
        class_colors: RGB colour of each class in class order.
        ignore_colors: RGB colours that are ignored.
        value_ids: What the values of index masks mean, (256,) ids at least.
        named: Values of index masks that the user gave a meaning; these are no colours.

    Attributes:
        all_grey: Whether every class has a grey colour.
        grey_ids: Id of each grey level as a colour, (256,), for grey masks.
        telling: 1 for the grey levels that can only be meant as colours, (256,), else 0.
        codes: All colours as 0xRRGGBB, ascending.
        ids: Class id of each.
    """

    def __init__(
        self,
        num_classes: int,
        class_colors: Colours,
        ignore_colors: Colours,
        value_ids: Ids,
        named: Iterable[int],
    ) -> None:
        self.codes, self.ids = _colour_table(num_classes, class_colors, ignore_colors)
        self.all_grey = all(len(set(colour)) == 1 for colour in class_colors)
        self._value_ids = value_ids[:_LEVELS]
        self.grey_ids = self.find(np.array([grey(v) for v in range(_LEVELS)], np.uint32))
        kept = [value for value in named if value < _LEVELS]
        self.grey_ids[kept] = self._value_ids[kept]
        self._clashes = (self.grey_ids != UNKNOWN) & (self.grey_ids != self._value_ids)
        self.telling = np.asarray(self._clashes & (self._value_ids >= num_classes), np.uint8)

    def find(self, codes: NDArray[np.uint32]) -> Ids:
        """Class ids of colours 0xRRGGBB, `UNKNOWN` for those that have none."""
        position = np.searchsorted(self.codes, codes).clip(max=len(self.codes) - 1)
        return np.where(self.codes[position] == codes, self.ids[position], np.uint8(UNKNOWN))

    def of_rgb(self, path: Path, rgb: NDArray[Any]) -> Ids:
        """Class ids (H, W) of a mask of colours (H, W, 3).

        Raises:
            DataError: If a colour has no class.
        """
        if rgb.dtype != np.uint8:
            raise DataError(f"{path}: a mask of colours has 8 bits a channel, not {rgb.dtype}.")
        codes = pack(rgb)
        ids = self.find(codes)
        unknown = ids == UNKNOWN
        if unknown.any():
            values, counts = np.unique(codes[unknown], return_counts=True)
            found = _by_colour(values, counts)
            raise LabelError(path, found, f"{_NEITHER}; add it to one of them.")
        return ids

    def of_palette(self, palette: Palette, value_ids: Ids) -> Ids:
        """Class id of each index of a palette; the length is that of `value_ids`.

        An index that is ignored stays so if its colour has no class.
        """
        table = np.where(value_ids == IGNORE_INDEX, value_ids, np.uint8(UNKNOWN))
        ids = self.find(palette[: len(table)])
        table[: len(ids)] = np.where(ids == UNKNOWN, table[: len(ids)], ids)
        return table

    def of_grey(self, path: Path, used: NDArray[Any]) -> Ids | None:
        """Class id of each grey level if a grey mask holds colours, None if it holds class ids.

        It holds colours if one of its values has a meaning as a colour only, such as 255 where
        white is a class.

        Args:
            path: The mask.
            used: Values that occur, uint8, any number of times.

        Raises:
            DataError: If the mask can be read in both ways, and they differ.
        """
        up_to_most = self.telling[: int(used.max()) + 1]  # the maximum is far cheaper than a table
        if up_to_most.any() and cv2.LUT(used, self.telling).any():
            return self.grey_ids
        if not self.all_grey or not self._clashes.any():
            return None
        if self._clashes[used].any() and (self.grey_ids[used] != UNKNOWN).all():
            value = int(used[self._clashes[used]][0])
            raise DataError(
                f"{path}: grey level {value} is class id {self._value_ids[value]}, but the colour "
                f"of class {self.grey_ids[value]} in data.class_colors; say in data.label_map "
                f"which of them {value} is."
            )
        return None

    def palette_fault(self, palette: Palette, path: Path, raw: NDArray[Any], ids: Ids) -> DataError:
        """What is wrong with a palette mask of `raw` indices, some of `ids` are unknown."""
        values, counts = np.unique(raw[ids == UNKNOWN], return_counts=True)
        if values[-1] >= len(palette):
            return DataError(
                f"{path}: index {values[-1]} ({counts[-1]} pixels) is not in its palette of "
                f"{len(palette)} colours; save the mask again from the original."
            )
        used = np.unique(raw)
        matches = (self.find(palette[used[used < len(palette)]]) != UNKNOWN).any()
        remedy = "; add it to one of them."
        if not matches:
            remedy = (
                ", nor is any other that the mask shows; set data.class_colors to the colours of "
                "the masks, or leave it out if the indices of the palette are class ids."
            )
        return LabelError(path, _by_colour(palette[values], counts), f"{_NEITHER}{remedy}")

    def grey_fault(self, path: Path, raw: NDArray[Any], ids: Ids) -> DataError:
        """What is wrong with a grey mask that holds colours, some of `ids` are unknown."""
        values, counts = np.unique(raw[ids == UNKNOWN], return_counts=True)
        told = int(raw[self.telling[raw] > 0][0])
        codes = np.array([grey(value) for value in values])
        return LabelError(
            path,
            _by_colour(codes, counts),
            f"{_NEITHER}, though {unpack(grey(told))} is; add it to one of them, or, if the values "
            f"are class ids, say in data.label_map which class {told} is ({IGNORE_INDEX} to ignore "
            "it).",
        )


def _by_colour(codes: NDArray[Any], counts: NDArray[Any]) -> dict[str, int]:
    pairs = zip(codes.tolist(), counts.tolist(), strict=True)
    return {f"colour {unpack(code)}": count for code, count in pairs}


def _colour_table(
    num_classes: int, class_colors: Colours, ignore_colors: Colours
) -> tuple[NDArray[np.uint32], Ids]:
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
    packed = pack(np.asarray(colours, np.uint8))
    order = np.argsort(packed)
    return packed[order], np.asarray(ids, np.uint8)[order]
