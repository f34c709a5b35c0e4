"""What masks hold, counted: values or colours, how often, and whether they fill areas."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg.data.files.coding import lossy_coding
from seg.data.files.decoding import decode_samples, read_mask_and_palette
from seg.data.files.headers import DataError, Header, naming, read_header
from seg.data.files.palettes import BLACK_AND_WHITE, Palette, grey, pack

_THREADS = 4
_MOST = 512
"""Labels of one mask that are kept, the most frequent; a mask of classes has fewer."""
_CELL = 3
"""Bits of a channel that a cell of colours leaves out."""

Array = NDArray[Any]


@dataclass
class Tally:
    """Where a label occurs.

    Attributes:
        pixels: In how many pixels.
        flat: How many of these have four neighbours of the same label, so that they lie in an area.
        masks: In how many masks.
    """

    pixels: int = 0
    flat: int = 0
    masks: int = 0

    def add(self, pixels: int, flat: int, masks: int = 1) -> None:
        """Count more of it."""
        self.pixels += pixels
        self.flat += flat
        self.masks += masks


@dataclass(frozen=True)
class _Mask:
    """One mask: labels are values, or colours 0xRRGGBB where `is_colour`."""

    path: Path
    labels: Array
    pixels: Array
    flat: Array
    is_colour: bool
    palette: Palette | None
    traits: tuple[str, ...]
    nodata: float | None
    cells: Array


@dataclass
class Contents:
    """Of many masks.

    Attributes:
        masks: Number of masks that were read.
        values: Of masks with one channel, or with three equal ones.
        colours: Of masks of colours, and of the palettes of palette masks; keys are 0xRRGGBB.
        greys: Of the other masks, as far as values are grey levels, likewise.
        traits: What is special about some masks, and how many these are; the first such mask.
        in_colour: Number of masks of RGB colours.
        with_palette: Number of palette masks.
        of_index: Colours of each index in the palettes.
        nodata: Values that GeoTIFFs declare as no data.
        cells: Which cells of 8 x 8 x 8 colours occur in masks of colours, (32768,).
        faults: Masks that cannot be read, one line each.
    """

    masks: int = 0
    values: dict[float, Tally] = field(default_factory=lambda: defaultdict(Tally))
    colours: dict[int, Tally] = field(default_factory=lambda: defaultdict(Tally))
    greys: dict[int, Tally] = field(default_factory=lambda: defaultdict(Tally))
    traits: dict[str, list[Any]] = field(default_factory=dict)
    in_colour: int = 0
    with_palette: int = 0
    of_index: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    nodata: set[float] = field(default_factory=set)
    cells: Array = field(default_factory=lambda: np.zeros(1 << 3 * (8 - _CELL), bool))
    faults: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, masks: Sequence[Path], advance: Callable[[], object]) -> "Contents":
        """Read masks, some at a time.

        Args:
            masks: Mask files.
            advance: Called after each of them.
        """
        contents = cls()
        with ThreadPoolExecutor(_THREADS) as pool:
            for found in pool.map(_read, masks):
                contents.add(found)
                advance()
        return contents

    @property
    def lossy(self) -> list[str]:
        """Names of lossy codings that occur."""
        return [trait for trait in self.traits if trait in _LOSSY]

    def add(self, mask: _Mask | str) -> None:
        """Count a mask, or note why it cannot be read."""
        if isinstance(mask, str):
            self.faults.append(mask)
            return
        self.masks += 1
        self.in_colour += mask.is_colour
        self.with_palette += mask.palette is not None
        for trait in mask.traits:
            self.traits.setdefault(trait, [0, mask.path])[0] += 1
        if mask.nodata is not None:
            self.nodata.add(mask.nodata)
        self.cells[mask.cells] = True
        rows = zip(mask.labels.tolist(), mask.pixels.tolist(), mask.flat.tolist(), strict=True)
        for label, pixels, flat in rows:
            if mask.is_colour:
                self.colours[label].add(pixels, flat)
                continue
            value = _plain(label)
            self.values[value].add(pixels, flat)
            if mask.palette is None and isinstance(value, int) and 0 <= value < 256:
                self.greys[grey(value)].add(pixels, flat)
            elif mask.palette is not None and label < len(mask.palette):
                colour = int(mask.palette[label])
                self.colours[colour].add(pixels, flat)
                self.of_index[label].add(colour)


_LOSSY = ("JPEG", "JPEG 2000", "lossy WebP", "JPEG within TIFF")
IN_ALPHA = "one colour, with a picture in alpha"
"""Trait of a mask whose labels are, it seems, in a channel that is not read."""
MANY = "more labels than classes can be"
"""Trait of a mask of which only the most frequent labels were counted."""


def _read(path: Path) -> _Mask | str:
    try:
        raw, palette = read_mask_and_palette(path, lossy=True)
        with naming(path):
            data = path.read_bytes()
        header = read_header(path, data)
    except DataError as error:
        return str(error)
    traits = [*filter(None, [lossy_coding(data, header)])]
    if raw.ndim == 3 and (raw[..., 0] == raw[..., 1]).all() and (raw[..., 0] == raw[..., 2]).all():
        raw = raw[..., 0]
        traits.append("RGB with equal channels")
    if raw.ndim == 3 and raw.dtype != np.uint8:
        return f"{path}: a mask of colours has 8 bits a channel, not {raw.dtype}."
    if palette is BLACK_AND_WHITE:
        palette = None
        traits.append("1 bit")
    if header.alpha:
        traits.append("alpha, which is not read")
    if raw.dtype != np.uint8:
        traits.append(str(raw.dtype))
    if header.format == "GIF":
        traits.append("GIF")
    is_colour = raw.ndim == 3
    codes = pack(raw) if is_colour else raw
    labels, pixels, flat = _counted(codes)
    if header.alpha and len(labels) == 1 and len(np.unique(decode_samples(path)[..., -1])) > 1:
        traits.append(IN_ALPHA)
    cells = _cells(labels) if is_colour else np.zeros(0, np.int64)
    if len(labels) > _MOST:
        traits.append(MANY)
        kept = np.argsort(-pixels, kind="stable")[:_MOST]
        kept = np.union1d(kept, [0, len(labels) - 1])  # the least and the greatest value as well
        labels, pixels, flat = labels[kept], pixels[kept], flat[kept]
    return _Mask(
        path, labels, pixels, flat, is_colour, palette, (*traits,), _nodata(header, labels), cells
    )


def _nodata(header: Header, labels: Array) -> float | None:
    """The value for no data that the file declares, if it occurs."""
    nodata = header.nodata
    if nodata is None:
        return None
    occurs = np.isnan(labels).any() if np.isnan(nodata) else (labels == nodata).any()
    return nodata if occurs else None


def _counted(codes: Array) -> tuple[Array, Array, Array]:
    """Labels of a mask (H, W), the pixels of each, and the flat ones among these.

    Runs of equal labels are counted first, of which a mask has few.
    """
    flat = np.zeros(codes.shape, np.int64)
    across, down = codes[:, 1:] == codes[:, :-1], codes[1:] == codes[:-1]
    if min(codes.shape) > 2:
        inner = across[1:-1, 1:] & across[1:-1, :-1] & down[1:, 1:-1] & down[:-1, 1:-1]
        flat[1:-1, 1:-1] = inner
    line = codes.ravel()
    starts = np.concatenate([[0], np.flatnonzero(line[1:] != line[:-1]) + 1])
    labels, place = np.unique(line[starts], return_inverse=True)
    lengths = np.diff(np.append(starts, line.size))
    pixels = np.bincount(place, lengths, len(labels)).astype(np.int64)
    flats = np.bincount(place, np.add.reduceat(flat.ravel(), starts), len(labels))
    return labels, pixels, flats.astype(np.int64)


def _cells(codes: Array) -> Array:
    """Cell of 8 x 8 x 8 colours that each colour 0xRRGGBB is in."""
    bits = 8 - _CELL
    red, green, blue = (codes >> shift + _CELL & (1 << bits) - 1 for shift in (16, 8, 0))
    return np.unique(red.astype(np.int64) << 2 * bits | green << bits | blue)


def cell_centres(cells: Array) -> Array:
    """RGB (N, 3) of the middle of each cell that occurs, of `Contents.cells`."""
    bits = 8 - _CELL
    number = np.flatnonzero(cells)
    channels = [number >> shift & (1 << bits) - 1 for shift in (2 * bits, bits, 0)]
    return np.stack(channels, 1) * (1 << _CELL) + (1 << _CELL) / 2 - 0.5


def _plain(value: float) -> float:
    """A whole number where it is one; NaN is always the same object, to be found in a dict."""
    if math.isnan(value):
        return math.nan
    return int(value) if math.isfinite(value) and value == int(value) else value
