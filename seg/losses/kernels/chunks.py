"""Chunks of a batch that stay in cache."""

from collections.abc import Iterator

from torch import Tensor

CHUNK = {"cpu": 2**20, "cuda": 2**26}
"""Logits a chunk: 4 MB of floats stay in a CPU's cache; a GPU has launches to save instead."""

PIXELS = {"cpu": 3 * 2**14, "cuda": 2**26}
"""Pixels a chunk at most, so that with few classes what each pixel needs stays small beside the
logits; above 2^15, from where on torch shares an operation out among threads."""

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
