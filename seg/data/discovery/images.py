"""Channels, range and sizes of images, and the sizes of images and crops that fit them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seg.data.discovery.setting import Setting
from seg.data.files import annotations
from seg.data.files.decoding import decode_samples
from seg.data.files.headers import DataError, read_header, size
from seg.data.files.image_range import little_range

Size = tuple[int, int]

_THREADS = 8
_SAMPLE = 12
_LONG_SIDE = 640
"""Pixels of the longer side above which images are resized to it."""
_CROP_SHARE = 0.8
"""Of each side of an image that a crop covers: the share that was best on CamVid."""
_LARGEST_CROP = 512
_BATCH_PIXELS = 8 * 512 * 512
_MOST_ALIKE = 1.1
"""Times that the ratio of height to width may differ in images that are resized to one size."""
_WHOLE_PIXELS = 1_000_000


@dataclass(frozen=True)
class ImageSurvey:
    """What the images are.

    Attributes:
        found: In words, for whoever reads the YAML.
        sizes: Height and width of each pair that is sound.
        settings: Lines of the YAML.
        faults: Pairs that cannot be used, one line each.
    """

    found: str
    sizes: tuple[Size, ...]
    settings: tuple[Setting, ...]
    faults: tuple[str, ...] = ()


def survey_images(
    images: Sequence[Path],
    masks: Sequence[Path],
    num_train: int,
    advance: Callable[[], object] = lambda: None,
) -> ImageSurvey:
    """Read the headers of all images and masks, and a sample of the images.

    Args:
        images: Image files.
        masks: The mask of each.
        num_train: Number of training images, as far as is known.
        advance: Called after each pair.
    """
    sizes: list[Size] = []
    faults: list[str] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for result in pool.map(_pair_size, images, masks):
            advance()
            if isinstance(result, str):
                faults.append(result)
            else:
                sizes.append(result)
    if not sizes:
        return ImageSurvey("no image can be used", (), (), tuple(faults))
    settings = [*_sample_settings(images), *_size_settings(sizes, num_train)]
    return ImageSurvey(_sizes_in_words(sizes), tuple(sizes), tuple(settings), tuple(faults))


def _pair_size(image: Path, mask: Path) -> Size | str:
    """Size of a pair, or what is wrong with it."""
    try:
        found = size(image)
        wanted = annotations.size(mask)
    except DataError as error:
        return str(error)
    if found == wanted:
        return found
    sideways = read_header(image).orientation if found == wanted[::-1] else 1
    reason = f" (the image has EXIF orientation {sideways}, the mask is not turned)"
    return (
        f"{image} is {found[0]} x {found[1]} but {mask} is {wanted[0]} x {wanted[1]}"
        f"{reason if sideways > 1 else ''}"
    )


def _sizes_in_words(sizes: Sequence[Size]) -> str:
    low, high = np.min(sizes, 0), np.max(sizes, 0)
    if (low == high).all():
        return f"all of {low[0]} x {low[1]} pixels"
    return f"from {low[0]} x {low[1]} to {high[0]} x {high[1]} pixels (height x width)"


def _sample_settings(images: Sequence[Path]) -> Iterator[Setting]:
    """Channels and range, by some images."""
    step = -(-len(images) // _SAMPLE)
    channels, ranges, kinds = [], [], set()
    for path in images[::step]:
        try:
            samples, header = decode_samples(path), read_header(path)
        except DataError:
            continue  # told with the other faults
        channels.append(samples.shape[2] - header.alpha)
        kinds.add(str(samples.dtype))
        ranges.append((float(samples.min()), float(samples.max())))
    if channels and max(channels) not in (1, 3):
        yield Setting("in_channels", max(channels), f"The images have {max(channels)} channels.")
    floats = [kind for kind in kinds if kind.startswith("float")]
    if floats:
        yield _range_of_floats(floats[0], ranges)
    elif (found := little_range(images)) is not None and found[1] > min(found[0], 0):
        low, high, least, most = found
        reason = f"The images use {low} to {high} of {least} to {most}; more would be nearly grey."
        yield Setting("image_range", [min(low, 0), high], reason)


def _range_of_floats(kind: str, ranges: Sequence[tuple[float, float]]) -> Setting:
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    value = [0.0, 1.0] if low >= 0 and high <= 1 else [low, high if high > low else low + 1]
    reason = f"The images hold {kind} from {low:g} to {high:g}; these become 0 and 255."
    return Setting("image_range", value, reason)


def _size_settings(sizes: Sequence[Size], num_train: int) -> Iterator[Setting]:
    """Sizes of images, crops and batches."""
    height, width = (float(side) for side in np.median(sizes, 0))
    ratios = [h / w for h, w in sizes]
    alike = max(ratios) <= _MOST_ALIKE * min(ratios)
    if max(height, width) > _LONG_SIDE and alike:
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
    if max(height, width) > _LONG_SIDE:
        reason += " The images' shapes differ, so they are not resized to one."
    yield Setting("crop_size", crop, reason)
    batch = max(1, min(8, num_train, _BATCH_PIXELS // (crop[0] * crop[1])))
    yield Setting("batch_size", batch, "Images in one step; raise it if the memory allows.")
    if max(h * w for h, w in sizes) > _WHOLE_PIXELS and not max(height, width) <= _LONG_SIDE:
        yield Setting("eval_batch_size", 1, "Whole images are evaluated; these are large.")


def _down(length: float) -> int:
    """To a multiple of 32, which every encoder divides by, if there is one."""
    return int(length) // 32 * 32 or max(1, int(length))


def _near(length: float) -> int:
    """To the nearest multiple of 32, if that is one."""
    return round(length / 32) * 32 or round(length)
