"""What a file says about its picture before any pixel is decoded.

Everything that can be refused cheaply is refused here: unreadable files, pictures above a
declared size, orientations a mask cannot have.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import tifffile
from PIL import Image, UnidentifiedImageError

from seg.errors import InputError

MAX_PIXELS = 300_000_000
"""Height times width above which a picture is refused before it is decoded."""

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".jp2"}
    | {".pbm", ".pgm", ".pnm", ".ppm"}
)
"""Lower-case extensions that count as pictures; other files in a folder are skipped."""

Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own limit is lower; ours is checked below

_TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BEGINNINGS = (
    (b"version https://git-lfs", "this is a pointer of Git LFS; fetch the picture: git lfs pull"),
    (b"<", "this is HTML or XML, such as the page of an error; get the file again"),
    (b"%PDF", "this is a PDF; save its page as PNG"),
    (b"ftyp", "this is HEIC, AVIF or a video; save it as PNG"),
)
"""How files begin that are often taken for pictures, and what they are."""
_ORIENTATION = 274  # the EXIF and TIFF tag
_WITHIN_A_PAGE = "YXSCQ"  # Q: an array of more than two axes, saved by tifffile
_GDAL_NODATA = 42113  # the TIFF tag
SIDEWAYS = frozenset({5, 6, 7, 8})  # orientations that swap height and width
_TIFF_ALPHA = (1, 2)  # associated and unassociated, among the values of ExtraSamples
_PNG_BITS = slice(24, 26)  # bit depth and colour type in the IHDR chunk


class DataError(InputError):
    """A file, or a set of files, that cannot be used; the message names it and the remedy."""


class LabelError(DataError):
    """A mask with labels that have no class.

    Args:
        path: The mask.
        labels: Pixels of each label, such as {"label 7": 12}.
        what: What is wrong with them, and the remedy, after the labels.
    """

    def __init__(self, path: Path | str, labels: Mapping[str, int], what: str) -> None:
        most = max(labels, key=lambda label: labels[label])
        kind = most.split()[0]
        more = f"; {len(labels)} unknown {kind}s" if len(labels) > 1 else ""
        super().__init__(f"{path}: {most} ({labels[most]} pixels{more}) {what}")
        self.path = path
        self.labels = labels
        self.what = what


@dataclass(frozen=True)
class Header:
    """Size and coding of one picture; height and width before orientation is applied.

    Attributes:
        height: Rows as stored.
        width: Columns as stored.
        orientation: EXIF value from 1 (upright) to 8.
        format: "TIFF", or Pillow's name of the format.
        bits: Bits a sample of a PNG, else 8.
        colour_type: Colour type of a PNG (0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGBA).
        mode: Pillow's name of the pixels, such as "RGB" or "P"; empty for a TIFF.
        alpha: Whether the last channel is declared to be alpha.
        compression: That of a TIFF, by its number; 1 is none.
        nodata: The value that a GeoTIFF declares to be no data.
        pages: Those of a TIFF that are taken for the channels of an image.
    """

    height: int
    width: int
    orientation: int
    format: str
    bits: int = 8
    colour_type: int = -1
    mode: str = ""
    alpha: bool = False
    compression: int = 1
    nodata: float | None = None
    pages: int = 1


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into a `DataError` that begins with the path."""
    try:
        yield
    except DataError:
        raise
    except InputError as error:  # what is read, but not meant here
        raise DataError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: {_what_it_is(path)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: more than {MAX_PIXELS:,} pixels ({error}); tile it.") from error
    except MemoryError:
        raise DataError(f"{path}: not enough memory to decode it; tile it.") from None
    except Exception as error:  # decoders raise struct.error, SyntaxError, KeyError, ...
        raise DataError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); the file may be "
            "truncated or damaged: replace it or leave it out."
        ) from error


def _what_it_is(path: Path) -> str:
    """What is in a file that is no picture."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return "the file is empty; replace it or leave it out."
    if start.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8")):  # as Pillow before 12 has it
        return "a picture that is truncated or damaged; replace it or leave it out."
    found = start.removeprefix(start[:4]) if start[4:8] == b"ftyp" else start.lstrip()
    for beginning, kind in _BEGINNINGS:
        if found.startswith(beginning):
            return f"{kind}."
    text = "; it is text" if start.isascii() and start.decode().isprintable() else ""
    return f"not a picture in a known format ({', '.join(sorted(IMAGE_SUFFIXES))}){text}."


def read_header(path: Path, data: bytes | None = None) -> Header:
    """Read the header of a picture and refuse what is above `MAX_PIXELS`.

    Args:
        path: The file.
        data: Its content, where that was read already.

    Raises:
        DataError: If the file is missing, no picture or too large.
    """
    with naming(path), path.open("rb") if data is None else BytesIO(data) as stream:
        is_tiff = stream.read(4) in _TIFF_BEGINNINGS  # whatever the file is called
        stream.seek(0)
        header = _tiff_header(stream) if is_tiff else _pillow_header(stream)
    if header.height * header.width > MAX_PIXELS:
        raise DataError(
            f"{path}: {header.height} x {header.width} pixels are more than the limit of "
            f"{MAX_PIXELS:,}; cut images and masks into tiles of one size, as by gdal_retile.py "
            "-ps 4096 4096 -targetDir FOLDER FILE."
        )
    return header


def size(path: Path | str, upright: bool = True) -> tuple[int, int]:
    """Height and width in pixels after EXIF orientation, by the header only.

    Args:
        path: The file.
        upright: Whether the orientation is applied.

    Raises:
        DataError: If the file is missing, no picture or too large.
    """
    header = read_header(Path(path))
    if upright and header.orientation in SIDEWAYS:
        return header.width, header.height
    return header.height, header.width


def first_page(file: tifffile.TiffFile) -> tifffile.TiffPage:
    """The page whose tags describe the picture."""
    page = file.pages[0]
    if not isinstance(page, tifffile.TiffPage):
        raise InputError("its first page has no tags")
    return page


def tiff_layout(file: tifffile.TiffFile) -> dict[str, int]:
    """Axis name to length of the first series, with axes of length one left out.

    Raises:
        InputError: If there is anything but rows, columns and at most one axis of channels, such
            as pages.
    """
    series = file.series[0]
    kept = [(a, n) for a, n in zip(series.axes, series.shape, strict=True) if n > 1 or a in "YX"]
    axes = dict(kept)
    pages = prod(n for axis, n in kept if axis not in _WITHIN_A_PAGE)
    if len(file.series) > 1 or pages > 1:
        number = len(file.pages) if len(file.series) > 1 else pages
        raise InputError(pages_refused(number))
    if not {"Y", "X"} <= axes.keys() or len(kept) > 3:
        raise InputError(f"axes {series.axes} of shape {series.shape} are no single picture.")
    return axes


def pages_refused(number: int) -> str:
    """What is said of a TIFF of several pages where one is expected."""
    return (
        f"a TIFF of {number} pages; expected one: save the one that is meant as its own file, in "
        'Python by tifffile.imwrite("one.tif", tifffile.imread("FILE", key=0)), key being its '
        "number from 0."
    )


def _tiff_header(stream: BinaryIO) -> Header:
    with tifffile.TiffFile(stream) as file:
        axes, page = tiff_layout(file), first_page(file)
        tag = page.tags.get(_ORIENTATION)
        return Header(
            height=axes["Y"],
            width=axes["X"],
            orientation=_valid_orientation(tag.value) if tag else 1,
            format="TIFF",
            alpha=bool(page.extrasamples) and page.extrasamples[-1] in _TIFF_ALPHA,
            compression=int(page.compression),
            nodata=_nodata(page),
            pages=axes.get("Q", 1),
        )


def _nodata(page: tifffile.TiffPage) -> float | None:
    tag = page.tags.get(_GDAL_NODATA)
    try:
        return None if tag is None else float(str(tag.value).strip("\0 "))
    except ValueError:
        return None


def _pillow_header(stream: BinaryIO) -> Header:
    with Image.open(stream) as file:
        bits, colour_type = 8, -1
        if file.format == "PNG":
            stream.seek(0)
            bits, colour_type = stream.read(_PNG_BITS.stop)[_PNG_BITS]
        return Header(
            height=file.height,
            width=file.width,
            orientation=_orientation(file),
            format=file.format or "",
            bits=bits,
            colour_type=colour_type,
            mode=file.mode,
            alpha=file.mode in ("LA", "RGBA"),
        )


def _orientation(file: Image.Image) -> int:
    if file.format == "PNG" and "exif" not in file.info:
        return 1  # getexif would decode the whole file in search of a late chunk
    try:
        value = file.getexif().get(_ORIENTATION, 1)
    except Exception as error:  # Pillow raises struct.error, SyntaxError, ... for damaged EXIF
        raise InputError(
            f"its EXIF data cannot be read ({type(error).__name__}: {error}), so that it is "
            "unknown whether the picture is upright; remove them, as by exiftool -all= FILE."
        ) from error
    return _valid_orientation(value)


def _valid_orientation(value: Any) -> int:
    """The orientation that a tag says; numbers without a meaning count as upright."""
    if not isinstance(value, int):
        raise InputError(
            f"its EXIF orientation is {value!r}; expected a number from 1 to 8: write it so, as by "
            "exiftool -n -Orientation=1 FILE."
        )
    return value if value in range(1, 9) else 1
