"""Biases, and what they gain on images that they were not fitted to."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg.calibration.histograms import STEP, LogOdds
from seg.calibration.searching import confusion, iou, mean_of_known, search
from seg.errors import InputError

FOLDS = 5
"""Parts of the images, of which each is judged by biases fitted to the others."""

SEARCHED = 2**20
"""Rows that a search looks at. With all of them it finds biases that are as good, and no better."""

SHARES = np.arange(9) / 8
"""Of the biases that are best for the images they are fitted to."""


class Fit(NamedTuple):
    """Fitted biases, and the IoU of each class without them and, out of sample, with them.

    Attributes:
        bias: To be added to each class's logit over the temperature, nats, (C,); fitted to all
            images.
        parts: The part, 0 to K - 1, of each image, (N,).
        held_out: For each part the biases that were fitted to the others, (K, C).
        before: IoU without biases, (C,).
        after: IoU (C,) of confusion counts in which every image is judged by biases that were
            fitted to other images.
        classes: Whose mean IoU was to be best.
        share: How much of the best biases `bias` is, one of `SHARES`; of 0 there is no gain.
        error: Standard error of the gain.
    """

    bias: NDArray[np.float64]
    parts: NDArray[np.int64]
    held_out: NDArray[np.float64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    classes: Sequence[int]
    share: float
    error: float

    @property
    def gain(self) -> float:
        """By how much the mean IoU of `classes` rises on new images."""
        chosen = list(self.classes)
        return float(np.nanmean(self.after[chosen]) - np.nanmean(self.before[chosen]))

    def judged_by(self, counts: NDArray[np.int64]) -> "Fit":
        """The same biases, with IoU and standard error of exact counts, not of histograms.

        Args:
            counts: Confusion counts (2, K, C, C) of each part, without and with `held_out`.
        """
        before, after = iou(counts.sum(1))
        error = float(_behind(counts, self.classes, 1)[1][0])
        return self._replace(before=before, after=after, error=error)


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
    parts = parts_of(np.stack([i.pixels() > 0 for i in images]), folds)
    odds = LogOdds.of(images, parts)
    classes = rarest_classes(odds.pixels(), rarest)
    found = np.stack([_fitted_without(odds, fold, classes) for fold in range(folds)])  # (K, C)
    counts = np.stack([_held_out(odds, *fold) for fold in enumerate(found)], 1)
    at = least_share(counts, classes)
    share = float(SHARES[at])
    bias = np.rint(share * search(odds.thinned(SEARCHED), classes)) * STEP
    before, after = iou(counts[[0, at]].sum(1))
    error = float(_behind(counts, classes, at)[1][0])
    return Fit(bias, parts, np.rint(share * found) * STEP, before, after, classes, share, error)


def _fitted_without(odds: LogOdds, fold: int, classes: Sequence[int]) -> NDArray[np.int64]:
    return search(odds.select(odds.folds != fold).thinned(SEARCHED), classes)


def _held_out(odds: LogOdds, fold: int, found: NDArray[np.int64]) -> NDArray[np.int64]:
    """Confusion counts (S, C, C) of a part, by each share of the biases fitted to the others."""
    mine = odds.select(odds.folds == fold)
    return np.stack([confusion(mine, np.rint(s * found).astype(np.int64)) for s in SHARES])


def least_share(counts: NDArray[np.int64], classes: Sequence[int]) -> int:
    """Index of the least share of the biases that is as good as the best, as far as can be told.

    That is the least whose mean IoU is behind by no more than the standard error of the difference.
    Near the best biases others are as good on these images, and small ones do less harm on images
    of another kind.

    Args:
        counts: Confusion counts (S, K, C, C) of K parts of the images by each share.
        classes: Whose mean IoU counts.

    Reference:
        Breiman et al., Classification and Regression Trees, 1984, section 3.4.3: the one
        standard error rule.
    """
    best = int(_mean_iou(counts.sum(1), classes).argmax())
    difference, error = _behind(counts, classes, best)
    return int((difference <= error).argmax())


def _behind(
    counts: NDArray[np.int64], classes: Sequence[int], at: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """By how much the mean IoU of each share is below that of one, and the standard error (S,).

    The error is that of the jackknife over the K parts.
    """
    total, parts = counts.sum(1, keepdims=True), counts.shape[1]
    whole, without = _mean_iou(total[:, 0], classes), _mean_iou(total - counts, classes)
    error = np.sqrt((parts - 1) * (without[at] - without).var(1))
    return whole[at] - whole, error


def _mean_iou(counts: NDArray[np.int64], classes: Sequence[int]) -> NDArray[np.float64]:
    """Of counts (…, C, C), without classes that have no true pixel."""
    scores = np.where(counts.sum(-1) > 0, iou(counts), np.nan)
    return mean_of_known(scores[..., list(classes)])


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
