"""The biases that give the best mean IoU, one class after the other."""

from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from seg.calibration.histograms import LIMIT, STEP, LogOdds

_SWEEPS = 20

Ints = NDArray[np.int64]
Keys = NDArray[np.int32]
Floats = NDArray[np.float64]


def confusion(odds: LogOdds, bias: Ints) -> Ints:
    """Pixels of every pair of a true and a decided class (C, C), with biases (C,) in steps.

    Of equal logits the first class has the pixel, as argmax decides.
    """
    c = len(odds.levels)
    keys = (_key(odds, j, int(b)) for j, b in enumerate(bias))
    decided = _read(reduce(np.maximum, keys), c)[1]
    pairs = odds.labels.astype(np.int64) * c + decided
    return np.bincount(pairs, odds.counts, c * c).astype(np.int64).reshape(c, c)


def iou_of(hits: Ints, decided: Ints, pixels: Ints) -> Floats:
    """IoU by class; NaN of a class that is neither true nor decided."""
    union = decided + pixels - hits
    scores: Floats = np.where(union > 0, hits / np.maximum(union, 1), np.nan)
    return scores


def iou(counts: Ints) -> Floats:
    """IoU of each class (…, C) of confusion counts (…, C, C), rows the truth."""
    return iou_of(counts.diagonal(axis1=-2, axis2=-1), counts.sum(-2), counts.sum(-1))


def mean_of_known(scores: Floats) -> Floats:
    """Means (…) of scores (…, C), without those that are NaN; 0 if all are."""
    known = ~np.isnan(scores)
    means: Floats = np.where(known, scores, 0).sum(-1) / np.maximum(known.sum(-1), 1)
    return means


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
        centred = bias - (bias.max() + bias.min()) // 2  # decides alike, with most room both ways
        bias, best = _sweep(odds, centred, classes)
        if best <= before:
            break
    return bias, best


def _sweep(odds: LogOdds, bias: Ints, classes: Sequence[int]) -> tuple[Ints, float]:
    """The biases after each was made best in turn, and the mean IoU then.

    The largest logit of the others is that of two: of the classes that had their turn, and of those
    to come.
    """
    bias, best = bias.copy(), -np.inf
    nothing = np.full(len(odds.counts), np.iinfo(np.int32).min, np.int32)
    had, to_come = nothing, [nothing]
    for c in reversed(range(1, len(bias))):
        to_come.append(np.maximum(to_come[-1], _key(odds, c, int(bias[c]))))
    for c in range(len(bias)):
        values = _by_bias_of(odds, np.maximum(had, to_come.pop()), c, classes)
        at = _nearest_best(values, int(bias[c]))
        bias[c], best = at - LIMIT, float(values[at])
        had = np.maximum(had, _key(odds, c, int(bias[c])))
    return bias, best


def _nearest_best(values: Floats, now: int) -> int:
    """Index of the largest value; of equal ones that next to the bias there is now."""
    best = np.flatnonzero(values == values.max())
    return int(best[np.abs(best - LIMIT - now).argmin()])


def _key(odds: LogOdds, c: int, bias: int) -> Keys:
    """Biased logit of a class (R,), as numbers whose order is that of argmax.

    That is by value, then the first class; their last `_bits` say which class it is.
    """
    size = len(odds.levels)
    key: Keys = np.multiply(odds.levels[c], -(1 << _bits(size)), dtype=np.int32)
    key += (bias << _bits(size)) + size - 1 - c
    return key


def _bits(size: int) -> int:
    return max(1, (size - 1).bit_length())


def _read(key: Keys, size: int) -> tuple[Keys, Keys]:
    """The logit of a key, in steps, and its class, (R,) each."""
    return key >> _bits(size), size - 1 - (key & ((1 << _bits(size)) - 1))


def _by_bias_of(odds: LogOdds, others: Keys, c: int, classes: Sequence[int]) -> Floats:
    """Mean IoU for every bias of class c from -LIMIT to LIMIT, the others' as they are.

    A pixel goes to c from the bias on at which c has the largest logit; until then it goes to the
    best of the others. So the counts of all biases are sums over a histogram of that threshold.
    """
    size, steps = len(odds.levels), 2 * LIMIT + 1
    index, other = _read(others, size)
    index += odds.levels[c]
    index += other < c  # of equal logits the first class wins
    index.clip(-LIMIT, LIMIT + 1, out=index)
    for offset, factor in ((LIMIT, size), (odds.labels, size), (other, 1)):
        index += offset
        index *= factor
    counts = np.bincount(index, odds.counts, (steps + 1) * size * size).astype(np.int64)
    kept = counts.reshape(steps + 1, size, size).cumsum(0)
    taken, everything = kept[:-1], kept[-1]  # (steps, truth, other)
    hits = everything.diagonal() - taken.diagonal(axis1=1, axis2=2)
    hits[:, c] = taken[:, c].sum(1)
    decided = everything.sum(0) - taken.sum(1)
    decided[:, c] = taken.sum((1, 2))
    scores = iou_of(hits, decided, np.broadcast_to(everything.sum(1), hits.shape))
    return mean_of_known(scores[:, list(classes)])
