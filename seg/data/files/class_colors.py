"""Colours of masks to class ids: RGB, palettes, and grey levels that are colours of classes."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seg.constants import IGNORE_INDEX
from seg.data.files.colour_table import UNKNOWN, ColourTable, Ids
from seg.data.files.headers import DataError, LabelError
from seg.data.files.palettes import Palette, grey, pack, unpack
from seg.errors import InputError

Colours = Sequence[Sequence[int]]
_LEVELS = 256
_NEITHER = "is in neither data.class_colors nor data.ignore_colors"
_FARTHEST = 255 * 3**0.5
"""From black to white."""


class ClassColours:
    """One class id a colour.

    Args:
        num_classes: Number of classes C.
        class_colors: RGB colour of each class in class order.
        ignore_colors: RGB colours that are ignored.
        value_ids: What the values of index masks mean, (256,) ids at least.
        named: Values of index masks that the user gave a meaning; these are no colours.
        tolerance: Distance within which a colour is that of the nearest class, see `ColourTable`.
            With one, grey levels are colours.

    Attributes:
        all_grey: Whether every class has a grey colour.
        grey_ids: Id of each grey level as a colour, (256,), for grey masks.
        telling: 1 for the grey levels that can only be meant as colours, (256,), else 0.
        codes: All colours as 0xRRGGBB.
        table: Class id of each colour.
    """

    def __init__(
        self,
        num_classes: int,
        class_colors: Colours,
        ignore_colors: Colours,
        value_ids: Ids,
        named: Iterable[int],
        tolerance: float = 0,
    ) -> None:
        if not 0 <= tolerance <= _FARTHEST:
            raise InputError(
                f"data.color_tolerance {tolerance:g}: expected a distance in RGB from 0 to 441; "
                "100 allows for the noise of JPEG."
            )
        self.codes, self.table = _colour_table(num_classes, class_colors, ignore_colors, tolerance)
        self.all_grey = all(len(set(colour)) == 1 for colour in class_colors)
        self._value_ids = value_ids[:_LEVELS]
        self.grey_ids = self.find(np.array([grey(v) for v in range(_LEVELS)], np.uint32))
        kept = [value for value in named if value < _LEVELS]
        self.grey_ids[kept] = self._value_ids[kept]
        self._clashes = (self.grey_ids != UNKNOWN) & (self.grey_ids != self._value_ids)
        self.telling = np.asarray(self._clashes & (self._value_ids >= num_classes), np.uint8)

    @property
    def code(self) -> bytes:
        """The same for colours that read every mask alike."""
        tables = self.codes, self.table.ids, self.grey_ids, self.telling
        parts = [table.tobytes() for table in tables]
        return b"|".join([*parts, repr(self.table.tolerance).encode()])

    def find(self, codes: NDArray[np.uint32]) -> Ids:
        """Class ids of colours 0xRRGGBB, `UNKNOWN` for those that have none."""
        return self.table.find(codes)

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
            if self.table.tolerance:
                raise self._too_far(path, values, counts)
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
        if self.table.tolerance:
            return self.grey_ids
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
        if self.table.tolerance:
            return self._too_far(path, palette[values], counts)
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
        if self.table.tolerance:
            return self._too_far(path, np.array([grey(value) for value in values]), counts)
        told = int(raw[self.telling[raw] > 0][0])
        codes = np.array([grey(value) for value in values])
        return LabelError(
            path,
            _by_colour(codes, counts),
            f"{_NEITHER}, though {unpack(grey(told))} is; add it to one of them, or, if the values "
            f"are class ids, say in data.label_map which class {told} is ({IGNORE_INDEX} to ignore "
            "it).",
        )

    def _too_far(self, path: Path, codes: NDArray[Any], counts: NDArray[Any]) -> LabelError:
        return LabelError(
            path,
            {self.table.told(codes, counts): int(counts.sum())},
            f"is farther than data.color_tolerance {self.table.tolerance:g} from every colour of "
            "data.class_colors and data.ignore_colors; add it to one of them, or raise that.",
        )


def _by_colour(codes: NDArray[Any], counts: NDArray[Any]) -> dict[str, int]:
    pairs = zip(codes.tolist(), counts.tolist(), strict=True)
    return {f"colour {unpack(code)}": count for code, count in pairs}


def _colour_table(
    num_classes: int, class_colors: Colours, ignore_colors: Colours, tolerance: float
) -> tuple[NDArray[np.uint32], ColourTable]:
    """Packed colours, and the class ids of all there are."""
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
    return pack(np.asarray(colours, np.uint8)), ColourTable(colours, ids, tolerance)
