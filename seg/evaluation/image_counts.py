"""Counts of every single image: what intervals, comparisons and scores by image follow from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
