"""What collects the counts of images while they are evaluated, on any number of ranks."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from seg.evaluation.image_counts import ImageCounts, Ints

_MOST_WAITING = 2**24
"""Bytes of counts that may wait on the device. To fetch each batch's would make it wait."""


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
