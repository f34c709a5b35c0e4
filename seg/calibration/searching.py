"""The biases that give the best mean IoU, one class after the other."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seg.calibration.histograms import LIMIT, STEP, LogOdds

_SWEEPS = 20

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def confusion(odds: LogOdds, bias: Ints) -> Ints:
    """Pixels of every pair of a true and a decided class (C, C), with biases (C,) in steps.

    Of equal logits the first class has the pixel, as argmax decides.
    """
    c = len(odds.levels)
    decided = _Ranking(odds, bias).best(range(c))[1]
    pairs = odds.labels.astype(np.int64) * c + decided
    return np.bincount(pairs, odds.counts, c * c).astype(np.int64).reshape(c, c)


def iou_of(hits: Ints, decided: Ints, pixels: Ints) -> Floats:
    """IoU by class; NaN of a class that is neither true nor decided."""
    union = decided + pixels - hits
    scores: Floats = np.where(union > 0, hits / np.maximum(union, 1), np.nan)
    return scores


def iou(counts: Ints) -> Floats:
    """IoU of each class of confusion counts (C, C), rows the truth."""
    return iou_of(counts.diagonal(), counts.sum(0), counts.sum(1))


def search(odds: LogOdds, classes: Sequence[int]) -> Ints:
    """Biases (C,) in steps, none beyond `LIMIT`, that no change of a single one improves.

    What counts is how far apart two of them are, so they are centred: 2 `LIMIT` at most.

    The search starts from no bias, and from biases by which rare classes are favoured, as one that
    is never decided for may need others to give way first. The end with the best mean IoU over
    `classes` is taken, of equals the one found first.

    Args:
        odds: Of the images to fit to.
        classes: Whose mean IoU is to be best.
    """
    pixels = odds.pixels()
    rarity = -np.log(np.maximum(pixels, 1) / pixels.sum()) / STEP
    favour = np.rint((rarity - rarity.mean()) / 2).astype(np.int64).clip(-LIMIT, LIMIT)
    ends = [_climb(odds, start, classes) for start in (np.zeros_like(favour), favour)]
    return max(ends, key=lambda end: end[1])[0]


def _climb(odds: LogOdds, bias: Ints, classes: Sequence[int]) -> tuple[Ints, float]:
    best = -np.inf
    for _ in range(_SWEEPS):
        before = best
        bias = bias - (bias.max() + bias.min()) // 2  # decides the same, with most room both ways
        ranking = _Ranking(odds, bias)
        for c in range(len(bias)):
            values = _by_bias_of(odds, ranking, c, classes)
            at = _nearest_best(values, int(bias[c]))
            bias[c], best = at - LIMIT, float(values[at])
            ranking.set(c, int(bias[c]))
        if best <= before:
            break
    return bias, best


def _nearest_best(values: Floats, now: int) -> int:
    """Index of the largest value; of equal ones that next to the bias there is now."""
    best = np.flatnonzero(values == values.max())
    return int(best[np.abs(best - LIMIT - now).argmin()])


class _Ranking:
    """Biased logits as keys whose order is that of argmax: by value, then the first class."""

    def __init__(self, odds: LogOdds, bias: Ints) -> None:
        self._levels = odds.levels
        self._bits = max(1, (len(odds.levels) - 1).bit_length())
        self._keys = np.empty(odds.levels.shape, np.int32)
        for c, value in enumerate(bias.tolist()):
            self.set(c, value)

    def set(self, c: int, bias: int) -> None:
        """Take another bias for class c."""
        first = len(self._levels) - 1 - c
        np.multiply(self._levels[c], -(1 << self._bits), out=self._keys[c], dtype=np.int32)
        self._keys[c] += (bias << self._bits) + first

    def best(self, classes: Sequence[int]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Largest logit among some classes, in steps, and the class that has it, (R,) each."""
        first, *rest = classes
        key = self._keys[first].copy()
        for c in rest:
            np.maximum(key, self._keys[c], out=key)
        return key >> self._bits, len(self._levels) - 1 - (key & ((1 << self._bits) - 1))


def _by_bias_of(odds: LogOdds, ranking: _Ranking, c: int, classes: Sequence[int]) -> Floats:
    """Mean IoU for every bias of class c from -LIMIT to LIMIT, the others' as they are.

    A pixel goes to c from the bias on at which c has the largest logit; until then it goes to the
    best of the others. So the counts of all biases are sums over a histogram of that threshold.
    """
    size, steps = len(odds.levels), 2 * LIMIT + 1
    value, other = ranking.best([j for j in range(size) if j != c])
    threshold = value + odds.levels[c] + (other < c)  # of equal logits the first class wins
    bins = threshold.clip(-LIMIT, LIMIT + 1) + LIMIT
    index = (bins * size + odds.labels) * size + other
    counts = np.bincount(index, odds.counts, (steps + 1) * size * size).astype(np.int64)
    kept = counts.reshape(steps + 1, size, size).cumsum(0)
    taken, everything = kept[:-1], kept[-1]  # (steps, truth, other)
    hits = everything.diagonal() - taken.diagonal(axis1=1, axis2=2)
    hits[:, c] = taken[:, c].sum(1)
    decided = everything.sum(0) - taken.sum(1)
    decided[:, c] = taken.sum((1, 2))
    scores = iou_of(hits, decided, np.broadcast_to(everything.sum(1), hits.shape))
    return _mean(scores[:, list(classes)])


def _mean(scores: Floats) -> Floats:
    known = ~np.isnan(scores)
    means: Floats = np.where(known, scores, 0).sum(1) / np.maximum(known.sum(1), 1)
    return means
