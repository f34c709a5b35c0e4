"""Small folders in the layouts that people have: thin files, real codings."""

from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image

COLOURS = [[0, 0, 0], [200, 30, 30], [30, 200, 60], [40, 60, 220]]


def index_mask(number, values=(0, 1, 2), size=(40, 48)):
    """Every value is in every mask, at places that differ by its number."""
    mask = np.full(size, values[0], np.uint16 if max(values) > 255 else np.uint8)
    for i, value in enumerate(values[1:]):
        top, left = 4 + 8 * i, 4 + (5 * number + 9 * i) % 24
        mask[top : top + 8, left : left + 12] = value
    return mask


def picture(number, mask):
    """RGB noise with the mask in it, so that no two pictures are the same."""
    noise = np.random.default_rng(number).integers(0, 40, (*mask.shape, 3))
    return (noise + (mask.astype(np.int64) % 7)[..., None] * (17, 11, 5)).astype(np.uint8)


def save(path: Path, array, **options):
    """Write a picture by its extension; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(path, **options)


def coloured(mask):
    return np.array(COLOURS, np.uint8)[mask]


def write(root: Path, image: str, mask: str, names, code=lambda mask: mask, values=(0, 1, 2)):
    """Pairs by two formats with `{}` for the name, such as "images/{}.jpg"."""
    for number, name in enumerate(names):
        array, number = index_mask(number, values), crc32(image.format(name).encode())
        save(root / image.format(name), picture(number, array))
        save(root / mask.format(name), code(array))


NUMBERS = [f"{i:03}" for i in range(1, 11)]
