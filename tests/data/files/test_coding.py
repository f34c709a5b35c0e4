"""Files that decoders read without a word, though rows are missing or labels are changed."""

import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg.data.files.coding import refuse_missing_rows
from seg.data.files.decoding import read_image, read_mask
from seg.data.files.headers import DataError, read_header
from seg.data.files.predicted_images import find_images

MORE = [Image.new("RGB", (40, 64))]
LABELS = np.arange(64 * 40).reshape(64, 40) // 7 % 2
ADAM_7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip


def chunk(kind: bytes, body: bytes) -> bytes:
    check = zlib.crc32(kind + body).to_bytes(4, "big")
    return len(body).to_bytes(4, "big") + kind + body + check


def png(bits: int, colour_type: int, packed: bytes, interlaced: int = 0, size=(40, 64)) -> bytes:
    """A PNG of two colours whose chunks are all well-formed, whatever `packed` rows it has."""
    sides = b"".join(side.to_bytes(4, "big") for side in size)
    head = chunk(b"IHDR", sides + bytes([bits, colour_type, 0, 0, interlaced]))
    palette = chunk(b"PLTE", bytes([0, 0, 0, 200, 0, 0])) if colour_type == 3 else b""
    pixels = zlib.compress(packed)
    half = len(pixels) // 2  # in two chunks, as most programs write them
    body = chunk(b"IDAT", pixels[:half]) + chunk(b"IDAT", pixels[half:])
    return b"\x89PNG\r\n\x1a\n" + head + palette + body + chunk(b"IEND", b"")


def rows_of(labels: np.ndarray, bits: int) -> bytes:
    """Rows of a PNG without a filter."""
    spread = np.unpackbits(labels.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :]
    packed = np.packbits(spread.reshape(len(labels), -1), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in packed)


@pytest.mark.parametrize("colour_type", [0, 3], ids=["grey", "palette"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_png_that_ends_early_is_refused_and_a_whole_one_is_read(
    bits: int, colour_type: int, tmp_path: Path
) -> None:
    rows = rows_of(LABELS, bits)
    path = tmp_path / "mask.png"
    path.write_bytes(png(bits, colour_type, rows))
    assert (read_mask(path) == LABELS).all()
    for kept in (3, 63):
        path.write_bytes(png(bits, colour_type, rows[: len(rows) // 64 * kept]))
        with pytest.raises(DataError, match=r"mask.png: .*damaged"):
            read_mask(path)
        with pytest.raises(DataError, match=r"mask.png: .*damaged"):
            read_image(path)


@pytest.mark.parametrize("size", [(64, 40), (3, 2), (1, 1)])
def test_an_interlaced_png_is_read_and_refused_likewise(size, tmp_path: Path) -> None:
    labels = LABELS[: size[0], : size[1]]
    parts = [labels[top::down, left::across] for left, top, across, down in ADAM_7]
    rows = b"".join(rows_of(part, 1) for part in parts if part.size)
    path = tmp_path / "mask.png"
    path.write_bytes(png(1, 3, rows, 1, size[::-1]))
    assert (read_mask(path) == labels).all()
    path.write_bytes(png(1, 3, rows[:-1], 1, size[::-1]))
    with pytest.raises(DataError, match="its pixels end after"):
        read_mask(path)


def test_rows_are_counted_for_every_colour_type(tmp_path: Path) -> None:
    for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "I;16"):
        path = tmp_path / "image.png"
        Image.new(mode, (37, 5)).save(path)
        data = path.read_bytes()
        refuse_missing_rows(path, data, read_header(path, data))
        cut = png(data[24], data[25], bytes(5), size=(37, 5))
        with pytest.raises(DataError):
            refuse_missing_rows(path, cut, read_header(path, cut))


def saved(form: str, mode: str = "L", **options: object) -> bytes:
    stream = BytesIO()
    Image.fromarray(LABELS.astype(np.uint8)).convert(mode).save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "coding"),
    [
        ("mask.webp", saved("WEBP", "RGB"), "lossy WebP"),
        ("mask.webp", saved("WEBP", "RGBA", exif=b"Exif\0\0"), "lossy WebP"),
        ("mask.webp", saved("WEBP", "RGB", save_all=True, append_images=MORE), "lossy WebP"),
        ("mask.tif", saved("TIFF", compression="jpeg"), "JPEG within TIFF"),
        ("mask.png", saved("JPEG"), "JPEG"),
        ("mask.jp2", saved("JPEG2000", irreversible=True), "JPEG 2000"),
    ],
)  # fmt: skip
def test_masks_of_a_lossy_coding_are_refused_by_its_name(
    name: str, data: bytes, coding: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=f"{name}: {coding} changes the labels of a mask"):
        read_mask(tmp_path / name)


@pytest.mark.parametrize("animated", [False, True])
def test_masks_of_lossless_webp_are_read(animated: bool, tmp_path: Path) -> None:
    more = {"save_all": True, "append_images": [Image.new("RGB", (40, 64), "red")]}
    data = saved("WEBP", "RGB", lossless=True, **more if animated else {})
    (tmp_path / "mask.webp").write_bytes(data)
    assert (read_mask(tmp_path / "mask.webp")[..., 0] == LABELS).all()


def test_of_a_gif_the_first_picture_is_read(tmp_path: Path) -> None:
    first = Image.fromarray(LABELS.astype(np.uint8))
    first.putpalette([0, 0, 0, 200, 0, 0])
    more = [Image.new("P", (40, 64), 1)]
    first.save(tmp_path / "mask.gif", save_all=True, append_images=more)
    assert (read_mask(tmp_path / "mask.gif") == LABELS).all()
    colours = np.array([[0, 0, 0], [200, 0, 0]])[LABELS]
    assert (read_image(tmp_path / "mask.gif") == colours).all()


@pytest.mark.parametrize(
    "name", ["a.jfif", "a.jpe", "a.jp2", "a.ppm", "a.pgm", "a.pbm", "a.gif", "a.PNM"]
)
def test_pictures_of_other_endings_are_found_and_read_as_pillow_reads_them(
    name: str, tmp_path: Path
) -> None:
    forms = {".jfif": "JPEG", ".jpe": "JPEG", ".jp2": "JPEG2000", ".gif": "GIF"}
    mode = {".pbm": "1", ".pgm": "L"}.get(Path(name).suffix, "RGB")
    data = saved(forms.get(Path(name).suffix, "PPM"), mode)
    (tmp_path / name).write_bytes(data)
    assert [path.name for path in find_images(str(tmp_path)).pairs.images] == [name]
    with Image.open(BytesIO(data)) as picture:
        assert (read_image(tmp_path / name) == np.asarray(picture.convert("RGB"))).all()
