"""95 % intervals of scores: between which values those of other images of the kind would lie."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg.evaluation.image_counts import ImageCounts, carriers
from seg.evaluation.resampling import MEANS, SCORES, Floats, resampled_scores

RESAMPLES = 2000
FEWEST = 10
"""Images, or groups, that an interval needs. In a simulation (`scripts/bench_intervals.py`) the
intervals of classes in 10 images and more held the truth in 93 to 95 % of the cases, of those in 3
or 5 in 73 and 88 %, where no other image showed the class by mistake."""
_TAIL = 0.025


@dataclass(frozen=True)
class Intervals:
    """95 % intervals, low and high end along the last axis; NaN where too few images say.

    Attributes:
        ends: Of ``iou``, ``dice``, ``precision`` and ``recall``, (C, 2); of ``miou`` and of
            ``miou_rare``, the mean IoU of the rarest classes, (2,).
        images: Images with each class in the truth, int64 (C,).
        groups: Groups of images with each class in the truth; the images where none are given.
        drawn: Number of images, or of groups, that the resamples draw from.
        grouped: Whether these are groups.
    """

    ends: dict[str, Floats]
    images: NDArray[np.int64]
    groups: NDArray[np.int64]
    drawn: int
    grouped: bool


def intervals(
    counts: ImageCounts,
    rare: list[int],
    groups: list[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Intervals:
    """Intervals by the bootstrap over images, or over groups of them.

    The percentiles are not 2.5 and 97.5 but somewhat further out, as Student's t is than the
    normal distribution: for a class by the number of images with it, for a mean by that of the
    classes that make it vary.

    Args:
        counts: Of N images and C classes.
        rare: Ids of the classes that miou_rare is the mean of.
        groups: Group of each image, such as its patient or video; images of a group are alike, and
            are drawn together. Left out, each image by itself.
        resamples: How often the images are drawn again.
        seed: Of the drawing.

    Reference:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentiles);
        Hesterberg, What Teachers Should Know About the Bootstrap, 2015 (expanded percentiles);
        Satterthwaite, An Approximate Distribution of Estimates of Variance Components, 1946.
    """
    drawn = counts if groups is None else counts.merged(groups)
    with_class, predicted = carriers(drawn, (0, 2)), carriers(drawn, (0, 1))
    number = {name: with_class for name in SCORES}
    number["precision"] = np.minimum(with_class, predicted)
    if len(drawn) < FEWEST:
        found: dict[str, Floats] = {n: np.full((0, counts.classes), np.nan) for n in SCORES}
        found |= {name: np.full(0, np.nan) for name in MEANS}
    else:
        found = resampled_scores(drawn, rare, resamples, seed)
    ends = {name: expanded(found[name], number[name]) for name in SCORES}
    for name, of in zip(MEANS, ([*range(counts.classes)], rare), strict=True):
        behind = np.minimum(behind_mean(found["iou"][:, of], with_class[of]), len(drawn))
        ends[name] = expanded(found[name][:, None], behind)[0]
    return Intervals(ends, carriers(counts, (0, 2)), with_class, len(drawn), groups is not None)


def behind_mean(iou: Floats, number: NDArray[np.int64]) -> Floats:
    """How many images a mean over classes rests on, (1,): Satterthwaite's degrees, and one more.

    Args:
        iou: Resampled IoU of the K classes, (B, K).
        number: Images with each of them, (K,).
    """
    known = ~np.isnan(iou)
    times = np.maximum(known.sum(0), 1)
    values = np.where(known, iou, 0)
    variance = (values**2).sum(0) / times - (values.sum(0) / times) ** 2
    total = (variance**2 / np.maximum(number - 1, 1)).sum()
    return np.array([variance.sum() ** 2 / total + 1 if total > 0 else np.inf])


def expanded(values: Floats, number: Floats | NDArray[np.int64], fewest: int = FEWEST) -> Floats:
    """Interval of each column of resampled values, NaN left out.

    Args:
        values: (B, K), a row a resample.
        number: Of how many images each column is a score, (K,).
        fewest: Below that number there is no interval.

    Returns:
        Low and high end, (K, 2); NaN where there is none.
    """
    from scipy.special import ndtr, stdtrit  # here: delays no first step

    n = np.maximum(number, fewest)
    tail = ndtr(np.sqrt(n / (n - 1)) * stdtrit(n - 1, _TAIL))
    known = (~np.isnan(values)).sum(0)
    ordered = np.sort(values, axis=0)  # NaN comes last
    ends = np.stack([_quantiles(ordered, known, share) for share in (tail, 1 - tail)], axis=1)
    ends[(number < fewest) | (known == 0)] = np.nan
    return ends


def _quantiles(ordered: Floats, known: NDArray[np.int64], share: Floats) -> Floats:
    """Quantile of the first `known` values of each column, linear between two of them."""
    if not len(ordered):
        return np.full(len(known), np.nan)
    place = share * np.maximum(known - 1, 0)
    below = place.astype(int)
    above = np.minimum(below + 1, np.maximum(known - 1, 0))
    columns = np.arange(len(known))
    low, high = ordered[below, columns], ordered[above, columns]
    found: Floats = low + (place - below) * (high - low)
    return found
