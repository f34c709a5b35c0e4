"""Picture files to arrays, by one declared policy for every format.

Images become uint8: alpha is dropped, palettes are resolved, EXIF orientation is applied, and
deeper samples are mapped linearly from a declared range. Masks keep their raw values. A file that
is truncated or damaged raises, whichever decoder reads it.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from seg.data.files.coding import lossy_coding, refuse_missing_rows
from seg.data.files.headers import (
    DataError,
    Header,
    first_page,
    naming,
    pages_refused,
    read_header,
    size,
    tiff_layout,
)
from seg.data.files.jpeg import is_in_doubt, refuse_missing_blocks
from seg.data.files.palettes import BLACK_AND_WHITE, Palette, pack, without_ramp

__all__ = ["DataError", "read_image", "read_mask", "size"]

Array = NDArray[Any]

_JPEG_END = b"\xff\xd9"
_PNG_GREY, _PNG_PALETTE = 0, 3  # colour types
_MIN_IS_WHITE, _TIFF_PALETTE, _SEPARATED = 0, 3, 5  # photometric interpretations


def read_image(
    path: Path | str,
    channels: int = 3,
    image_range: Sequence[float] | None = None,
    upright: bool = True,
) -> NDArray[np.uint8]:
    """Decode an image to uint8 of shape (H, W, channels).

    Args:
        path: A JPEG, JPEG 2000, PNG, BMP, GIF, WebP, TIFF or PNM file.
        channels: Channels wanted. Grey is repeated to 3, RGB becomes luma (Rec. 601) for 1.
        image_range: Low and high value that become 0 and 255, for samples deeper than 8 bits;
            without it, the full range of an integer type.
        upright: Whether its EXIF orientation is applied.

    Raises:
        DataError: If the file cannot be decoded, has other channels, or needs `image_range`.
    """
    path = Path(path)
    with naming(path):
        data = path.read_bytes()
        header = read_header(path, data)
        array, _ = _decode(path, data, header)
        array = _to_uint8(path, array, image_range)
        array = _upright(array, header.orientation if upright else 1)
        array = _with_channels(path, array, header, channels)
        return np.require(array, requirements=["C", "W"])  # Pillow's cannot be written to


def decode_samples(path: Path) -> Array:
    """An image's samples as stored, (H, W, channels).

    Raises:
        DataError: If the file cannot be decoded.
    """
    with naming(path):
        data = path.read_bytes()
        return _decode(path, data, read_header(path, data))[0]


def read_mask(path: Path | str) -> Array:
    """Decode a mask to its raw values: (H, W) of indices, or (H, W, 3) of colours.

    Palette files give indices, 1-bit files 0 and 1, and alpha is dropped.

    Raises:
        DataError: If the file cannot be decoded, is lossy, or carries an orientation.
    """
    return read_mask_and_palette(path)[0]


def read_mask_and_palette(path: Path | str, lossy: bool = False) -> tuple[Array, Palette | None]:
    """As `read_mask`, and the colour of each index where the file has a palette.

    A palette in which index i is grey level i is none. That of 1-bit files is `BLACK_AND_WHITE`.

    Args:
        path: The file.
        lossy: Whether its coding may change values a little, as JPEG's does.

    Raises:
        DataError: If the file cannot be decoded, is lossy, or carries an orientation.
    """
    path = Path(path)
    with naming(path):
        data = path.read_bytes()
    header = read_header(path, data)
    coding = None if lossy else lossy_coding(data, header)
    if coding is not None:
        raise DataError(
            f"{path}: {coding} changes the labels of a mask; save masks as PNG from the original, "
            "or set data.mask_threshold if it is black and white, data.color_tolerance if it has "
            "colours."
        )
    if header.orientation != 1:
        raise DataError(
            f"{path}: a mask with EXIF orientation {header.orientation} is ambiguous; "
            "save it upright without that tag."
        )
    if header.pages > 1:
        raise DataError(f"{path}: {pages_refused(header.pages)}")
    with naming(path):
        array, palette = _decode(path, data, header, raw=True)
        array = array[..., :-1] if header.alpha else array
        if array.shape[2] not in (1, 3):
            raise DataError(f"{path}: a mask has 1 channel or RGB, this has {array.shape[2]}.")
        return (array[..., 0] if array.shape[2] == 1 else array), palette


def _decode(
    path: Path, data: bytes, header: Header, raw: bool = False
) -> tuple[Array, Palette | None]:
    """Samples as stored, (H, W, channels); `raw` keeps palette indices and small integers."""
    if header.format == "TIFF":
        return _decode_tiff(path, data, raw)
    if header.format == "PNG" and header.bits >= 8 and header.colour_type != _PNG_PALETTE:
        return _decode_cv2(data, header), None
    whole = data.endswith(_JPEG_END)  # cv2 fills a truncated file with grey; Pillow raises
    if header.format == "JPEG" and header.mode in ("L", "RGB") and whole and not is_in_doubt(data):
        array = _decode_cv2(data, header)
        if not is_in_doubt(data, array):
            return array, None
    if header.format == "PNG":
        refuse_missing_rows(path, data, header)
    with Image.open(BytesIO(data)) as file:  # of a GIF the first picture
        file.load()
        if header.format in ("JPEG", "MPO"):
            refuse_missing_blocks(path, data, file)
        palette = None if not raw else BLACK_AND_WHITE if file.mode == "1" else _palette(file)
        if not raw and file.mode in ("P", "PA", "CMYK", "RGBa", "La"):
            array = np.asarray(file.convert("RGB"))
        elif not raw and file.mode == "1":
            array = np.asarray(file.convert("L"))
        else:
            array = np.asarray(file)
    if raw and header.colour_type == _PNG_GREY and header.bits in (2, 4):
        array = array // (255 // (2**header.bits - 1))  # Pillow spreads them over 0..255
    array = array.astype(np.uint8) if array.dtype == bool else array
    return array.reshape(*array.shape[:2], -1), palette


def _palette(file: Image.Image) -> Palette | None:
    colours = file.getpalette("RGB") if file.mode == "P" else None
    return without_ramp(pack(np.reshape(np.array(colours, np.uint8), (-1, 3)))) if colours else None


def _decode_cv2(data: bytes, header: Header) -> Array:
    """Grey and RGB with or without alpha, of 8 or 16 bits: faster than Pillow, which cuts 16."""
    flags = cv2.IMREAD_UNCHANGED if header.format == "PNG" else cv2.IMREAD_ANYCOLOR
    array = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if array is None:
        raise ValueError(f"damaged {header.format}")
    array = array.reshape(*array.shape[:2], -1)
    if header.alpha:  # grey comes back as B = G = R
        return array[..., [0, 3] if header.mode == "LA" else [2, 1, 0, 3]]
    if header.colour_type == _PNG_GREY or header.mode == "L":
        return array[..., :1]
    return cv2.cvtColor(array[..., :3], cv2.COLOR_BGR2RGB)


def _decode_tiff(path: Path, data: bytes, raw: bool) -> tuple[Array, Palette | None]:
    with tifffile.TiffFile(BytesIO(data)) as file:
        page, axes = first_page(file), tiff_layout(file)
        array = np.asarray(file.series[0].asarray()).reshape([*axes.values()])
        stored, rank = [*axes], {"Y": 0, "X": 1}
        order = sorted(range(array.ndim), key=lambda axis: rank.get(stored[axis], 2))
        array = array.transpose(order).reshape(axes["Y"], axes["X"], -1)
        palette = BLACK_AND_WHITE if array.dtype == bool else None
        if page.photometric == _TIFF_PALETTE:
            colours = _colormap(page)
            if not raw:
                return colours[array[..., 0].astype(np.uint16)], None
            palette = without_ramp(pack(colours))
        if page.photometric == _SEPARATED and array.shape[2] == 4 and not raw:
            inks = array if array.dtype == np.uint8 else _to_uint8(path, array, None)
            return np.asarray(Image.fromarray(inks, "CMYK").convert("RGB")), None
        if page.photometric == _MIN_IS_WHITE:
            array = _white_first(path, array, page.bitspersample, raw)
        if array.dtype == bool:
            array = array.astype(np.uint8) * (1 if raw else 255)
        return array, palette


def _colormap(page: tifffile.TiffPage) -> NDArray[np.uint8]:
    """RGB of each entry; its samples have 16 bits, but some programs fill only the lower 8."""
    colours: Array = np.asarray(page.colormap).T
    return np.asarray(colours >> 8 if colours.max() > 255 else colours, np.uint8)


def _white_first(path: Path, array: Array, bits: int, raw: bool) -> Array:
    if raw:
        raise DataError(
            f"{path}: in this TIFF 0 is white (MinIsWhite), so its label values are ambiguous; "
            "save the mask as PNG."
        )
    return ~array if array.dtype == bool else (2**bits - 1 - array).astype(array.dtype)


def _to_uint8(path: Path, array: Array, image_range: Sequence[float] | None) -> Array:
    if array.dtype == np.uint8:
        return array
    if image_range is None:
        if not np.issubdtype(array.dtype, np.integer):
            raise DataError(
                f"{path}: {array.dtype} samples have no natural range; "
                "set data.image_range to [low, high]."
            )
        image_range = (np.iinfo(array.dtype).min, np.iinfo(array.dtype).max)
    low, high = image_range
    scaled: Array = (array.astype(np.float64) - low) * (255.0 / (high - low))
    if np.isnan(scaled).any():
        raise DataError(f"{path}: holds NaN; replace it by a number before training.")
    return np.asarray(np.rint(scaled.clip(0, 255)), np.uint8)


def _upright(array: Array, orientation: int) -> Array:
    """Apply an EXIF orientation to an array of shape (H, W, channels)."""
    if orientation in (5, 6, 7, 8):
        array = array.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def _with_channels(path: Path, array: Array, header: Header, channels: int) -> Array:
    if header.alpha and array.shape[2] != channels:
        array = array[..., :-1]
    found = array.shape[2]
    if found == channels:
        return array
    if found == 1 and channels == 3:
        return np.repeat(array, 3, axis=2)
    if found == 3 and channels == 1:
        return cv2.cvtColor(np.ascontiguousarray(array), cv2.COLOR_RGB2GRAY)[..., None]
    pages = ", as the TIFF has pages" if header.pages > 1 else ""
    raise DataError(
        f"{path}: {found} channels found, {channels} expected{pages}; set data.in_channels to "
        f"{found} or convert the images."
    )
