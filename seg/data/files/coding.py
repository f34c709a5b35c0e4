"""What decoders do not say: rows that a PNG lacks, codings that change the labels of a mask."""

import zlib
from collections.abc import Iterator
from pathlib import Path

from seg.data.files.headers import DataError, Header

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of each colour type of a PNG."""
_INTERLACED = 28
"""Place of the byte in a PNG that says so."""
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
           (0, 1, 1, 2))  # fmt: skip
"""First column and row, and steps of both, of the passes of an interlaced PNG (Adam7)."""
_LOSSY_TIFF = frozenset({6, 7, 34892})
"""Compressions of TIFF by JPEG: old, new and lossy DNG."""


def refuse_missing_rows(path: Path, data: bytes, header: Header) -> None:
    """Refuse a PNG whose data ends before its last row; Pillow takes what is missing for 0.

    Raises:
        DataError: Says how much is there.
    """
    wanted = _pixel_bytes(header, interlaced=data[_INTERLACED] == 1)
    inflated = zlib.decompressobj().decompress(b"".join(_chunks(data, b"IDAT")), wanted)
    if len(inflated) < wanted:
        raise DataError(
            f"{path}: its pixels end after {len(inflated) / wanted:.0%}; the file is damaged: "
            "replace it or leave it out."
        )


def _pixel_bytes(header: Header, interlaced: bool) -> int:
    """Bytes of all rows, each with its filter's number (PNG specification, section 7)."""
    bits = header.bits * _CHANNELS[header.colour_type]
    total = 0
    for left, top, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns = -(-(header.width - left) // across)
        rows = -(-(header.height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _chunks(data: bytes, kind: bytes) -> Iterator[bytes]:
    place = 8
    while place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] == kind:
            yield data[place + 8 : place + 8 + length]
        place += length + 12


def lossy_coding(data: bytes, header: Header) -> str | None:
    """Name of a file's coding if it changes the labels of a mask, else None.

    Args:
        data: The file.
        header: Its header.
    """
    if header.format in ("JPEG", "MPO"):
        return "JPEG"
    if header.format == "JPEG2000":
        return "JPEG 2000"
    if header.format == "WEBP" and _is_lossy_webp(data):
        return "lossy WebP"
    if header.format == "TIFF" and header.compression in _LOSSY_TIFF:
        return "JPEG within TIFF"
    return None


def _is_lossy_webp(data: bytes) -> bool:
    """Whether its first picture is in a chunk `VP8 ` (RFC 9649, section 2)."""
    place = 12
    while place + 8 <= len(data):
        kind = data[place : place + 4]
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8 "
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        # of an animation the first frame: its picture follows 16 bytes on its place
        place += 8 + (16 if kind == b"ANMF" else length + length % 2)
    return False
