"""Deep images that use a small part of their range are told with the line to write."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from seg.data.files.decoding import read_image
from seg.data.files.image_range import warn_of_little_range


def written(folder: Path, name: str, samples: np.ndarray) -> Path:
    path = folder / name
    if path.suffix == ".png":
        assert cv2.imwrite(str(path), samples)
    else:
        tifffile.imwrite(path, samples)
    return path


def said(paths: list[Path], caplog: pytest.LogCaptureFixture) -> str:
    with caplog.at_level(logging.WARNING):
        warn_of_little_range(paths)
    return caplog.text


@pytest.mark.parametrize(
    ("name", "samples", "line"),
    [
        ("a.png", np.array([[0, 8400], [12, 100]], np.uint16), "[0, 8400]"),
        ("a.tif", np.array([[300, 4095], [312, 400]], np.uint16), "[0, 4095]"),
        ("a.tif", np.array([[0, 255], [12, 100]], np.int16), "[0, 255]"),
        ("a.tif", np.array([[-50, 255], [12, 100]], np.int32), "[-50, 255]"),
    ],
)
def test_a_small_part_of_the_range_is_told_and_its_line_shows_the_image(
    name: str, samples: np.ndarray, line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, name, samples)
    assert f"write data.image_range: {line}" in said([path], caplog)
    low, high = map(int, line.strip("[]").split(","))
    shown = read_image(path, 1, [low, high])[..., 0]
    expected = np.rint((samples.astype(float) - low) / (high - low) * 255)
    np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize(
    "samples",
    [
        np.array([[0, 60000]], np.uint16),
        np.array([[0, 3]], np.uint8),
        np.array([[0.0, 0.1]], np.float32),
    ],
)
def test_other_images_are_not_spoken_of(
    samples: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert said([written(tmp_path, "a.tif", samples)], caplog) == ""


def test_the_range_is_that_of_all_that_are_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dark, bright = np.array([[0, 100]], np.uint16), np.array([[0, 50000]], np.uint16)
    paths = [written(tmp_path, f"{i}.png", bright if i == 3 else dark) for i in range(8)]
    assert said(paths, caplog) == ""
    assert "0 to 100 of 0 to 65535" in said(paths[:3], caplog)
    caplog.clear()
    assert said([], caplog) == ""
