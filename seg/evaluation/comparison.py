"""Differences between recipes that were judged on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg.evaluation.image_counts import ImageCounts, carriers
from seg.evaluation.intervals import behind_mean, expanded
from seg.evaluation.resampling import Floats, class_scores, mean_of_known, resampled_scores

RESAMPLES = 10_000
"""So many that the smallest p-value is still small after a correction for 150 classes."""
_DETECTABLE = 1.959964 + 0.841621
"""Standard errors of a difference that is found in 80 % of the cases at a level of 5 %."""


@dataclass(frozen=True)
class Difference:
    """IoU of a recipe less that of another: of each class, then mean IoU, then the rare classes'.

    All are float64 with C + 2 values; NaN where a score is undefined or too few images say.

    Attributes:
        first: IoU of the recipe that is compared with.
        second: IoU of the other.
        difference: What the second has more than the first.
        ends: 95 % interval of the difference, (C + 2, 2).
        p_value: Two-sided; below 0.05 where 0 lies outside the interval.
        images: How many images would show a difference half as large in 80 % of the cases, by an
            interval without 0.
    """

    first: Floats
    second: Floats
    difference: Floats
    ends: Floats
    p_value: Floats
    images: Floats


def difference(
    first: Sequence[ImageCounts],
    second: Sequence[ImageCounts],
    rare: list[int],
    groups: list[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Compares two recipes on the same N images, drawn again for both alike.

    The IoU of a recipe is the mean of its runs'. Where it has several, they are drawn again as
    well, so that the interval covers another training too, as far as so few runs tell.

    Args:
        first: Counts of each run of a recipe.
        second: Of each run of the other; names in the same order.
        rare: Ids of the rare classes.
        groups: Group of each image, as in `intervals`.
        resamples: How often images are drawn.
        seed: Of the drawing.

    Reference:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 16.
    """
    one, other = (_Recipe(runs, rare, groups, resamples, seed) for runs in (first, second))
    rng = np.random.default_rng([seed, 1])
    drawn = other.redrawn(rng) - one.redrawn(rng)
    of_images = other.values.mean(0) - one.values.mean(0)  # (B, C + 2)
    counts = one.counts
    number = carriers(counts, (0, 2)).astype(float)
    means = [behind_mean(of_images[:, of], number[of]) for of in ([*range(counts.classes)], rare)]
    number = np.minimum(np.concatenate([number, *means]), len(counts))
    found = other.point - one.point
    with np.errstate(divide="ignore", invalid="ignore"):
        images = len(first[0]) * (2 * _DETECTABLE * _deviation(of_images) / found) ** 2
    ends = expanded(drawn, number)
    return Difference(
        one.point,
        other.point,
        found,
        ends,
        p_value=np.where(np.isnan(ends[:, 0]), np.nan, _p_values(drawn, number)),
        images=np.where(np.isfinite(images), np.ceil(images), np.nan),
    )


class _Recipe:
    """Scores of the k runs of a recipe: as counted, (C + 2,), and of resamples, (k, B, C + 2)."""

    def __init__(
        self,
        runs: Sequence[ImageCounts],
        rare: list[int],
        groups: list[str] | None,
        resamples: int,
        seed: int,
    ) -> None:
        merged = [run if groups is None else run.merged(groups) for run in runs]
        self.counts = merged[0]
        self.point = np.stack([_with_means(run.total(), rare) for run in runs]).mean(0)
        parts = [resampled_scores(run, rare, resamples, seed, ("iou",)) for run in merged]
        columns = ([p["iou"], p["miou"][:, None], p["miou_rare"][:, None]] for p in parts)
        self.values = np.stack([np.concatenate(column, 1) for column in columns])

    def redrawn(self, rng: np.random.Generator) -> Floats:
        """Mean over as many runs, drawn again for each resample, (B, C + 2).

        Their spread is widened to what it is without bias: √(k / (k - 1)) of it.
        """
        runs, resamples, _ = self.values.shape
        mean: Floats = self.values.mean(0)
        if runs == 1:
            return mean
        weights = rng.multinomial(runs, np.full(runs, 1 / runs), resamples) / runs  # (B, k)
        drawn: Floats = np.einsum("bk,kbc->bc", weights, self.values)
        found: Floats = mean + np.sqrt(runs / (runs - 1)) * (drawn - mean)
        return found


def _with_means(sums: NDArray[np.int64], rare: list[int]) -> Floats:
    iou = class_scores(sums)["iou"]
    return np.concatenate([iou, [mean_of_known(iou)], [mean_of_known(iou[rare])]])


def _deviation(values: Floats) -> Floats:
    """Standard deviation of each column without NaN; NaN where nothing is left."""
    mean = mean_of_known(values.T)
    found: Floats = np.sqrt(mean_of_known(((values - mean) ** 2).T))
    return found


def _p_values(drawn: Floats, number: Floats) -> Floats:
    """The level at which the interval of each column, as `expanded` makes it, begins to hold 0."""
    from scipy.special import ndtri, stdtr  # here: delays no first step

    known = (~np.isnan(drawn)).sum(0) + 1
    tails = [((drawn <= 0).sum(0) + 1) / known, ((drawn >= 0).sum(0) + 1) / known]
    share = np.minimum(np.minimum(*tails), 0.5)
    number = np.maximum(number, 2)
    found: Floats = 2 * stdtr(number - 1, ndtri(share) * np.sqrt((number - 1) / number))
    return found


def holm(p_values: Floats) -> Floats:
    """p-values corrected for their number, NaN left out.

    Reference:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
    """
    found = np.full(p_values.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    found[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return found
