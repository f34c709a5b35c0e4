"""Channels, range and sizes of images, and what is wrong with pairs."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seg.data.discovery.setting import Setting
from seg.data.discovery.sizes import Size, Thinnest, size_settings
from seg.data.files import annotations
from seg.data.files.decoding import decode_samples
from seg.data.files.headers import DataError, read_header, size
from seg.data.files.image_range import little_range

_THREADS = 8
_SAMPLE = 12


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
    thin: Thinnest | None = None,
    advance: Callable[[], object] = lambda: None,
) -> ImageSurvey:
    """Read the headers of all images and masks, and a sample of the images.

    Args:
        images: Image files.
        masks: The mask of each.
        num_train: Number of training images, as far as is known.
        thin: The class whose areas are thinnest, if known.
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
    settings = [*_sample_settings(images), *size_settings(sizes, num_train, thin)]
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
        return f"all are {low[0]} x {low[1]} pixels (height x width)"
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
