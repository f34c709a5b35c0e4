"""Images whose EXIF data say that they are shown turned, beside masks that may not be turned."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from lightning.fabric.utilities.rank_zero import rank_zero_only

from seg.data.files.headers import SIDEWAYS, read_header

log = logging.getLogger(__name__)

ExifPolicy = Literal["apply", "ignore"]
"""Whether images are turned upright by their EXIF orientation."""

_EXAMPLES = 3
_THREADS = 8


def reason_of(
    image: Path, found: tuple[int, int], wanted: tuple[int, int], policy: ExifPolicy | None
) -> str:
    """Why an image has another size (height, width) than its mask, if its orientation is why.

    Args:
        image: The image.
        found: Its size.
        wanted: That of its mask.
        policy: What is done with it; without one it is applied.
    """
    if found != wanted[::-1] or read_header(image).orientation not in SIDEWAYS:
        return ""
    if policy == "ignore":
        return (
            ": the image is read as it is stored, despite its EXIF orientation, but the mask is "
            "upright; set data.exif_orientation: apply"
        )
    return (
        ": the image is turned upright by its EXIF orientation, but the mask is as the image is "
        "stored; turn the mask, or set data.exif_orientation: ignore if all masks are so"
    )


def say_policy(images: Sequence[Path], sizes: Sequence[tuple[int, int]]) -> bool:
    """Say what is done with images that have an EXIF orientation, if there are any.

    Where an image and its mask have the same size in either case, nothing tells whether the mask is
    turned: then it is a warning.

    Args:
        images: All images.
        sizes: Height and width of each, which are those of its mask.

    Returns:
        Whether there are any.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        orientations = list(pool.map(lambda path: read_header(path).orientation, images))
    turned = [i for i, orientation in enumerate(orientations) if orientation != 1]
    told = [i for i in turned if orientations[i] in SIDEWAYS and sizes[i][0] != sizes[i][1]]
    if not turned:
        return False
    doubtful = [i for i in turned if i not in set(told)]
    shown = ", ".join(str(images[i]) for i in (doubtful or turned)[:_EXAMPLES])
    text = f"{len(turned)} images have an EXIF orientation, by which they are turned upright"
    if not doubtful:
        rank_zero_only(log.info)(f"{text}, as their masks are: {shown}.")
        return True
    rank_zero_only(log.warning)(
        f"{text}. Sizes do not tell for {len(doubtful)} of them whether their masks are upright as "
        f"well: {shown}. Look at the previews; if masks are as the images are stored, set "
        "data.exif_orientation: ignore, else apply, which says no more of it."
    )
    return True
