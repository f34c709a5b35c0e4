"""What one mask holds: pixels, connected components and places of every class, in one sweep.

A mask is cut into runs, stretches of equal labels in a row. There are some thirty times fewer of
them than pixels, and everything else follows from them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

MOST_PLACES = 32
"""Most places that are kept of a class in a mask."""

_VALUES = 256

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
    """

    size: Ints
    pixels: Ints
    ignored: Ints
    classes: Ints
    areas: Ints
    boxes: Ints
    places: Ints
    num_places: Ints


@dataclass(frozen=True)
class _Runs:
    shape: tuple[int, int]
    starts: Ints  # (R,), row · width + column, ascending
    lengths: Ints
    labels: NDArray[np.uint8]

    @classmethod
    def of(cls, mask: NDArray[np.uint8]) -> "_Runs":
        differs = np.empty(mask.shape, bool)
        differs[:, 0] = True
        np.not_equal(mask[:, 1:], mask[:, :-1], out=differs[:, 1:])
        starts = np.flatnonzero(differs)
        lengths = np.diff(starts, append=mask.size)
        return cls(mask.shape, starts, lengths, mask.ravel()[starts])


def find_regions(mask: NDArray[np.uint8], num_classes: int) -> Regions:
    """Describe a mask (H, W) of class ids; ids of C and above are ignored pixels."""
    runs = _Runs.of(np.ascontiguousarray(mask))
    counts = np.bincount(runs.labels, runs.lengths, _VALUES).astype(np.int64)
    places, num_places = places_of(runs, counts[:num_classes])
    classes, areas, boxes = _components(runs)
    kept = classes < num_classes
    return Regions(
        size=np.array(mask.shape),
        pixels=counts[:num_classes],
        ignored=counts[num_classes:].sum(keepdims=True),
        classes=classes[kept],
        areas=areas[kept],
        boxes=boxes[kept],
        places=places,
        num_places=num_places,
    )


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
    first, second = _contacts(runs)
    number = len(runs.starts)
    links = coo_array((np.ones(len(first), bool), (first, second)), shape=(number, number))
    found, component = connected_components(links, directed=False)
    areas = np.bincount(component, runs.lengths, found).astype(np.int64)
    order = np.argsort(component, kind="stable")
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


def _contacts(runs: _Runs) -> tuple[Any, Any]:
    """Pairs of runs of one label that touch, in rows next to each other, diagonals too.

    Two runs touch from the lower one's column before its start on, or from the upper one's start.
    """
    width, size = runs.shape[1], runs.shape[0] * runs.shape[1]
    number = np.arange(len(runs.starts), dtype=np.int32)
    run_of = np.repeat(number, runs.lengths)
    column = runs.starts % width
    firsts, seconds = [], []
    # offset of the pixel looked at, and for which columns it lies within the neighbouring row
    for offset, inside in (
        (-width - 1, column > 0),
        (width - 1, column > 0),
        (width, True),
        (width + 1, column < width - 1),
    ):
        pixel = runs.starts + offset
        there = inside & (pixel >= 0) & (pixel < size)
        mine, other = number[there], run_of[pixel[there]]
        same = runs.labels[mine] == runs.labels[other]
        firsts.append(mine[same])
        seconds.append(other[same])
    return np.concatenate(firsts), np.concatenate(seconds)
