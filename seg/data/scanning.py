"""Describes every mask of a split once: what weights, samplers and audits are made of."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from seg.data.header import DataError
from seg.data.labels import ToIds
from seg.data.regions import Regions, find_regions
from seg.data.remembering import ScanMemory
from seg.data.scan import Scan

Advance = Callable[[], Any]
"""Called once for every mask that is done, from any thread."""


class HasMasks(Protocol):
    """A dataset whose masks can be read alone."""

    def __len__(self) -> int: ...

    def mask_values(self, index: int) -> tuple[NDArray[Any], ToIds]:
        """Values (H, W) of one sample's mask, and what gives the class ids of some of them."""
        ...


def scan_masks(
    dataset: HasMasks,
    num_classes: int,
    memory: ScanMemory | None = None,
    advance: Advance = lambda: None,
) -> tuple[Scan, dict[int, str]]:
    """Describe every mask as stored, not as augmented; threads share the work.

    Args:
        dataset: Whose masks.
        num_classes: C.
        memory: Where the regions of unchanged files are known from, and kept.
        advance: Told of every mask that is done.

    Returns:
        The scan, and what is wrong with masks that cannot be read, by index; these count nothing.
    """
    known = {} if memory is None else memory.recall()
    faults: dict[int, str] = {}

    def one(index: int) -> Regions:
        found = None if memory is None else known.get(memory.key(index))
        if found is None:
            try:
                values, to_ids = dataset.mask_values(index)
                found = find_regions(values, num_classes, to_ids)
            except DataError as error:
                faults[index] = str(error)
                found = find_regions(np.zeros((0, 1), np.uint8), num_classes)
        advance()
        return found

    with ThreadPoolExecutor(_cores()) as pool:
        regions = list(pool.map(one, range(len(dataset))))
    if memory is not None:
        memory.keep({i: r for i, r in enumerate(regions) if i not in faults}, known)
    return Scan.of(regions, num_classes), faults


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
