"""Scale jitter and crop in one step: cut the window first, then resize only that.

Resizing to `resize`, scaling by a random factor, padding and cropping touch many pixels that the
crop throws away. The same geometry, to within a source pixel, is a window of the source that is
resized once.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seg.constants import IGNORE_INDEX

Array = NDArray[Any]
Size = tuple[int, int]

_CV_CHANNELS = 4  # cv2 resizes at most so many channels at once


def resize_image(image: Array, size: Size) -> Array:
    """Resize an image (H, W, C) to (height, width): by area to shrink to half or less, else linear.

    Linear sampling aliases little above a half, and costs an eighth of the area average.
    """
    if image.shape[:2] == size:
        return image
    halves = 2 * size[0] <= image.shape[0] and 2 * size[1] <= image.shape[1]
    method = cv2.INTER_AREA if halves else cv2.INTER_LINEAR
    parts = [
        cv2.resize(np.ascontiguousarray(part), size[::-1], interpolation=method).reshape(*size, -1)
        for part in np.split(image, range(_CV_CHANNELS, image.shape[2], _CV_CHANNELS), axis=2)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def resize_mask(mask: Array, size: Size) -> Array:
    """Resize a mask (H, W) to (height, width) by its nearest pixels, never a blend of labels."""
    if mask.shape == size:
        return mask
    # the exact variant samples pixel centres, where the resized image has them too
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def random_scaled_crop(
    image: Array,
    mask: Array,
    crop_size: Size,
    generator: np.random.Generator,
    resize: Size | None = None,
    scale_jitter: tuple[float, float] = (1.0, 1.0),
    focus: tuple[int, int] | None = None,
) -> tuple[Array, Array]:
    """A random crop of the resized and randomly scaled pair, at exactly `crop_size`.

    Where the scaled picture is smaller than the crop, it is put at a random place on black that
    the mask ignores.

    Args:
        image: Image (H, W, C).
        mask: Class ids (H, W).
        crop_size: Height and width of the result.
        generator: Where the scale and the place are drawn from.
        resize: Height and width that a scale of 1 stands for; left out, the image's own.
        scale_jitter: Range of the uniform scale.
        focus: Row and column of a pixel that is to lie in the middle half of the window, at a
            random place, as far as the image's edge allows. Left out, the window lies anywhere.
    """
    base = resize or (image.shape[0], image.shape[1])
    scale = generator.uniform(*scale_jitter)
    row, column = (None, None) if focus is None else focus
    rows, output_rows, top = _window(image.shape[0], base[0] * scale, crop_size[0], generator, row)
    columns, output_columns, left = _window(
        image.shape[1], base[1] * scale, crop_size[1], generator, column
    )
    size = output_rows, output_columns
    image = _apart(resize_image(image[rows, columns], size), image)
    mask = _apart(resize_mask(mask[rows, columns], size), mask)
    if size == crop_size:
        return image, mask
    place = slice(top, top + size[0]), slice(left, left + size[1])
    padded_image = np.zeros((*crop_size, image.shape[2]), image.dtype)
    padded_mask = np.full(crop_size, IGNORE_INDEX, mask.dtype)
    padded_image[place] = image
    padded_mask[place] = mask
    return padded_image, padded_mask


def _apart(crop: Array, whole: Array) -> Array:
    """A crop in memory of its own: it may be written to, and does not keep the whole alive."""
    return crop.copy() if np.may_share_memory(crop, whole) else crop


def _window(
    length: int, scaled: float, crop: int, generator: np.random.Generator, focus: int | None
) -> tuple[slice, int, int]:
    """Along one axis: the part of the source to take, its length when resized, and its place."""
    output = min(crop, max(1, round(scaled)))
    window = min(length, max(1, round(output * length / scaled)))
    if focus is None:
        start = int(generator.integers(length - window + 1))
    else:
        before = int(window * generator.uniform(0.25, 0.75))
        start = min(max(focus - before, 0), length - window)
    return slice(start, start + window), output, int(generator.integers(crop - output + 1))
