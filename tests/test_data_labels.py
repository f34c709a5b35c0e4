"""Raw values and colours become class ids through one table, and strangers are named."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from seg.constants import IGNORE_INDEX
from seg.data.header import DataError
from seg.data.labels import Labels

COLOURS = [[0, 0, 0], [255, 0, 0], [0, 0, 255]]


def save(path: Path, values: object, dtype: type = np.uint8) -> Path:
    cv2.imwrite(str(path), np.asarray(values, dtype))
    return path


def save_rgb(path: Path, values: object) -> Path:
    Image.fromarray(np.asarray(values, np.uint8)).save(path)
    return path


def test_class_ids_and_the_ignore_index_pass_unmapped(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", [[0, 1, 2, 255]])
    found = Labels(3).read(path)
    np.testing.assert_array_equal(found, [[0, 1, 2, IGNORE_INDEX]])
    assert found.dtype == np.uint8


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_label_map_is_applied_once_not_repeatedly(tmp_path: Path, dtype: type) -> None:
    path = save(tmp_path / "mask.png", [[0, 1, 2, 11]], dtype)
    found = Labels(3, {0: 1, 1: 2, 2: 0, 11: 255}).read(path)
    np.testing.assert_array_equal(found, [[1, 2, 0, IGNORE_INDEX]])


def test_binary_masks_of_0_and_255_map_to_two_classes(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", [[0, 255]])
    np.testing.assert_array_equal(Labels(2, {0: 0, 255: 1}).read(path), [[0, 1]])


def test_sixteen_bit_values_map_without_wrapping(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", [[300, 65535, 1]], np.uint16)
    found = Labels(2, {300: 0, 65535: 255}).read(path)
    np.testing.assert_array_equal(found, [[0, IGNORE_INDEX, 1]])


def test_all_254_classes_pass(tmp_path: Path) -> None:
    ids = np.arange(254, dtype=np.uint8)[None]
    path = save(tmp_path / "mask.png", ids)
    np.testing.assert_array_equal(Labels(254).read(path), ids)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_unknown_label_is_named_with_file_count_and_remedy(tmp_path: Path, dtype: type) -> None:
    path = save(tmp_path / "mask.png", [[0, 7, 7, 254]], dtype)
    with pytest.raises(
        DataError,
        match=r"mask.png: label 7 \(2 pixels\) and 1 other values is in neither label_map nor "
        r"class ids 0..2; add it to data.label_map \(map it to 255 to ignore it\)",
    ):
        Labels(3).read(path)


@pytest.mark.parametrize("value", [-1, 65536, 0.5])
def test_values_that_are_no_labels_are_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, np.array([[0, value]], np.float32 if value == 0.5 else np.int32))
    with pytest.raises(DataError, match=rf"mask.tif: label {value} is no whole number"):
        Labels(3).read(path)


def test_signed_and_float_files_of_whole_numbers_are_read(tmp_path: Path) -> None:
    for dtype in (np.int32, np.float32):
        path = tmp_path / "mask.tif"
        tifffile.imwrite(path, np.array([[0, 2, 255]], dtype))
        np.testing.assert_array_equal(Labels(3).read(path), [[0, 2, IGNORE_INDEX]])


def test_colours_become_class_ids_in_their_order(tmp_path: Path) -> None:
    picture = [[COLOURS[2], COLOURS[0]], [COLOURS[1], [9, 9, 9]]]
    path = save_rgb(tmp_path / "mask.png", picture)
    found = Labels(3, class_colors=COLOURS, ignore_colors=[[9, 9, 9]]).read(path)
    np.testing.assert_array_equal(found, [[2, 0], [1, IGNORE_INDEX]])


def test_colours_are_matched_like_a_slow_search(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    colours = np.unique(rng.integers(0, 256, (60, 3)), axis=0)
    ids = rng.integers(0, len(colours), (30, 40))
    path = save_rgb(tmp_path / "mask.png", colours[ids])
    found = Labels(len(colours), class_colors=colours.tolist()).read(path)
    np.testing.assert_array_equal(found, ids)


def test_a_label_map_leaves_decoded_colours_alone(tmp_path: Path) -> None:
    path = save_rgb(tmp_path / "mask.png", [[COLOURS[0], COLOURS[1]]])
    labels = Labels(3, {0: 2, 255: 1}, COLOURS)
    np.testing.assert_array_equal(labels.read(path), [[0, 1]])


def test_an_unknown_colour_is_named_with_file_count_and_remedy(tmp_path: Path) -> None:
    path = save_rgb(tmp_path / "mask.png", [[COLOURS[0], [1, 2, 3], [1, 2, 3], [255, 255, 255]]])
    with pytest.raises(
        DataError,
        match=r"mask.png: colour \[1, 2, 3\] \(2 pixels; 2 unknown colours\) is in neither "
        r"data.class_colors nor data.ignore_colors",
    ):
        Labels(3, class_colors=COLOURS).read(path)


def test_index_masks_are_read_by_index_though_colours_are_given(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", [[0, 1, 2]])
    np.testing.assert_array_equal(Labels(3, class_colors=COLOURS).read(path), [[0, 1, 2]])


def test_indices_saved_as_grey_rgb_are_read_and_true_colours_refused(tmp_path: Path) -> None:
    path = save_rgb(tmp_path / "mask.png", [[[0, 0, 0], [1, 1, 1]]])
    np.testing.assert_array_equal(Labels(2).read(path), [[0, 1]])
    save_rgb(path, [[[0, 0, 0], [1, 1, 2]]])
    with pytest.raises(DataError, match=r"mask.png: the mask holds RGB colours; set data.class_c"):
        Labels(2).read(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 255}, r"255 classes, but 1 to 254"),
        ({"num_classes": 0}, r"0 classes"),
        ({"num_classes": 2, "label_map": {70000: 0}}, r"value 70000 is outside 0..65535"),
        ({"num_classes": 2, "label_map": {3: 2}}, r"3 maps to 2, which is neither"),
        ({"num_classes": 2, "class_colors": COLOURS}, r"3 colours for 2 classes"),
        ({"num_classes": 1, "class_colors": [[0, 0, 256]]}, r"\[0, 0, 256\] is not three"),
        ({"num_classes": 2, "class_colors": [[0, 0, 0]] * 2}, r"\[0, 0, 0\] is given twice"),
        (
            {"num_classes": 1, "class_colors": [[0, 0, 0]], "ignore_colors": [[0, 0, 0]]},
            r"\[0, 0, 0\] is given twice",
        ),
    ],
)
def test_impossible_settings_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Labels(**arguments)
