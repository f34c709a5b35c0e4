"""How often which log-odds occur: all that biases of the logits can act on, in a tenth of it.

The log-odds of a pixel are its logits below the largest of them, divided by a temperature, in steps
of 1/8 nat and down to 5 nats, below which no bias within `LIMIT` brings them up. Of most pixels all
but one class lie there. So a joint histogram of the label and the log-odds of all classes holds few
different rows.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

STEP = 0.125
"""Nats of one level, at a temperature of 1."""

DEEPEST = 40
"""The level of all that lies 5 nats or more below the largest logit."""

LIMIT = DEEPEST // 2 - 1
"""Largest bias up or down, in steps, by which nothing that deep can be decided for."""


class LogOdds(NamedTuple):
    """Joint histogram of the pixels that count, R different rows.

    Attributes:
        levels: Steps by which each class's logit lies below the largest one, (C, R).
        labels: True class of the row's pixels, (R,).
        counts: Number of pixels, (R,), whole, as floating point.
        folds: Part of the images that the pixels are of, (R,).
    """

    levels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    counts: NDArray[np.float64]
    folds: NDArray[np.int64]

    @classmethod
    def of(cls, images: Sequence["LogOdds"], parts: NDArray[np.int64]) -> "LogOdds":
        """The histograms of one image each in one, equal rows of a part as one.

        Args:
            images: The images, N.
            parts: The part that each of them belongs to, (N,).
        """
        folds = np.unique(parts)
        merged = [
            _merged([images[i] for i in np.flatnonzero(parts == fold).tolist()]) for fold in folds
        ]
        return cls(
            levels=np.concatenate([m.levels for m in merged], 1),
            labels=np.concatenate([m.labels for m in merged]),
            counts=np.concatenate([m.counts for m in merged]),
            folds=np.repeat(folds, [len(m.counts) for m in merged]),
        )

    def select(self, kept: NDArray[np.bool_]) -> "LogOdds":
        """Some of the rows."""
        levels = np.ascontiguousarray(self.levels[:, kept])
        return LogOdds(levels, self.labels[kept], self.counts[kept], self.folds[kept])

    def thinned(self, rows: int) -> "LogOdds":
        """About `rows` rows at most: of frequent classes every k-th pixel, counted k times.

        Rows are sorted, so that pixels that are alike are thinned alike. A class that has no more
        than an equal share of the rows, `rows` / C, keeps them all.
        """
        if len(self.counts) <= rows:
            return self
        counts = self.counts.copy()
        for label in np.unique(self.labels):
            mine = self.labels == label
            k = _interval(counts[mine], max(1, rows // len(self.levels)))
            passed = (counts[mine].cumsum() + k // 2) // k
            counts[mine] = np.diff(passed, prepend=0) * k
        return self._replace(counts=counts).select(counts > 0)

    def within(self, room: int) -> "LogOdds":
        """Thinned to so many bytes."""
        held = sum(array.nbytes for array in self)
        return self.thinned(room * len(self.counts) // max(1, held))

    def pixels(self) -> NDArray[np.int64]:
        """True pixels of each class, (C,)."""
        return np.bincount(self.labels, self.counts, len(self.levels)).astype(np.int64)


def below_largest(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Of the P pixels that count how far each logit lies below the largest, and the labels.

    Args:
        logits: Scores (C, H, W) of one image; a single one is the foreground's against 0.
        target: Class ids (H, W).
        ignore_index: Target value of the pixels to leave out.

    Returns:
        Nats (C, P), float32, and class ids (P,).
    """
    if len(logits) == 1:
        logits = torch.cat([torch.zeros_like(logits), logits])
    valid = target != ignore_index
    z = logits[:, valid].float()
    return z.amax(0) - z, target[valid]


def log_odds(depths: Tensor, labels: Tensor, temperature: float = 1.0) -> LogOdds:
    """The histogram of one image, from what `below_largest` gives.

    Args:
        depths: Nats (C, P).
        labels: Class ids (P,).
        temperature: What the nats are divided by. Logits of an overconfident network lie farther
            apart than the odds of its being right; with its temperature a level means as much as
            with any other's.
    """
    levels = (depths / (STEP * temperature)).round_().clamp_(max=DEEPEST).to(torch.uint8)
    rows = torch.cat([labels[None].to(torch.uint8), levels]).T.contiguous().cpu().numpy()
    return _histogram(rows, np.ones(len(rows)))


def _interval(counts: NDArray[np.float64], rows: int) -> int:
    """The least power of 2, k, with which every k-th pixel is in about `rows` rows or fewer."""
    k = 1
    while np.minimum(counts, k).sum() > rows * k and k < counts.sum():
        k *= 2
    return k


def _merged(images: Sequence[LogOdds]) -> LogOdds:
    rows = [np.concatenate([i.labels[:, None], i.levels.T], 1) for i in images]
    return _histogram(np.concatenate(rows), np.concatenate([i.counts for i in images]))


def _histogram(rows: NDArray[np.uint8], counts: NDArray[np.float64]) -> LogOdds:
    """Rows of a label and its levels, those that are equal as one; sorted as 64-bit words."""
    padded = np.zeros((len(rows), -(-rows.shape[1] // 8) * 8), np.uint8)
    padded[:, : rows.shape[1]] = rows
    words: NDArray[Any] = padded.view(np.uint64)
    order = np.lexsort(words.T)
    ordered = words[order]
    begins = np.flatnonzero((ordered[1:] != ordered[:-1]).any(1)) + 1
    begins = np.concatenate([np.zeros(min(1, len(rows)), np.int64), begins])
    unique = rows[order[begins]]
    total = np.add.reduceat(counts[order], begins) if len(rows) else counts
    levels = np.ascontiguousarray(unique[:, 1:].T)
    return LogOdds(levels, unique[:, 0].copy(), total, np.zeros(len(unique), np.int64))
