"""Images to predict are found, and those that cannot be read are told and left out."""

from pathlib import Path

import pytest

from seg.data.files.headers import DataError
from seg.data.files.predicted_images import PredictedImages, find_images, with_sizes
from tests.data.files.test_pairing import write


def said(images: PredictedImages) -> str:
    with pytest.raises(DataError) as caught:
        with_sizes(images)
    return str(caught.value)


def test_images_to_predict_are_a_folder_a_file_or_a_list(tmp_path: Path) -> None:
    write(tmp_path / "in/a.png", (3, 5))
    write(tmp_path / "in/b/c.jpg")
    one = write(tmp_path / "one.png")
    assert find_images(str(tmp_path / "in")).pairs.names == ("a", "b/c")
    assert find_images(str(one)).pairs.names == ("one",)
    pairs = with_sizes(find_images([str(tmp_path / "in"), str(one)])).pairs
    assert pairs.names == ("a", "b/c", "one")
    assert pairs.sizes == ((3, 5), (4, 6), (4, 6))
    assert pairs.masks == ()


def test_predictions_that_would_overwrite_each_other_are_refused(tmp_path: Path) -> None:
    files = [str(write(tmp_path / f"{folder}/a.png")) for folder in "xy"]
    assert "same name as" in said(find_images(files))
    write(tmp_path / "x/a.jpg")
    assert "have the same name" in said(find_images(str(tmp_path / "x")))


def test_nothing_to_predict_is_told_with_what_there_is_instead(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: no such file or folder"):
        find_images(str(tmp_path / "none"))
    assert "no images found in" in said(find_images(str(tmp_path)))
    (tmp_path / "a.txt").touch()
    assert f"1 file is no image by name: {tmp_path / 'a.txt'}" in said(find_images(str(tmp_path)))


def test_images_whose_header_cannot_be_read_are_left_out_and_told(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / f"{name}.png", (3, 5))
    (tmp_path / "b.png").write_bytes(b"no picture")
    assert "b.png: not a picture" in said(find_images(str(tmp_path)))
    found = with_sizes(find_images(str(tmp_path)), all_needed=False)
    assert found.pairs.names == ("a", "c")
    assert found.pairs.images == (tmp_path / "a.png", tmp_path / "c.png")
    assert found.pairs.sizes == ((3, 5), (3, 5))
    (line,) = found.unreadable
    assert line.startswith(f"{tmp_path / 'b.png'}: not a picture")


def test_where_no_image_can_be_read_all_are_told(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").touch()
    with pytest.raises(DataError) as caught:
        with_sizes(find_images(str(tmp_path)), all_needed=False)
    message = str(caught.value)
    assert "2 problems" in message and "a.png" in message and "b.png" in message


def test_files_beside_the_images_are_told_and_images_of_an_unknown_kind_are_faults(
    tmp_path: Path,
) -> None:
    write(tmp_path / "a.png")
    others = ["._a.png", ".hidden.heic", "notes.txt", "photo.HEIC", "without"]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/index").touch()
    found = with_sizes(find_images(str(tmp_path)))
    assert sorted(path.name for path in found.others) == sorted(others)
    assert found.unreadable == (
        f"{tmp_path / 'photo.HEIC'}: image/heic is not read; save it as PNG",
    )
