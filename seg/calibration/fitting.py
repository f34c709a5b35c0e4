"""Biases, and what they gain on images that they were not fitted to."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg.calibration.histograms import STEP, LogOdds
from seg.calibration.searching import confusion, iou, search
from seg.errors import InputError

FOLDS = 5
"""Parts of the images, of which each is judged by biases fitted to the others."""

SEARCHED = 2**20
"""Rows that a search looks at. With all of them it finds biases that are as good, and no better."""


class Fit(NamedTuple):
    """Fitted biases, and the IoU of each class without them and, out of sample, with them.

    Attributes:
        bias: To be added to each class's logit over the temperature, nats, (C,); fitted to all
            images.
        before: IoU without biases, (C,).
        after: IoU (C,) of confusion counts in which every image is judged by biases that were
            fitted to other images.
        classes: Whose mean IoU was to be best.
    """

    bias: NDArray[np.float64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    classes: Sequence[int]

    @property
    def gain(self) -> float:
        """By how much the mean IoU of `classes` rises on new images."""
        chosen = list(self.classes)
        return float(np.nanmean(self.after[chosen]) - np.nanmean(self.before[chosen]))


def cross_fitted(images: Sequence[LogOdds], rarest: int | None = None) -> Fit:
    """Fit biases to all images, and estimate their worth by cross-fitting.

    The images are taken in `FOLDS` parts, as `parts_of` says.

    Args:
        images: The histogram of each image of the validation split.
        rarest: Over how many of the rarest classes, by true pixels, the mean IoU is to be best;
            None for all of them.

    Raises:
        InputError: If there are fewer than two images, or `rarest` is no number of classes.
    """
    if len(images) < 2:
        raise InputError(
            f"{len(images)} image to calibrate on; give a validation split of 2 or more."
        )
    folds = min(FOLDS, len(images))
    odds = LogOdds.of(images, parts_of(np.stack([i.pixels() > 0 for i in images]), folds))
    classes = rarest_classes(odds.pixels(), rarest)
    after = np.zeros((len(odds.levels), len(odds.levels)), np.int64)
    for fold in range(folds):
        held_out = odds.folds == fold
        found = search(odds.select(~held_out).thinned(SEARCHED), classes)
        after += confusion(odds.select(held_out), found)
    before = confusion(odds, np.zeros(len(odds.levels), np.int64))
    bias = np.asarray(search(odds.thinned(SEARCHED), classes) * STEP, np.float64)
    return Fit(bias, iou(before), iou(after), classes)


def parts_of(shown: NDArray[np.bool_], folds: int) -> NDArray[np.int64]:
    """The part, 0 to `folds` - 1, of each of N images: runs of neighbours, as long as can be.

    Neighbours by name are often frames of one video, too much alike to judge one by another. But
    names may also be sorted by what the images show; then a run may hold all images of a class,
    and the others teach nothing about it. So runs are halved, and dealt to the parts in turn, until
    no part has more than half of the images that show a class, or as few as can be. A class that
    fewer images show than there are parts does not count.

    Args:
        shown: Whether an image shows a class, (N, C).
        folds: Number of parts, N or fewer.
    """
    size = len(shown)
    known = shown[:, shown.sum(0) >= folds]
    numbers = [folds]  # of runs
    while numbers[-1] < size:
        numbers.append(min(2 * numbers[-1], size))
    dealt = [(np.arange(1, size + 1) * runs - 1) // size % folds for runs in numbers]
    most = [max(_largest_share(known, parts, folds), 0.5) for parts in dealt]
    return dealt[most.index(min(most))]


def _largest_share(shown: NDArray[np.bool_], parts: NDArray[np.int64], folds: int) -> float:
    """Largest share of the images that show a class which one part has."""
    counts = np.stack([shown[parts == fold].sum(0) for fold in range(folds)])
    return float((counts / shown.sum(0)).max(initial=0))


def rarest_classes(pixels: NDArray[np.int64], rarest: int | None) -> list[int]:
    """Ids of the k classes with fewest pixels, of those that have any; all of them if k is None."""
    order = [int(c) for c in np.argsort(pixels, kind="stable") if pixels[c] > 0]
    if rarest is None:
        return order
    if not 1 <= rarest <= len(order):
        raise InputError(f"--rarest {rarest}: expected 1 to {len(order)}, the classes that occur.")
    return order[:rarest]
