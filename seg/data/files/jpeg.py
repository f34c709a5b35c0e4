"""JPEGs whose data end before their last block, which no decoder tells.

Decoders fill what is missing: in a file of one scan with mid-grey, in one of several scans with
what the earlier ones hold. So a file is in doubt if it ends in mid-grey or has several scans. It is
then decoded once more with surplus data before its end, which decoders skip if no block is missing.
"""

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seg.data.files.headers import DataError

_SCAN, _END = 0xDA, 0xD9
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")  # in the data of a scan, 0xff00 is a byte
_GREY = 128
_LUMA = np.array([0.299, 0.587, 0.114])
_NOISE = bytes(np.random.default_rng(0).integers(0, 255, 256, np.uint8))  # no 0xff
_RESTARTS = b"".join(b"\xff" + bytes([marker]) + _NOISE[:32] for marker in range(0xD0, 0xD8))
_SURPLUS = b"\0" + _NOISE + _RESTARTS  # 0 first, as 0xff may be before it

_complete: set[int] = set()
"""Hashes of the contents of files that were in doubt and lack nothing."""


def is_in_doubt(data: bytes, pixels: NDArray[np.uint8] | None = None) -> bool:
    """Whether a JPEG has to be decoded twice to know that it lacks nothing.

    Args:
        data: The file.
        pixels: What it was decoded to, (H, W, 1) or (H, W, 3), if it was.
    """
    doubt = _has_several_scans(data) if pixels is None else _ends_grey(pixels)
    return doubt and hash(data) not in _complete


def refuse_missing_blocks(path: Path, data: bytes, picture: Image.Image) -> None:
    """Refuse a JPEG whose data end before its last block.

    Args:
        path: The file.
        data: Its content.
        picture: What Pillow has made of it.

    Raises:
        DataError: Says so.
    """
    pixels = np.asarray(picture)
    doubt = picture.mode not in ("L", "RGB") or _ends_grey(pixels) or _has_several_scans(data)
    if not doubt or hash(data) in _complete:
        return
    markers = list(_markers(data))
    kind, end = markers[-1]
    if kind != _END:  # of a file that ends early without the mark of its end, Pillow tells
        return
    with Image.open(BytesIO(data[: end - 2] + _SURPLUS + data[end - 2 :])) as more:
        changed = not np.array_equal(np.asarray(more), pixels)
    if changed or _lacks_scans(data, markers):
        raise DataError(
            f"{path}: its data end before its last row; the file is damaged: replace it or leave "
            "it out."
        )
    _complete.add(hash(data))


def _ends_grey(pixels: NDArray[np.uint8]) -> bool:
    last = np.atleast_1d(pixels[-1, -1])
    grey = float(last[:3] @ _LUMA) if len(last) >= 3 else float(last[0])
    return abs(grey - _GREY) < 2  # beside a block that is there, colours differ a little


def _has_several_scans(data: bytes) -> bool:
    components = 0
    for kind, place in _markers(data):
        if kind in _PROGRESSIVE:
            return True
        if kind in _FRAMES:
            components = data[place + 7]
        elif kind == _SCAN:
            return data[place + 2] < components
    return False


def _markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Each marker of the first picture to its end, with the place after it."""
    place = 2
    while (found := _MARKER.search(data, place)) is not None:
        kind, place = data[found.start() + 1], found.end()
        yield kind, place
        if kind == _END:
            return
        place += int.from_bytes(data[place : place + 2], "big")


def _lacks_scans(data: bytes, markers: list[tuple[int, int]]) -> bool:
    """Whether some bits of some coefficient of a progressive file come in no scan."""
    bits_left = np.full((256, 64), 255, np.uint8)  # by component and coefficient
    components: list[int] = []
    for kind, place in markers:
        if kind in _FRAMES:
            if kind not in _PROGRESSIVE:
                return False
            components = [*data[place + 8 : place + 8 + 3 * data[place + 7] : 3]]
        elif kind == _SCAN:
            after = place + 3 + 2 * data[place + 2]
            first, last, approximation = data[after : after + 3]
            for component in data[place + 3 : after : 2]:
                bits_left[component, first : last + 1] = approximation % 16
    return bool(bits_left[components].any())
