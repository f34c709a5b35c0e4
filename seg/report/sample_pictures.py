"""Small pictures of training images and their masks, to lie inside a page."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seg.constants import IGNORE_INDEX
from seg.data.augment.cropping import resize_image
from seg.errors import InputError
from seg.prediction.palette import Colors
from seg.report.panels import painted, shown_image

Array = NDArray[Any]

_SIDES = (480, 320, 240, 160)
"""Longest side of a picture, the largest first."""

_ROOM = 900_000
"""Characters of all pictures; a page of them and of tables stays below 1.5 MB."""

_NAMED = 10
_QUALITY = 82


class SamplePicture(NamedTuple):
    """An image with its mask.

    Args:
        name: Of the image.
        chosen_for: Names of the rare classes that it shows best.
        classes: Names of the classes in it, the rarest first.
        more: Number of further ones.
        image: A JPEG as a data URL; empty if it cannot be read.
        mask: A PNG of the same size, in class colours.
        fault: Why it cannot be read.
    """

    name: str
    chosen_for: Sequence[str]
    classes: Sequence[str]
    more: int = 0
    image: str = ""
    mask: str = ""
    fault: str = ""


def sample_pictures(
    samples: Sequence[Mapping[str, Any]],
    draw: Callable[[int], tuple[Array, Array]],
    pixels: Sequence[int],
    class_names: Sequence[str],
    colors: Colors,
    channels: Sequence[int] | None = None,
) -> list[SamplePicture]:
    """Pictures of some samples, as large as the page has room for.

    Args:
        samples: `index`, `image` (a name) and `best_of` (class names) of each.
        draw: From an index to an image (H, W, C) and its class ids (H, W).
        pixels: Of each class in the whole split, to know which is rarer.
        class_names: One name a class.
        colors: One RGB colour a class.
        channels: Which channels of the images are red, green and blue.
    """
    found: list[SamplePicture] = []
    for side in _SIDES:
        found = [_picture(s, draw, pixels, class_names, colors, channels, side) for s in samples]
        if sum(len(p.image) + len(p.mask) for p in found) <= _ROOM:
            break
    return found


def _picture(
    sample: Mapping[str, Any],
    draw: Callable[[int], tuple[Array, Array]],
    pixels: Sequence[int],
    class_names: Sequence[str],
    colors: Colors,
    channels: Sequence[int] | None,
    side: int,
) -> SamplePicture:
    chosen_for = sample["best_of"]
    try:
        image, ids = draw(sample["index"])
    except InputError as error:
        return SamplePicture(sample["image"], chosen_for, (), fault=str(error))
    step = -(-max(ids.shape) // side)
    small = reduced(ids, step, pixels)
    shown, _ = shown_image(resize_image(image, (small.shape[0], small.shape[1])), channels)
    present = sorted((set(np.unique(ids).tolist()) - {IGNORE_INDEX}), key=lambda c: pixels[c])
    return SamplePicture(
        name=sample["image"],
        chosen_for=chosen_for,
        classes=[class_names[c] for c in present[:_NAMED]],
        more=max(0, len(present) - _NAMED),
        image=_url(shown, "jpeg", quality=_QUALITY),
        mask=_url(painted(small, colors), "png", optimize=True),
    )


def reduced(ids: Array, step: int, pixels: Sequence[int]) -> Array:
    """Of each block of `step` × `step` class ids (H, W) the rarest, so that no class vanishes.

    Args:
        ids: Class ids, or the ignored one, which a block has only if it has nothing else.
        step: Side of a block; at the right and the bottom they may be smaller.
        pixels: Of each class in the whole split.
    """
    ids_by_rank = np.append(np.argsort(pixels, kind="stable"), IGNORE_INDEX).astype(np.uint8)
    ranks = np.full(IGNORE_INDEX + 1, len(pixels), np.uint8)
    ranks[ids_by_rank] = np.arange(len(ids_by_rank))
    height, width = ids.shape
    padding = ((0, -height % step), (0, -width % step))
    blocks = np.pad(ranks[ids], padding, mode="edge")
    blocks = blocks.reshape(blocks.shape[0] // step, step, blocks.shape[1] // step, step)
    rarest: Array = ids_by_rank[blocks.min(axis=(1, 3))]
    return rarest


def _url(picture: Array, kind: str, **options: Any) -> str:
    """A picture (H, W, 3) as a URL that holds it."""
    data = BytesIO()
    Image.fromarray(picture).save(data, format=kind, **options)
    return f"data:image/{kind};base64,{b64encode(data.getvalue()).decode('ascii')}"
