"""What a network sees and gives as uint8 pictures (H, W, 3): image, classes, overlay, errors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg.constants import IGNORE_INDEX
from seg.prediction.palette import IGNORE_COLOR, Colors, mask_palette

Array = NDArray[Any]

RIGHT, WRONG = (158, 202, 225), (203, 24, 29)
"""RGB of pixels in the map of errors; a light blue and a red, which all eyes can tell apart."""

_HATCH_SHADE = 190
_PERCENTILES = (1, 99)
_LITTLE = 64
"""Grey levels between the percentiles below which an 8-bit image has little contrast."""


def shown_image(image: Array, channels: Sequence[int] | None = None) -> tuple[Array, bool]:
    """An image of any depth and number of channels as one can see it.

    Contrast is stretched, from the 1st percentile to black and from the 99th to white, where an
    image has more than 8 bits or more than three channels (each channel by itself), or where less
    than a quarter of the grey levels lies between the percentiles (all channels together).

    Args:
        image: Any numbers (H, W, C).
        channels: Which of the channels are red, green and blue. Left out, the first three; of one
            or two channels the first is shown as grey.

    Returns:
        uint8 (H, W, 3), and whether it was stretched.
    """
    if channels is None:
        channels = (0, 1, 2) if image.shape[2] >= 3 else (0, 0, 0)
    shown = image[..., list(channels)]
    if image.dtype != np.uint8 or image.shape[2] > 3:
        return np.stack([stretched(shown[..., i]) for i in range(3)], axis=2), True
    low, high = np.percentile(shown, _PERCENTILES) if shown.size else (0, 0)
    if 0 < high - low < _LITTLE:
        return stretched(shown), True
    return shown, False


def stretched(values: Array) -> Array:
    """Values as uint8, linear from the 1st percentile (0) to the 99th (255); all equal gives 0."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, _PERCENTILES) if finite.size else (0.0, 0.0)
    scale = 255 / (high - low) if high > low else 0.0
    levels = np.nan_to_num((values.astype(np.float64) - low) * scale)
    return levels.clip(0, 255).round().astype(np.uint8)


def painted(ids: Array, colors: Colors, step: int = 1) -> Array:
    """Every `step`-th row and column of class ids (H, W) in class colours, ignored ones hatched.

    Raises:
        ValueError: If any id of all pixels has no colour.
    """
    palette = mask_palette(ids, colors)
    ids = ids[::step, ::step]
    return _hatched(palette[ids], ids == IGNORE_INDEX)


def overlaid(image: Array, classes: Array) -> Array:
    """Two parts of an image (H, W, 3) and three of the colours of its classes."""
    mixed = (2 * image.astype(np.uint16) + 3 * classes.astype(np.uint16)) // 5
    return mixed.astype(np.uint8)


def errors(truth: Array, prediction: Array) -> Array:
    """Where a prediction (H, W) is right, where it is wrong, and, hatched, where nothing counts."""
    right = (truth == prediction)[..., None]
    map_of_errors = np.where(right, np.array(RIGHT, np.uint8), np.array(WRONG, np.uint8))
    map_of_errors[truth == IGNORE_INDEX] = IGNORE_COLOR
    return _hatched(map_of_errors, truth == IGNORE_INDEX)


def _hatched(picture: Array, where: Array) -> Array:
    diagonal = np.arange(where.shape[0])[:, None] + np.arange(where.shape[1])
    picture[where & (diagonal % 8 < 2)] = _HATCH_SHADE
    return picture
