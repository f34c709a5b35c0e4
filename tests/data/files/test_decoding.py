"""Every format is read by the declared policy, and whatever cannot be read is named."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from seg.data.files import headers
from seg.data.files.decoding import read_image, read_mask
from seg.data.files.headers import DataError, size

HEIGHT, WIDTH = 21, 34


def random(channels: int, dtype: type = np.uint8) -> np.ndarray:
    shape = (HEIGHT, WIDTH, channels) if channels > 1 else (HEIGHT, WIDTH)
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def smooth() -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([rows * 9, columns * 6, rows + columns], axis=2).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tif"])
def test_lossless_rgb_gives_the_stored_values(tmp_path: Path, suffix: str) -> None:
    rgb, path = random(3), tmp_path / f"image{suffix}"
    Image.fromarray(rgb).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    np.testing.assert_array_equal(read_image(path), rgb)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_equals_pillows_decoding(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.jpg"
    Image.fromarray(smooth()).convert(mode).save(path)
    with Image.open(path) as file:
        np.testing.assert_array_equal(read_image(path), np.asarray(file.convert("RGB")))


def test_cmyk_jpeg_is_converted_to_rgb(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    Image.fromarray(smooth()).convert("CMYK").save(path)
    with Image.open(path) as file:
        np.testing.assert_array_equal(read_image(path), np.asarray(file.convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_grey_is_repeated_to_three_channels_and_kept_for_one(tmp_path: Path, suffix: str) -> None:
    grey, path = random(1), tmp_path / f"image{suffix}"
    Image.fromarray(grey).save(path)
    np.testing.assert_array_equal(read_image(path), np.dstack([grey] * 3))
    np.testing.assert_array_equal(read_image(path, channels=1), grey[..., None])


def test_rgb_becomes_luma_for_one_channel(tmp_path: Path) -> None:
    rgb, path = random(3), tmp_path / "image.png"
    Image.fromarray(rgb).save(path)
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(read_image(path, channels=1)[..., 0], luma, atol=1)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_alpha_is_dropped_for_three_channels_and_kept_for_four(tmp_path: Path, suffix: str) -> None:
    rgba, path = random(4), tmp_path / f"image{suffix}"
    rgba[..., 3] |= 1  # lossless WebP may change colours under full transparency
    Image.fromarray(rgba).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    np.testing.assert_array_equal(read_image(path), rgba[..., :3])
    np.testing.assert_array_equal(read_image(path, channels=4), rgba)


def test_grey_with_alpha_is_grey(tmp_path: Path) -> None:
    grey, path = random(2), tmp_path / "image.png"
    Image.fromarray(grey, "LA").save(path)
    np.testing.assert_array_equal(read_image(path, channels=1), grey[..., :1])
    np.testing.assert_array_equal(read_image(path, channels=2), grey)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_palette_images_give_their_colours(tmp_path: Path, suffix: str) -> None:
    colours, index = random(3).reshape(-1, 3)[:256], random(1) % 7
    image = Image.fromarray(index)
    image.putpalette(colours.tobytes())
    path = tmp_path / f"image{suffix}"
    image.save(path)
    np.testing.assert_array_equal(read_image(path), colours[index])


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_one_bit_images_are_black_and_white(tmp_path: Path, suffix: str) -> None:
    bits, path = random(1) > 127, tmp_path / f"image{suffix}"
    Image.fromarray(bits).save(path)
    np.testing.assert_array_equal(read_image(path, channels=1)[..., 0], bits * 255)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_map_linearly_over_the_full_range(
    tmp_path: Path, suffix: str, channels: int
) -> None:
    deep, path = random(channels, np.uint16), tmp_path / f"image{suffix}"
    bgr = deep[..., [2, 1, 0, 3][:channels]] if channels > 1 else deep
    if suffix == ".png":
        cv2.imwrite(str(path), bgr)
    else:
        tifffile.imwrite(path, deep, photometric="rgb" if channels > 1 else "minisblack")
    expected = np.rint(deep.astype(np.float64) / 65535 * 255)
    found = read_image(path, channels)
    np.testing.assert_array_equal(found.reshape(deep.shape), expected)


def test_a_declared_range_is_mapped_linearly_clipped_and_rounded(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.array([[0, 1000], [2000, 3000]], np.uint16))
    found = read_image(path, channels=1, image_range=(1000, 2500))[..., 0]
    np.testing.assert_array_equal(found, [[0, 0], [170, 255]])


def test_floats_need_a_declared_range(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.array([[0.0, 0.5, 1.0]], np.float32))
    with pytest.raises(DataError, match=r"image.tif: float32 .* set data.image_range"):
        read_image(path)
    found = read_image(path, channels=1, image_range=(0, 1))
    np.testing.assert_array_equal(found[..., 0], [[0, 128, 255]])


def test_nan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.array([[0.0, np.nan]], np.float32))
    with pytest.raises(DataError, match=r"image.tif: holds NaN"):
        read_image(path, image_range=(0, 1))


@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_tiffs_of_many_channels_are_read_in_any_layout(
    tmp_path: Path, planar: str, compression: str | None
) -> None:
    bands, path = random(7), tmp_path / "image.tif"
    stored = bands if planar == "contig" else bands.transpose(2, 0, 1)
    tifffile.imwrite(
        path, stored, photometric="minisblack", planarconfig=planar, compression=compression
    )
    np.testing.assert_array_equal(read_image(path, channels=7), bands)
    assert size(path) == (HEIGHT, WIDTH)


def test_pages_of_a_tiff_are_channels(tmp_path: Path) -> None:
    bands, path = random(5), tmp_path / "image.tif"
    tifffile.imwrite(path, bands.transpose(2, 0, 1), photometric="minisblack")
    np.testing.assert_array_equal(read_image(path, channels=5), bands)


def test_a_tiff_of_more_than_one_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.zeros((2, 3, HEIGHT, WIDTH), np.uint8), photometric="minisblack")
    with pytest.raises(DataError, match=r"image.tif: .* no single picture"):
        read_image(path)


def test_a_fourth_band_that_is_no_alpha_is_not_dropped(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, random(4), photometric="rgb", extrasamples=["unspecified"])
    with pytest.raises(DataError, match=r"4 channels found, 3 expected; set data.in_channels to 4"):
        read_image(path)


def test_white_first_grey_tiffs_are_inverted_as_images_and_refused_as_masks(tmp_path: Path) -> None:
    grey, path = random(1), tmp_path / "image.tif"
    tifffile.imwrite(path, grey, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(path, channels=1)[..., 0], 255 - grey)
    with pytest.raises(DataError, match=r"image.tif: .*0 is white"):
        read_mask(path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exif_orientation_is_applied_to_pixels_and_size(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    path = tmp_path / f"image{suffix}"
    image = Image.fromarray(smooth())
    exif = image.getexif()
    exif[274] = orientation
    image.save(path, exif=exif)
    with Image.open(path) as file:
        upright = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    np.testing.assert_array_equal(read_image(path), upright)
    assert size(path) == upright.shape[:2]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_index_masks_keep_their_values(tmp_path: Path, suffix: str) -> None:
    index, path = random(1), tmp_path / f"mask{suffix}"
    Image.fromarray(index).save(path)
    np.testing.assert_array_equal(read_mask(path), index)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_masks_keep_their_values(tmp_path: Path, suffix: str) -> None:
    index, path = random(1, np.uint16), tmp_path / f"mask{suffix}"
    if suffix == ".png":
        cv2.imwrite(str(path), index)
    else:
        tifffile.imwrite(path, index)
    np.testing.assert_array_equal(read_mask(path), index)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("labels", [2, 4, 16, 200])
def test_palette_masks_give_indices_not_colours(tmp_path: Path, suffix: str, labels: int) -> None:
    index = random(1) % labels
    image = Image.fromarray(index)
    image.putpalette(random(3).tobytes()[: 3 * labels])
    path = tmp_path / f"mask{suffix}"
    image.save(path)
    np.testing.assert_array_equal(read_mask(path), index)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_one_bit_masks_are_zero_and_one(tmp_path: Path, suffix: str) -> None:
    bits, path = random(1) > 127, tmp_path / f"mask{suffix}"
    Image.fromarray(bits).save(path)
    found = read_mask(path)
    np.testing.assert_array_equal(found, bits)
    assert found.dtype == np.uint8


@pytest.mark.parametrize("bits", [2, 4])
def test_two_and_four_bit_grey_masks_are_not_stretched(tmp_path: Path, bits: int) -> None:
    index = np.arange(2**bits, dtype=np.uint8)[None]
    path = tmp_path / "mask.png"
    path.write_bytes(grey_png(index, bits))
    np.testing.assert_array_equal(read_mask(path), index)


def grey_png(index: np.ndarray, bits: int) -> bytes:
    """A PNG of one row, which no library at hand writes at this depth."""
    text = "".join(f"{value:0{bits}b}" for value in index[0])
    row = bytes([0]) + int(text, 2).to_bytes(len(text) // 8, "big")
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", index.shape[1], 1, bits, 0, 0, 0, 0),
        b"IDAT": zlib.compress(row),
        b"IEND": b"",
    }
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_masks_of_colours_come_without_alpha(tmp_path: Path) -> None:
    rgba, path = random(4), tmp_path / "mask.png"
    Image.fromarray(rgba).save(path)
    np.testing.assert_array_equal(read_mask(path), rgba[..., :3])


def test_jpeg_masks_are_refused_whatever_their_extension(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(random(1)).save(path, format="JPEG")
    with pytest.raises(DataError, match=r"mask.png: JPEG changes the labels"):
        read_mask(path)


def test_masks_with_an_orientation_are_refused(tmp_path: Path) -> None:
    path, image = tmp_path / "mask.png", Image.fromarray(random(1))
    exif = image.getexif()
    exif[274] = 6
    image.save(path, exif=exif)
    with pytest.raises(DataError, match=r"mask.png: .*orientation 6 is ambiguous"):
        read_mask(path)


def test_masks_of_many_bands_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, random(5), photometric="minisblack", planarconfig="contig")
    with pytest.raises(DataError, match=r"mask.tif: a mask has 1 channel or RGB, this has 5"):
        read_mask(path)


def write_sample(path: Path) -> None:
    """Write a file of the kind that the name says."""
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (120, 150, 3), np.uint8)
    match path.name:
        case "deep.png":
            cv2.imwrite(str(path), rgb.astype(np.uint16) * 257)
        case "bands.tif":
            tifffile.imwrite(path, rgb, photometric="rgb", compression="lzw")
        case "grey.jpg" | "grey.png":
            Image.fromarray(rgb[..., 0]).save(path)
        case "palette.png":
            Image.fromarray(rgb).quantize(64).save(path)
        case _:
            Image.fromarray(rgb).save(path)


TRUNCATED = [
    "rgb.jpg", "grey.jpg", "rgb.png", "grey.png", "palette.png", "deep.png", "rgb.bmp", "rgb.webp",
    "rgb.tif", "bands.tif",
]  # fmt: skip


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("name", TRUNCATED)
@pytest.mark.filterwarnings("ignore:Truncated File Read")  # Pillow says so before it raises
def test_truncated_files_raise_and_are_named(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    write_sample(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=name):
        read_image(path)


def test_a_flipped_byte_in_a_png_raises_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    write_sample(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"mask.png: cannot be read"):
        read_mask(path)


def test_missing_files_and_files_that_are_no_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.png: no such file"):
        read_image(tmp_path / "none.png")
    path = tmp_path / "text.png"
    path.write_text("words")
    with pytest.raises(DataError, match=r"text.png: not a picture in a known format"):
        size(path)
    path = tmp_path / "text.tif"
    path.write_text("words")
    with pytest.raises(DataError, match=r"text.tif: not a picture in a known format"):
        size(path)


@pytest.mark.parametrize("name", ["image.png", "image.tif"])
def test_pictures_above_the_limit_are_refused_by_their_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    Image.fromarray(random(1)).save(path)
    monkeypatch.setattr(headers, "MAX_PIXELS", HEIGHT * WIDTH - 1)
    for read in (size, read_image, read_mask):
        with pytest.raises(DataError, match=rf"{name}: 21 x 34 pixels are more than .* tile"):
            read(path)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    content = bytearray(grey_png(np.zeros((1, 4), np.uint8), 2))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bomb.png: .*tile"):
        read_image(path)


def test_wrong_channels_name_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(random(3)).save(path)
    with pytest.raises(DataError, match=r"image.png: 3 channels found, 5 expected; set data.in_ch"):
        read_image(path, channels=5)
