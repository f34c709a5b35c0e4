"""Images deeper than 8 bits that use a small part of their type's range."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lightning.fabric.utilities.rank_zero import rank_zero_only

from seg.data.files.decoding import decode_samples
from seg.data.files.headers import DataError, read_header

log = logging.getLogger(__name__)

_OPENED = 8
_LITTLE = 0.25
"""Share of the range below which images become nearly one grey."""


def warn_of_little_range(images: Sequence[Path]) -> None:
    """Warn, with the line to write, where the full range of a type leaves images nearly one grey.

    Some images are opened, and of these only those of integers of more than 8 bits count.

    Args:
        images: The training images.
    """
    found = little_range(images)
    if found is not None:
        low, high, least, most = found
        rank_zero_only(log.warning)(
            f"Images such as {images[0]} use {low} to {high} of {least} to {most}, and become "
            f"nearly one grey; write data.image_range: [{min(low, 0)}, {high}]."
        )


def little_range(images: Sequence[Path]) -> tuple[int, int, int, int] | None:
    """Least and greatest sample of some images, and of their type, if they use little of it.

    Args:
        images: Of these some are opened.
    """
    step = -(-len(images) // _OPENED) or 1
    found = [values for path in images[::step] if (values := _extremes(path)) is not None]
    if not found:
        return None
    low, high = min(v[0] for v in found), max(v[1] for v in found)
    least, most = min(v[2] for v in found), max(v[3] for v in found)
    return (low, high, least, most) if high - low < _LITTLE * (most - least) else None


def _extremes(path: Path) -> tuple[int, int, int, int] | None:
    """Least and greatest sample of an image, and of its type, where that is deeper than 8 bits."""
    try:
        header = read_header(path)
        if header.format != "TIFF" and header.bits <= 8:
            return None
        samples = decode_samples(path)
    except DataError:
        return None  # which is said where it is read
    if not np.issubdtype(samples.dtype, np.integer) or samples.dtype.itemsize < 2:
        return None
    limits = np.iinfo(samples.dtype)
    return int(samples.min()), int(samples.max()), int(limits.min), int(limits.max)
