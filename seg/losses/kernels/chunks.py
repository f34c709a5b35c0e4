"""Chunks of a batch that stay in cache, and sums of the values that share a row."""

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK = {"cpu": 2**20, "cuda": 2**26}
"""Logits a chunk: 4 MB of floats stay in a CPU's cache; a GPU has launches to save instead."""

PIXELS = {"cpu": 3 * 2**14, "cuda": 2**26}
"""Pixels a chunk at most, so that with few classes what each pixel needs stays small beside the
logits; above 2^15, from where on torch shares an operation out among threads."""

SPREAD = 256
"""Places that a sum is spread over on a GPU, where additions to one place wait for each other."""

At = tuple[slice, slice, slice]
"""Where a chunk lies in (N, C, P)."""


def flattened(logits: Tensor) -> Tensor:
    """Logits (N, C, *d) as (N, C, P), a view whether they lie classes-first or classes-last."""
    return logits.detach().reshape(*logits.shape[:2], -1)


def chunks(z: Tensor) -> Iterator[At]:
    """Slices of (N, C, P): pixels of one image, or several whole images if these are small."""
    n, c, p = z.shape
    kind = z.device.type
    pixels = max(1, min(PIXELS[kind], CHUNK[kind] // c))
    width = min(p, pixels)
    images = max(1, pixels // width)
    for i in range(0, n, images):
        for j in range(0, p, width):
            yield slice(i, i + images), slice(None), slice(j, j + width)


def sums_by_row(values: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """Sums (R,) in float64 of the values (P,) that share a row.

    Args:
        values: What to add up.
        rows: Row of each value, int64 in [0, R).
        num_rows: R.
    """
    spread = 1
    if values.is_cuda:
        spread = SPREAD
        places = torch.arange(len(rows), device=rows.device).bitwise_and_(spread - 1)
        rows = places.add_(rows, alpha=spread)
    total = torch.zeros(num_rows * spread, dtype=torch.float64, device=values.device)
    return total.index_add_(0, rows, values.double()).view(num_rows, spread).sum(1)
