"""What one mask holds: pixels, connected components and places of every class, in one sweep.

A mask is cut into runs, stretches of equal labels in a row. There are some thirty times fewer of
them than pixels, and everything else follows from them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from seg.data.files.labels import ToIds
from seg.data.files.palettes import Palette, entries

MOST_PLACES = 32
"""Most places that are kept of a class in a mask."""

_VALUES = 256
_LONG = 100
"""Mean length of runs above which bisection is faster than a table."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Regions:
    """Counts and places of the C classes in one mask; everything is int64.

    Attributes:
        size: Height and width, (2,).
        pixels: Pixels of each class, (C,).
        ignored: Pixels of no class, (1,).
        classes: Class of each of the K components (8-connected), (K,).
        areas: Their pixels, (K,).
        boxes: Their top, left, bottom and right, the last two exclusive, (K, 4).
        places: Pixels of each class in turn, as row · width + column; see `places_of`.
        num_places: How many of them each class has, (C,).
        entries: The entries of its palette that it shows in counted pixels; see `entries`.
    """

    size: Ints
    pixels: Ints
    ignored: Ints
    classes: Ints
    areas: Ints
    boxes: Ints
    places: Ints
    num_places: Ints
    entries: Ints


@dataclass(frozen=True)
class _Runs:
    shape: tuple[int, int]
    starts: Ints  # (R,), row · width + column, ascending
    lengths: Ints
    labels: NDArray[np.uint8]
    values: NDArray[Any]  # all that occur in the mask, any number of times

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    @classmethod
    def of(cls, values: NDArray[Any], to_ids: ToIds) -> "_Runs":
        width = values.shape[1]
        flat = values.ravel()
        differs = np.empty(flat.shape, bool)
        np.not_equal(flat[1:], flat[:-1], out=differs[1:])
        differs[::width] = True
        starts = np.flatnonzero(differs)
        seen = flat[starts]
        labels = to_ids(seen)
        # values that have one class in common make one run
        kept = starts % width == 0
        kept[1:] |= labels[1:] != labels[:-1]
        starts = starts[kept]
        return cls(values.shape, starts, np.diff(starts, append=values.size), labels[kept], seen)


def find_regions(
    values: NDArray[Any],
    num_classes: int,
    to_ids: ToIds = lambda values: values,
    palette: Palette | None = None,
) -> Regions:
    """Describe a mask.

    Args:
        values: Class ids (H, W); ids of C and above are ignored pixels.
        num_classes: C, at most 254.
        to_ids: From some of the values to their class ids in uint8, where they are none yet; of
            each run one is asked for, which is cheaper than to ask for those of all pixels.
        palette: Colour of each value, for `Regions.entries`.
    """
    runs = _Runs.of(np.ascontiguousarray(values), to_ids)
    counts = np.bincount(runs.labels, runs.lengths, _VALUES).astype(np.int64)
    places, num_places = places_of(runs, counts[:num_classes])
    classes, areas, boxes = _components(runs)
    kept = classes < num_classes
    return Regions(
        size=np.array(values.shape),
        pixels=counts[:num_classes],
        ignored=counts[num_classes:].sum(keepdims=True),
        classes=classes[kept],
        areas=areas[kept],
        boxes=boxes[kept],
        places=places,
        num_places=num_places,
        entries=_shown(runs.values, num_classes, to_ids, palette),
    )


def _shown(values: NDArray[Any], num_classes: int, to_ids: ToIds, palette: Palette | None) -> Ints:
    if palette is None:
        return np.zeros(0, np.int64)
    used = np.flatnonzero(np.bincount(values, minlength=1)).astype(values.dtype)
    return entries(palette, used[to_ids(used) < num_classes])


def places_of(runs: _Runs, pixels: Ints) -> tuple[Ints, Ints]:
    """Up to `MOST_PLACES` pixels of each class, evenly spaced in the order of its rows.

    Returns:
        The pixels of each class in turn, and the number of them (C,).
    """
    order = np.argsort(runs.labels, kind="stable")
    ends = runs.lengths[order].cumsum()
    num_places = np.minimum(pixels, MOST_PLACES)
    owner = np.repeat(np.arange(len(pixels)), num_places)
    nth = np.arange(len(owner)) - (num_places.cumsum() - num_places)[owner]
    share = (2 * nth + 1) * pixels[owner] // (2 * num_places[owner])  # midpoints of equal parts
    ranks = (pixels.cumsum() - pixels)[owner] + share
    at = np.searchsorted(ends, ranks, side="right")
    run = order[at]
    return runs.starts[run] + ranks - (ends[at] - runs.lengths[run]), num_places


def _components(runs: _Runs) -> tuple[Ints, Ints, Ints]:
    """Class, area and box of each component."""
    found, component = connected_components(_contacts(runs), directed=False)
    areas = np.bincount(component, runs.lengths, found).astype(np.int64)
    # numpy sorts 16 bits by radix, several times as fast as more of them
    narrow = component.astype(np.uint16) if found <= 2**16 else component
    order = np.argsort(narrow, kind="stable")
    begins = np.flatnonzero(np.diff(component[order], prepend=-1))
    row, left = np.divmod(runs.starts[order], runs.shape[1])
    right = left + runs.lengths[order]
    sides = [
        np.minimum.reduceat(row, begins),
        np.minimum.reduceat(left, begins),
        np.maximum.reduceat(row, begins) + 1,
        np.maximum.reduceat(right, begins),
    ]
    return runs.labels[order[begins]].astype(np.int64), areas, np.stack(sides, axis=1)


def _contacts(runs: _Runs) -> Any:
    """Graph (R, R) of the runs of one label that touch, in rows next to each other, diagonals too.

    An upper run [a, b) and a lower one [c, d) touch if c ≤ b and a ≤ d. Then a < c, and the upper
    one holds the column c - 1; or c < a, and the lower one holds a - 1; or a = c.
    """
    width = runs.shape[1]
    inner = runs.starts % width > 0
    pixels = runs.starts + np.array([[-width - 1], [width - 1], [width]])
    others = _runs_at(runs, pixels)
    touches = (runs.labels[others] == runs.labels) & (pixels >= 0) & (pixels < runs.size)
    touches[:2] &= inner
    touches[2] &= runs.starts[others[2]] == pixels[2]
    ends = np.concatenate([[0], touches.sum(0).cumsum()]).astype(np.int32)
    neighbours = others.T[touches.T]
    size = (len(runs.starts), len(runs.starts))
    return csr_array((np.ones(len(neighbours)), neighbours, ends), shape=size)


def _runs_at(runs: _Runs, pixels: Ints) -> NDArray[np.int32]:
    """The run that each pixel is in; those beyond the mask are in its first or last one.

    Of few runs it is found by bisection, of many by a table of all pixels.
    """
    if len(runs.starts) * _LONG < runs.size:
        found = np.searchsorted(runs.starts, pixels, side="right") - 1
        return found.clip(0).astype(np.int32)
    number = np.arange(len(runs.starts), dtype=np.int32)
    return np.repeat(number, runs.lengths).take(pixels, mode="clip")
