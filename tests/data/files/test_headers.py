"""What is said of files that are not what their names promise, and of pictures of several pages."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from seg.data.files.decoding import read_image, read_mask
from seg.data.files.headers import DataError, read_header, size

LABELS = np.arange(20 * 30, dtype=np.uint8).reshape(20, 30) // 8
COLOURS = np.stack([LABELS, 255 - LABELS, LABELS // 2], axis=2)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg", "a.bmp"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_a_picture_is_read_by_its_contents_whatever_it_is_called(
    kind: str, name: str, tmp_path: Path
) -> None:
    Image.fromarray(LABELS).save(tmp_path / name, format=kind)
    assert size(tmp_path / name) == LABELS.shape
    np.testing.assert_array_equal(read_mask(tmp_path / name), LABELS)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty; replace it"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a",
            "this is a pointer of Git LFS",
        ),
        (b"\n<!DOCTYPE html><html>404</html>", "this is HTML or XML"),
        (b"%PDF-1.7 %", "this is a PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "this is HEIC, AVIF or a video; save it as PNG"),
        (b"hello", r"not a picture in a known format \(.*\); it is text"),
        (b"\x93NUMPY\x01\0v\0", r"not a picture in a known format \(.*webp\)\.$"),
    ],
)
@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_a_file_that_is_no_picture_is_called_what_it_is(
    name: str, data: bytes, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=f"{tmp_path}/{name}: {said}"):
        read_header(tmp_path / name)


def test_an_orientation_in_words_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tags = [(274, "s", 0, "upright", True)]
    tifffile.imwrite(path, COLOURS, photometric="rgb", extratags=tags)
    with pytest.raises(DataError, match=r"a\.tif: its EXIF orientation is 'upright'; expec"):
        read_header(path)


@pytest.mark.parametrize("value", [0, 9])
def test_an_orientation_without_a_meaning_counts_as_upright(value: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = value
    Image.fromarray(LABELS).save(tmp_path / "a.png", exif=exif)
    assert read_header(tmp_path / "a.png").orientation == 1
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), LABELS)


def save_pages(path: Path, *pages: np.ndarray) -> None:
    first, *others = map(Image.fromarray, pages)
    first.save(path, format="TIFF", save_all=True, append_images=others)


@pytest.mark.parametrize("count", [2, 3])
def test_a_mask_of_several_pages_is_refused_with_their_number(count: int, tmp_path: Path) -> None:
    message = f"a.tif: a TIFF of {count} pages; expected one: save the one"
    path = tmp_path / "a.tif"
    save_pages(path, *[LABELS] * count)
    with pytest.raises(DataError, match=message):
        read_mask(path)
    tifffile.imwrite(path, np.stack([LABELS] * count), photometric="minisblack")
    with pytest.raises(DataError, match=message):
        read_mask(path)
    save_pages(path, *[LABELS] * (count - 1), LABELS[:7])
    with pytest.raises(DataError, match=message):
        read_mask(path)


def test_an_image_of_pages_is_refused_unless_they_are_channels(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    save_pages(path, COLOURS, COLOURS)
    with pytest.raises(DataError, match=r"a\.tif: a TIFF of 2 pages; expected one"):
        read_image(path)
    tifffile.imwrite(path, np.stack([LABELS] * 2), photometric="minisblack")
    with pytest.raises(DataError, match=r"2 channels found, 3 expected, as the TIFF has pages"):
        read_image(path)
    assert read_image(path, channels=2).shape == (*LABELS.shape, 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_in_cmyk_is_read_as_a_jpeg_in_cmyk_is(dtype: type, tmp_path: Path) -> None:
    inks = Image.fromarray(COLOURS).convert("CMYK")
    expected = np.asarray(inks.convert("RGB"))
    inks.save(tmp_path / "pillow.tif")
    stored = np.asarray(inks).astype(dtype) * (257 if dtype == np.uint16 else 1)
    for planar in ("contig", "separate"):
        layout = stored if planar == "contig" else stored.transpose(2, 0, 1)
        tifffile.imwrite(
            tmp_path / f"{planar}.tif", layout, photometric="separated", planarconfig=planar
        )
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(read_image(path), expected)


def test_the_line_that_is_told_takes_a_page_out(tmp_path: Path) -> None:
    save_pages(tmp_path / "a.tif", COLOURS, LABELS)
    with pytest.raises(DataError) as error:
        read_mask(tmp_path / "a.tif")
    line = re.search(r"in Python by (.*), key being", str(error.value))[1]
    line = line.replace("one.tif", f"{tmp_path}/one.tif").replace("FILE", f"{tmp_path}/a.tif")
    exec(line.replace("key=0", "key=1"), {"tifffile": tifffile})
    np.testing.assert_array_equal(read_mask(tmp_path / "one.tif"), LABELS)
