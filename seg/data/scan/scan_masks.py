"""Describes every mask of a split once: what weights, samplers and audits are made of."""

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from lightning.fabric.utilities.rank_zero import rank_zero_only

from seg.data.files.headers import DataError
from seg.data.files.labels import MaskValues
from seg.data.files.palettes import disagreement
from seg.data.scan.cache import ScanMemory
from seg.data.scan.components import Regions, find_regions
from seg.data.scan.faults import told_together
from seg.data.scan.table import Scan

log = logging.getLogger(__name__)

Advance = Callable[[], Any]
"""Called once for every mask that is done, from any thread."""

MaskFaults = dict[int, DataError]
"""What is wrong with a mask, by its index."""


class HasMasks(Protocol):
    """A dataset whose masks can be read alone."""

    def __len__(self) -> int: ...

    def mask_values(self, index: int) -> MaskValues:
        """What one sample's mask holds."""
        ...


def scan_masks(
    dataset: HasMasks,
    num_classes: int,
    memory: ScanMemory | None = None,
    advance: Advance = lambda: None,
    threads: int | None = None,
) -> tuple[Scan, MaskFaults]:
    """Describe every mask as stored, not as augmented; threads share the work.

    Args:
        dataset: Whose masks.
        num_classes: C.
        memory: Where the regions of unchanged files are known from, and kept.
        advance: Told of every mask that is done.
        threads: How many read masks at a time. Left out, one a core.

    Returns:
        The scan, and what is wrong with masks that cannot be read, by index; these count nothing.
    """
    known = {} if memory is None else memory.recall()
    faults: MaskFaults = {}

    def one(index: int) -> Regions:
        found = None if memory is None else known.get(memory.key(index))
        if found is None:
            try:
                mask = dataset.mask_values(index)
                found = find_regions(mask.values, num_classes, mask.to_ids, mask.palette)
            except DataError as error:
                faults[index] = error
                found = find_regions(np.zeros((0, 1), np.uint8), num_classes)
        advance()
        return found

    with ThreadPoolExecutor(threads or _cores()) as pool:
        regions = list(pool.map(one, range(len(dataset))))
    if memory is not None:
        memory.keep({i: r for i, r in enumerate(regions) if i not in faults}, known)
    return Scan.of(regions, num_classes), faults


def accept(scan: Scan, faults: MaskFaults, files: Sequence[Path]) -> Scan:
    """The scan of masks to train on; one rank warns if the palettes of the `files` differ.

    Raises:
        DataError: If there are faults; the message counts them.
    """
    if faults:
        raise DataError(told_together([faults[index] for index in sorted(faults)]))
    differ = disagreement(files, scan.num_entries, scan.entries)
    if differ is not None:
        rank_zero_only(log.warning)(differ)
    return scan


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
