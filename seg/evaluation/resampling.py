"""Scores of images drawn again: the bootstrap that intervals and comparisons are made of."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from seg.evaluation.image_counts import ImageCounts

_DRAWN = 2**22
"""Images that are drawn at a time, 8 bytes each."""
_BLOCK = 2048
"""Images whose counts are spread out at a time."""

SCORES = ("iou", "dice", "precision", "recall")
MEANS = ("miou", "miou_rare")

Floats = NDArray[np.float64]


def resampled_sums(counts: ImageCounts, resamples: int, seed: int) -> Iterator[Floats]:
    """Counts of as many images as there are, drawn from them with replacement.

    The sums are whole numbers below 2^53, so that they are the same on any machine.

    Args:
        counts: Of N images, or groups of images, and C classes.
        resamples: How often they are drawn.
        seed: Equal seeds draw equal images from the same number of them.

    Yields:
        Sums (r, C, 3) of the next r resamples: true positives, false positives, false negatives.
    """
    number, generator = len(counts), np.random.default_rng(seed)
    most = max(1, _DRAWN // number)
    for start in range(0, resamples, most):
        size = min(most, resamples - start)
        drawn = generator.integers(0, number, (size, number)) + number * np.arange(size)[:, None]
        # how often each image was drawn; an eighth of the time of `multinomial`
        weights = np.bincount(drawn.ravel(), minlength=size * number).reshape(size, number)
        weights = weights.astype(float)
        sums = np.zeros((size, counts.classes * 3))
        for first in range(0, number, _BLOCK):
            block = counts.dense(first, first + _BLOCK).reshape(-1, counts.classes * 3)
            sums += weights[:, first : first + _BLOCK] @ block.astype(float)
        yield sums.reshape(size, counts.classes, 3)


def class_scores(sums: NDArray[np.floating | np.integer]) -> dict[str, Floats]:
    """IoU, Dice, precision and recall (*d, C) of counts (*d, C, 3); NaN means undefined."""
    hits, wrong, missed = np.moveaxis(np.asarray(sums, float), -1, 0)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as it should be
        return {
            "iou": hits / (hits + wrong + missed),
            "dice": 2 * hits / (2 * hits + wrong + missed),
            "precision": hits / (hits + wrong),
            "recall": hits / (hits + missed),
        }


def mean_of_known(values: Floats) -> Floats:
    """The mean over the last axis without NaN; NaN where nothing is left."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        means: Floats = np.where(known, values, 0).sum(-1) / known.sum(-1)
    return means


def resampled_scores(
    counts: ImageCounts,
    rare: list[int],
    resamples: int,
    seed: int,
    kinds: Sequence[str] = SCORES,
) -> dict[str, Floats]:
    """Scores of every resample.

    Args:
        counts: As in `resampled_sums`.
        rare: Ids of the classes that miou_rare is the mean of.
        resamples: B, as in `resampled_sums`.
        seed: As in `resampled_sums`.
        kinds: Which scores of the classes to keep, iou among them.

    Returns:
        ``iou``, ``dice``, ``precision`` and ``recall`` (B, C), ``miou`` and ``miou_rare`` (B,).
    """
    kept: dict[str, list[Floats]] = {kind: [] for kind in kinds}
    for sums in resampled_sums(counts, resamples, seed):
        scores = class_scores(sums)
        for kind, parts in kept.items():
            parts.append(scores[kind])
    found = {kind: np.concatenate(parts) for kind, parts in kept.items()}
    found["miou"] = mean_of_known(found["iou"])
    found["miou_rare"] = mean_of_known(found["iou"][:, rare])
    return found
