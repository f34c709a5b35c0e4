"""Raw mask values to class ids, through one table that is made once."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from lightning.fabric.utilities.rank_zero import rank_zero_only
from numpy.typing import NDArray

from seg.constants import IGNORE_INDEX
from seg.data.files.annotations import are_annotations, read_annotated
from seg.data.files.class_colors import ClassColours, Colours
from seg.data.files.colour_table import UNKNOWN
from seg.data.files.decoding import read_mask_and_palette
from seg.data.files.headers import DataError, LabelError, read_header
from seg.data.files.label_map import Ids, LabelMap
from seg.data.files.label_names import LabelNames
from seg.data.files.palettes import BLACK_AND_WHITE, Palette, unpack
from seg.errors import InputError

MAX_CLASSES = 254
"""Class ids 0..253 leave 254 as a sentinel for unknown values and 255 for ignored pixels."""

_LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue (Rec. 601)."""

log = logging.getLogger(__name__)

Fault = Callable[[Path | str, NDArray[Any], Ids], DataError]
ToIds = Callable[[NDArray[Any]], Ids]


class MaskValues(NamedTuple):
    """A mask whose values are not yet class ids.

    Attributes:
        values: As stored, (H, W).
        to_ids: From some of the values to class ids; they must hold each value that occurs.
        palette: Colour of each value, if that is not looked at.
    """

    values: NDArray[Any]
    to_ids: ToIds
    palette: Palette | None = None


class _FileTable(NamedTuple):
    """Class id of each value of one file, and what is wrong where some ids (H, W) are unknown."""

    ids: Ids
    fault: Callable[[Any, NDArray[Any], Ids], DataError]


def names_for(masks: str, class_names: Sequence[str]) -> Sequence[str] | None:
    """The `names` of `Labels` for a template of masks: None where these are pictures."""
    return class_names if are_annotations(masks) else None


class Labels:
    """Reads masks as uint8 class ids: index masks by `label_map`, others by `class_colors`.

    With `class_colors`, a palette mask is read by the colours of its own palette. A grey mask is
    one of indices, unless it has values that can only be meant as colours, such as 255 where white
    is a class.

    Args:
        num_classes: Number of classes C, at most 254.
        label_map: Raw value of an index mask to class id, or to 255 to ignore it; see `LabelMap`.
        class_colors: RGB colour of each class in class order, for masks stored as colours or
            with a palette. Left out, the indices of a palette are the values.
        ignore_colors: RGB colours that are ignored, for masks stored as colours.
        threshold: Grey level above which a pixel is class 1, else 0; for masks with soft edges or
            in a lossy coding, such as JPEG. Left out, values are class ids.
        color_tolerance: Distance in RGB within which a pixel has the class of the nearest colour,
            for masks of colours with soft edges or in a lossy coding.
        names: Of the classes, for masks that are annotations in JSON; see `LabelNames`.

    Raises:
        InputError: If a number of classes, a label or a colour is outside its range.
    """

    def __init__(
        self,
        num_classes: int,
        label_map: Mapping[Any, Any] | None = None,
        class_colors: Colours | None = None,
        ignore_colors: Colours | None = None,
        threshold: float | None = None,
        color_tolerance: float | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        if not 1 <= num_classes <= MAX_CLASSES:
            raise InputError(f"{num_classes} classes, but 1 to {MAX_CLASSES} are possible.")
        if names is not None and (threshold is not None or color_tolerance or ignore_colors):
            raise InputError(
                "data.mask_threshold, color_tolerance and ignore_colors are of masks that are "
                "pictures; data.masks are annotations in JSON: leave them out."
            )
        if threshold is not None and (num_classes != 2 or label_map or ignore_colors):
            raise InputError(
                f"data.mask_threshold {threshold:g} makes two classes of grey masks; it goes with "
                "two class_names, and without label_map and ignore_colors."
            )
        if color_tolerance is not None and (class_colors is None or threshold is not None):
            raise InputError(
                f"data.color_tolerance {color_tolerance:g} is a distance to data.class_colors; it "
                "goes with these, and without data.mask_threshold."
            )
        self.num_classes = num_classes
        self.threshold = threshold
        self.takes_lossy = threshold is not None or bool(color_tolerance)
        """Whether masks may be in a coding that changes values a little, such as JPEG."""
        self._names = None if names is None else LabelNames(names, label_map or {})
        self._map = LabelMap(num_classes, (label_map or {}) if names is None else {})
        self._table = self._map.table
        self._plain = _FileTable(self._table, self._unknown_value)
        self._colours: ClassColours | None = None
        if class_colors is not None and threshold is None:
            colours, values = (class_colors, ignore_colors or []), (self._table, self._map.named)
            self._colours = ClassColours(num_classes, *colours, *values, color_tolerance or 0)

    @property
    def fingerprint(self) -> str:
        """The same for labels that read every mask alike."""
        colours = b"" if self._colours is None else self._colours.code
        names = b"" if self._names is None else self._names.code
        parts = self._map.code, repr(self.threshold).encode(), colours, names
        return sha256(b"|".join(parts)).hexdigest()

    def read(self, path: Path | str) -> Ids:
        """Class ids of a mask file, uint8 of shape (H, W).

        Raises:
            DataError: If the file cannot be read, or holds a value or colour that has no class.
        """
        path = Path(path)
        if self._names is not None:
            mask = self.read_values(path)
            return mask.to_ids(mask.values)
        if self.threshold is not None:
            return self._above(path, self.threshold)
        return self._ids(path, *read_mask_and_palette(path, self.takes_lossy))

    def _ids(self, path: Path, raw: NDArray[Any], palette: Palette | None) -> Ids:
        if raw.ndim == 3 and self._colours is not None:
            return self._colours.of_rgb(path, raw)
        if raw.ndim == 3:
            raw = _single_channel(path, raw)
        if raw.dtype not in (np.uint8, np.uint16):
            return _known(path, raw, self._map.ids(raw), self._unknown_value)
        return _mapped(path, raw, self._table_of(path, palette, raw))

    def read_values(self, path: Path) -> MaskValues:
        """What a mask file holds, for those who need the class ids of some pixels only.

        Raises:
            DataError: As `read`, for labels without a class when their ids are asked for.
        """
        if self._names is not None:
            return self._annotated(path, self._names)
        if self.threshold is not None:
            return MaskValues(self.read(path), lambda ids: ids)
        raw, palette = read_mask_and_palette(path, self.takes_lossy)
        if raw.ndim == 3 or raw.dtype not in (np.uint8, np.uint16):
            return MaskValues(self._ids(path, raw, palette), lambda ids: ids)
        unseen = palette if self._colours is None and palette is not BLACK_AND_WHITE else None
        return MaskValues(raw, partial(self._ids_of_some, path, raw, palette), unseen)

    def _annotated(self, path: Path, names: LabelNames) -> MaskValues:
        mask = read_annotated(path)
        table = names.table(path, mask.names)
        if (table == UNKNOWN).any():
            ids = table[mask.values]
            if (ids == UNKNOWN).any():
                raise names.fault(path, mask, ids)
        return MaskValues(mask.values, lambda values: table[values])

    def _above(self, path: Path, threshold: float) -> Ids:
        """Class 1 where the grey level is above the threshold; colours count by their luma."""
        raw, palette = read_mask_and_palette(path, lossy=True)
        if palette is not None:
            if raw.max() >= len(palette):
                raise DataError(f"{path}: index {raw.max()} is not in its palette.")
            raw = np.array([unpack(code) for code in palette])[raw]
        if raw.ndim == 3:
            raw = raw @ _LUMA
        if raw.dtype.kind == "f" and np.isnan(raw).any():
            raise DataError(f"{path}: holds NaN, which is on no side of data.mask_threshold.")
        return np.asarray(raw > threshold, np.uint8)

    def of_values(self, name: str, values: NDArray[Any]) -> Ids:
        """Class ids of mask values (H, W) of any integer type, uint8.

        Args:
            name: Of the mask, for the message.
            values: Read by the label map; a colour has none.

        Raises:
            DataError: If a value has no class.
        """
        if values.dtype not in (np.uint8, np.uint16):
            return _known(name, values, self._map.ids(values), self._unknown_value)
        return _mapped(name, values, self._plain)

    def _ids_of_some(
        self, path: Path, raw: NDArray[Any], palette: Palette | None, values: NDArray[Any]
    ) -> Ids:
        table = self._table_of(path, palette, values)
        ids: Ids = table.ids[values]
        if (ids == UNKNOWN).any():
            _mapped(path, raw, table)  # raises, with the pixels counted, unless there is no data
            ids[ids == UNKNOWN] = IGNORE_INDEX
        return ids

    def _table_of(self, path: Path, palette: Palette | None, used: NDArray[Any]) -> _FileTable:
        """How the values of a file are read, among which are the `used` ones."""
        colours = self._colours
        if colours is None:
            return self._plain
        if palette is BLACK_AND_WHITE and not (
            colours.all_grey and (colours.find(palette) != UNKNOWN).all()
        ):
            palette = None  # 0 and 1 are class ids
        if palette is not None:
            ids = colours.of_palette(palette, self._table[: np.iinfo(used.dtype).max + 1])
            return _FileTable(ids, partial(colours.palette_fault, palette))
        grey_ids = colours.of_grey(path, used) if used.dtype == np.uint8 else None
        return self._plain if grey_ids is None else _FileTable(grey_ids, colours.grey_fault)

    def _unknown_value(self, path: Path | str, raw: NDArray[Any], ids: Ids) -> DataError:
        values, counts = np.unique(raw[ids == UNKNOWN], return_counts=True)
        if values.dtype.kind == "f" and (values % 1 > 0).any():
            fraction = values[values % 1 > 0][0]
            return DataError(
                f"{path}: label {fraction:g} is no whole number; masks hold class ids."
            )
        whole = [int(v) if np.isfinite(v) else v for v in values]  # in full, not as 1e+06
        found = {f"label {v}": int(n) for v, n in zip(whole, counts, strict=True)}
        return LabelError(
            path,
            found,
            f"is in neither label_map nor class ids 0..{self.num_classes - 1}; add it to "
            f"data.label_map (map it to {IGNORE_INDEX} to ignore it).",
        )


def _mapped(path: Path | str, raw: NDArray[Any], table: _FileTable) -> Ids:
    mapped = cv2.LUT(raw, table.ids[:256]) if raw.dtype == np.uint8 else table.ids[raw]
    return _known(path, raw, np.asarray(mapped, np.uint8), table.fault)


def _known(path: Path | str, raw: NDArray[Any], ids: Ids, fault: Fault) -> Ids:
    """The ids, where all are known but that of the value for "no data" that a GeoTIFF declares."""
    unknown = ids == UNKNOWN
    if not unknown.any():
        return ids
    nodata = read_header(path).nodata if isinstance(path, Path) else None
    if nodata is not None:
        empty = np.isnan(raw) if np.isnan(nodata) else raw == nodata
        ids = np.where(unknown & empty, np.uint8(IGNORE_INDEX), ids)
    if nodata is not None and (unknown & empty).any():
        _say_once(f"Masks declare {nodata:g} to be no data: it is ignored.")
    if (ids == UNKNOWN).any():
        raise fault(path, raw, ids)
    return ids


@cache
def _say_once(text: str) -> None:
    rank_zero_only(log.info)(text)


def _single_channel(path: Path, raw: NDArray[Any]) -> NDArray[Any]:
    if not ((raw[..., 0] == raw[..., 1]) & (raw[..., 0] == raw[..., 2])).all():
        raise DataError(
            f"{path}: the mask holds RGB colours; set data.class_colors to the colour of each "
            "class (and data.ignore_colors)."
        )
    return raw[..., 0]  # indices saved as grey RGB
