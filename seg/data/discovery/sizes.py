"""Sizes of images, crops and batches that fit a folder's images and what their masks show."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from seg.data.discovery.setting import Setting
from seg.data.scan.table import Scan

Size = tuple[int, int]

_LONG_SIDE = 640
"""Pixels of the longer side above which images are resized to it."""
_THIN = 3.0
"""Pixels of width below which areas would be lost by a resize."""
_CROP_SHARE = 0.8
"""Of each side of an image that a crop covers: the share that was best on CamVid."""
_LARGEST_CROP = 512
_BATCH_PIXELS = 8 * 512 * 512
_MOST_ALIKE = 1.1
"""Times that the ratio of height to width may differ in images that are resized to one size."""
_WHOLE_PIXELS = 1_000_000
_FEW_CROPS = 4
"""Crops that cover an image up to which one an epoch is enough."""
_CROPS_OF_AN_EPOCH = 1000
_GIGABYTES = 0.36
"""Memory of the default network in 32 bits for each million pixels of an image, as measured."""
_MUCH_MEMORY = 4.0


class Thinnest(NamedTuple):
    """The class whose areas are thinnest.

    Attributes:
        name: Of the class.
        width: Mean width in pixels of the areas in which half of its pixels are.
    """

    name: str
    width: float


def thinnest(scan: Scan, class_names: Sequence[str]) -> Thinnest | None:
    """The class whose areas are thinnest; None if there is no area.

    An area is as wide as its pixels divided by the longer side of its box.

    Args:
        scan: Of the masks.
        class_names: One name a class.
    """
    long = np.maximum(*(scan.boxes[:, 2 + axis] - scan.boxes[:, axis] for axis in (0, 1)))
    widths = scan.areas / np.maximum(long, 1)
    order = np.argsort(widths)
    found = []
    for class_id, name in enumerate(class_names):
        own = order[scan.classes[order] == class_id]
        if len(own):
            pixels = scan.areas[own].cumsum()
            middle = own[np.searchsorted(pixels, pixels[-1] / 2)]
            found.append(Thinnest(name, float(widths[middle])))
    return min(found, key=lambda one: one.width, default=None)


def size_settings(
    sizes: Sequence[Size], num_train: int, thin: Thinnest | None = None
) -> Iterator[Setting]:
    """Sizes of images, crops and batches, and the number of crops.

    Args:
        sizes: Height and width of each image.
        num_train: Number of training images, as far as is known.
        thin: The class whose areas are thinnest, if known.
    """
    height, width = (float(side) for side in np.median(sizes, 0))
    why_not = _why_whole(sizes, thin)
    large = max(height, width) > _LONG_SIDE
    if large and not why_not:
        factor = _LONG_SIDE / max(height, width)
        resized = [_near(factor * height), _near(factor * width)]
        reason = (
            f"Images of {height:.0f} x {width:.0f} are resized for training; scores are of the "
            "full size. Leave this out where objects are only a few pixels wide."
        )
        yield Setting("resize", resized, reason)
        height, width = resized
    crop = [min(_down(_CROP_SHARE * side), _LARGEST_CROP) for side in (height, width)]
    share = crop[0] * crop[1] / (height * width)
    reason = f"Training crops cover {min(share, 1):.0%} of an image."
    yield Setting("crop_size", crop, f"{reason} {why_not}".strip() if large else reason)
    crops = _crops(share, num_train)
    if crops > 1:
        reason = f"An epoch has {crops} crops of each image, as one shows so little of it."
        yield Setting("crops_per_image", crops, reason)
    batch = max(1, min(8, num_train * crops, _BATCH_PIXELS // (crop[0] * crop[1])))
    yield Setting("batch_size", batch, "Crops in one step; raise it if the memory allows.")
    most = max(h * w for h, w in sizes)
    if most > _WHOLE_PIXELS and max(height, width) > _LONG_SIDE:
        yield Setting("eval_batch_size", 1, _of_evaluation(most))


def _why_whole(sizes: Sequence[Size], thin: Thinnest | None) -> str:
    """Why large images keep their size; empty if they are resized."""
    ratios = [h / w for h, w in sizes]
    if max(ratios) > _MOST_ALIKE * min(ratios):
        return "The images' shapes differ, so they are not resized to one."
    factor = _LONG_SIDE / float(np.median(sizes, 0).max())
    if thin is None or thin.width * factor >= _THIN:
        return ""
    return (
        f"The images are not resized: areas of {thin.name} are {thin.width:.0f} pixels wide, and "
        f"would be {thin.width * factor:.1f} pixels wide in images of {_LONG_SIDE} pixels."
    )


def _crops(share: float, num_train: int) -> int:
    """Crops of an image in an epoch: what covers it, but no more than an epoch needs."""
    covering = round(1 / share)
    if covering <= _FEW_CROPS:
        return 1
    return max(1, min(covering, -(-_CROPS_OF_AN_EPOCH // max(1, num_train))))


def _of_evaluation(pixels: int) -> str:
    memory = _GIGABYTES * pixels / 1e6
    reason = "Whole images are evaluated, and these are large"
    if memory < _MUCH_MEMORY:
        return f"{reason}."
    return (
        f"{reason}: the default network takes about {memory:.0f} GB in 32 bits for the largest. "
        "Cut images and masks into tiles if that is too much."
    )


def _down(length: float) -> int:
    """To a multiple of 32, which every encoder divides by, if there is one."""
    return int(length) // 32 * 32 or max(1, int(length))


def _near(length: float) -> int:
    """To the nearest multiple of 32, if that is one."""
    return round(length / 32) * 32 or round(length)
