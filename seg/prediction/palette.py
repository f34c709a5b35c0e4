"""Class colours for whoever names none."""

from collections.abc import Sequence

import numpy as np

from seg.constants import IGNORE_INDEX

Colors = Sequence[Sequence[int]]
"""One RGB colour (0 to 255) a class."""

IGNORE_COLOR = [255, 255, 255]
"""RGB of ignored pixels; no default class colour comes near it."""

_FIRST = [64, 64, 64]
_LEVELS = np.linspace(30, 225, 7).round()
_SRGB_TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)
_WHITE = np.array([0.9505, 1.0, 1.089])


def default_colors(num_classes: int) -> list[list[int]]:
    """One RGB colour (0 to 255) a class, all distinct and none the colour of ignored pixels.

    Class 0 is dark grey. Every further class takes, of a grid of colours, the one that differs
    most from white, black and the classes before, so the first k colours are the same for every
    `num_classes` >= k.

    Args:
        num_classes: Number of classes, 1 to 255.

    Raises:
        ValueError: If there are more classes than mask values.
    """
    if not 1 <= num_classes <= IGNORE_INDEX:
        raise ValueError(
            f"num_classes is {num_classes}, expected 1 to {IGNORE_INDEX}: class ids are 8-bit mask "
            f"values and {IGNORE_INDEX} is the ignored one; merge classes with data.label_map."
        )
    grid = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS), axis=-1).reshape(-1, 3)
    places = _lab(grid)
    taken = _lab(np.array([IGNORE_COLOR, [0, 0, 0], _FIRST], dtype=float))
    nearest = np.linalg.norm(places[:, None] - taken, axis=2).min(axis=1)
    colors = [_FIRST]
    while len(colors) < num_classes:
        farthest = int(nearest.argmax())
        colors.append([int(level) for level in grid[farthest]])
        nearest = np.minimum(nearest, np.linalg.norm(places - places[farthest], axis=1))
    return colors


def mask_palette(ids: np.ndarray, colors: Colors) -> np.ndarray:
    """The colour of every mask value, uint8 (256, 3), once all `ids` are known to have one.

    Raises:
        ValueError: If an id has none.
    """
    wrong = ids[(ids != IGNORE_INDEX) & ((ids < 0) | (ids >= len(colors)))]
    if wrong.size:
        raise ValueError(
            f"class id {wrong.flat[0]} has no colour: expected 0 to {len(colors) - 1} or "
            f"{IGNORE_INDEX} (ignored); give one colour a class."
        )
    palette = np.zeros((IGNORE_INDEX + 1, 3), dtype=np.uint8)
    palette[: len(colors)] = np.asarray(colors, dtype=np.uint8)
    palette[IGNORE_INDEX] = IGNORE_COLOR
    return palette


def _lab(rgb: np.ndarray) -> np.ndarray:
    """CIE 1976 L*a*b* of sRGB colours (n, 3), in which distance is perceived difference."""
    linear = np.where(rgb <= 10.3, rgb / (255 * 12.92), ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    ratio = linear @ _SRGB_TO_XYZ.T / _WHITE
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
