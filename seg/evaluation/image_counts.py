"""Counts of every single image: what intervals, comparisons and scores by image follow from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

_MOST_WAITING = 2**24
"""Bytes of counts that may wait on the device. To fetch each batch's would make it wait."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ImageCounts:
    """Pixels found, wrongly found and missed of each class in each image; those not listed are 0.

    Attributes:
        names: Names of the N images, sorted, each one once.
        classes: Number of classes, C.
        image: Index of the image of each row, int64 (R,), in ascending order.
        class_id: Class of each row, int64 (R,), in ascending order within an image.
        counts: int64 (R, 3): true positives, false positives, false negatives.
    """

    names: tuple[str, ...]
    classes: int
    image: Ints
    class_id: Ints
    counts: Ints

    def __len__(self) -> int:
        return len(self.names)

    def dense(self, start: int = 0, stop: int | None = None) -> Ints:
        """The counts of the images from `start` to before `stop`, int64 (n, C, 3)."""
        stop = len(self) if stop is None else min(stop, len(self))
        rows = slice(*np.searchsorted(self.image, [start, stop]))
        found = np.zeros((stop - start, self.classes, 3), np.int64)
        found[self.image[rows] - start, self.class_id[rows]] = self.counts[rows]
        return found

    def total(self) -> Ints:
        """The sums over all images, int64 (C, 3)."""
        sums = np.zeros((self.classes, 3), np.int64)
        np.add.at(sums, self.class_id, self.counts)
        return sums

    def merged(self, groups: Sequence[str]) -> "ImageCounts":
        """The sums over groups of images.

        Args:
            groups: Name of the group of each image, (N,).
        """
        names, group = np.unique(np.asarray(groups, dtype=object), return_inverse=True)
        cells = group[self.image] * self.classes + self.class_id
        cell, place = np.unique(cells, return_inverse=True)
        sums = np.zeros((len(cell), 3), np.int64)
        np.add.at(sums, place, self.counts)
        return ImageCounts(tuple(names), self.classes, *np.divmod(cell, self.classes), sums)


def carriers(counts: ImageCounts, kinds: tuple[int, ...]) -> Ints:
    """In how many images each class has a pixel of some kinds, indices of the counts; (C,)."""
    rows = counts.counts[:, kinds].any(axis=1)
    found: Ints = np.bincount(counts.class_id[rows], minlength=counts.classes)
    return found


class ImageCounter:
    """Collects the counts of one rank's images, and joins those of all ranks.

    Only classes that occur in the truth or the prediction of an image are kept: 40 bytes each, on
    the CPU. That is 80 MB for 100,000 images with 20 of 150 classes each.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._names: list[str] = []
        self._fetched = 0
        self._waiting: list[Tensor] = []
        self._rows: list[Ints] = []

    def add(self, names: Sequence[str], matrices: Tensor) -> None:
        """Add images.

        Args:
            names: Their N names.
            matrices: Confusion matrices, integers (N, C, C), rows the truth.
        """
        hits = matrices.diagonal(dim1=1, dim2=2)
        counts = hits, matrices.sum(1) - hits, matrices.sum(2) - hits
        self._names += map(str, names)
        self._waiting.append(torch.stack(counts, dim=2))  # (n, C, 3)
        if sum(part.nbytes for part in self._waiting) > _MOST_WAITING:
            self._fetch()

    def _fetch(self) -> None:
        if not self._waiting:
            return
        counts = torch.cat(self._waiting).cpu().numpy()
        self._waiting = []
        image, class_id = np.nonzero(counts.any(axis=2))
        rows = np.column_stack([image + self._fetched, class_id, counts[image, class_id]])
        self._rows.append(rows)
        self._fetched += len(counts)

    def of_all_ranks(self) -> ImageCounts:
        """The counts of the images of all ranks, the same on each; every rank must ask for them."""
        self._fetch()
        empty = np.zeros((0, 5), np.int64)
        own = self._names, np.concatenate([empty, *self._rows])
        parts = [own]
        if dist.is_available() and dist.is_initialized():
            parts = [own] * dist.get_world_size()
            dist.all_gather_object(parts, own)
        names, rows, before = [], [], 0
        for of_rank, found in parts:
            rows.append(found + np.array([before, 0, 0, 0, 0]))
            names += of_rank
            before += len(of_rank)
        return _sorted(names, np.concatenate(rows), self.num_classes)


def _sorted(names: list[str], rows: Ints, classes: int) -> ImageCounts:
    """In an order that does not depend on which rank had which image, also of equal names."""
    ends = np.searchsorted(rows[:, 0], np.arange(len(names) + 1))
    keys = [(name, rows[ends[i] : ends[i + 1], 1:].tobytes(), i) for i, name in enumerate(names)]
    order = np.array([i for *_, i in sorted(keys)], np.int64)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    image = place[rows[:, 0]]
    by_image = np.argsort(image, kind="stable")
    told_apart = _numbered([names[i] for i in order])
    rows = rows[by_image]
    return ImageCounts(told_apart, classes, image[by_image], rows[:, 1], rows[:, 2:])


def _numbered(names: list[str]) -> tuple[str, ...]:
    """The names, those that come again with a number behind them."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(found)
