"""JPEGs that promise more than they hold are refused; what cameras write is read."""

import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg.data.files import jpeg
from seg.data.files.decoding import read_image
from seg.data.files.headers import DataError

SIZE = (72, 100)  # no multiple of a block's
END = b"\xff\xd9"
KINDS = {
    "sequential": {},
    "all colours": {"subsampling": 0},
    "restarts": {"restart_marker_blocks": 3},
    "progressive": {"progressive": True},
    "own tables": {"optimize": True, "quality": 60},
}


def picture(mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (9, 13, 3), np.uint8)).resize(SIZE[::-1], 3)
    noise = rng.normal(0, 8, (*SIZE, 3))
    return Image.fromarray((np.asarray(rough) + noise).clip(0, 255).astype(np.uint8)).convert(mode)


def jpeg_of(shown: Image.Image, **options: object) -> bytes:
    stream = BytesIO()
    shown.save(stream, "JPEG", **options)
    return stream.getvalue()


def taller(data: bytes, rows: int) -> bytes:
    """The same data under a header of more rows."""
    frame = re.search(rb"\xff[\xc0\xc2]", data)
    assert frame is not None
    place = frame.end() + 3
    height = int.from_bytes(data[place : place + 2], "big") + rows
    return data[:place] + height.to_bytes(2, "big") + data[place + 2 :]


def refused(data: bytes, folder: Path) -> bool:
    (folder / "a.jpg").write_bytes(data)
    try:
        read_image(folder / "a.jpg")
    except DataError as error:
        assert re.match(rf"{folder}/a\.jpg: .*replace it or leave it out\.$", str(error))
        return True
    return False


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_is_refused_with_and_without_an_end_and_a_whole_one_is_read(
    kind: str, mode: str, tmp_path: Path
) -> None:
    data = jpeg_of(picture(mode), **KINDS[kind])
    assert not refused(data, tmp_path)
    with Image.open(BytesIO(data)) as whole:
        expected = np.asarray(whole.convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), expected)
    first = data.index(b"\xff\xda") + 16
    cuts = [first + (len(data) - first) * part // 12 for part in range(12)]
    cuts += [found.start() for found in re.finditer(rb"\xff\xda", data)]  # between scans
    for cut in cuts:
        for end in (END, b""):
            assert refused(data[:cut] + end, tmp_path), f"{cut} of {len(data)} bytes"


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_of_more_rows_than_there_are_is_refused(kind: str, tmp_path: Path) -> None:
    data = jpeg_of(picture().crop((0, 0, 96, 64)), **KINDS[kind])
    for rows in (1, 8, 30, 1000):
        assert refused(taller(data, rows), tmp_path)


def test_pictures_that_end_in_mid_grey_are_read(tmp_path: Path) -> None:
    for mode in ("RGB", "L"):
        for options in KINDS.values():
            grey = picture(mode)
            grey.paste("#808080", (0, 40, *SIZE[::-1]))
            assert not refused(jpeg_of(grey, **options), tmp_path)


def test_what_cameras_put_around_the_picture_does_no_harm(tmp_path: Path) -> None:
    shown = picture()
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    thumbnail = jpeg_of(shown.resize((32, 24)))
    note = b"Exif\0\0" + exif.tobytes()[6:] + thumbnail
    for options in KINDS.values():
        data = jpeg_of(shown, exif=note, **options)
        assert not refused(data, tmp_path)
        for tail in (b"\0" * 9, b"SEFT" + bytes(range(256)), thumbnail, thumbnail + b"\0"):
            assert not refused(data + tail, tmp_path)
            half = len(data) // 2 + len(note) // 2
            assert refused(data[:half] + END + tail, tmp_path)


def test_the_first_picture_of_several_is_read(tmp_path: Path) -> None:
    """As of cameras with two lenses."""
    stream = BytesIO()
    picture().save(stream, "MPO", save_all=True, append_images=[picture().resize((50, 36))])
    assert not refused(stream.getvalue(), tmp_path)
    assert read_image(tmp_path / "a.jpg").shape == (*SIZE, 3)


def test_a_file_in_doubt_is_decoded_twice_only_the_first_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    decode = jpeg.Image.open
    monkeypatch.setattr(jpeg.Image, "open", lambda data: calls.append(1) or decode(data))
    data = jpeg_of(picture().rotate(3), progressive=True)
    seen = []
    for _ in range(2):
        assert not refused(data, tmp_path)
        seen.append(len(calls))
    # the header, the picture, the picture with surplus data; then the header alone
    assert seen == [3, 4]
