"""Sizes of images and crops that fit what the masks show."""

import numpy as np
import pytest

from seg.data.discovery.sizes import Thinnest, size_settings, thinnest
from seg.data.scan.components import find_regions
from seg.data.scan.table import Scan

NAMES = ["ground", "crack", "bolt"]
CRACK, FIELD = Thinnest("crack", 5.0), Thinnest("field", 900.0)


def scan(*masks):
    return Scan.of([find_regions(mask, len(NAMES)) for mask in masks], len(NAMES))


def lines(sizes, num_train=100, thin=None):
    return {setting.key: setting for setting in size_settings(sizes, num_train, thin)}


def test_an_area_is_as_wide_as_its_pixels_by_its_length():
    mask = np.zeros((100, 100), np.uint8)
    mask[10:14, 20:80] = 1  # 4 wide
    mask[40:60, 40:60] = 2
    assert thinnest(scan(mask), NAMES) == ("crack", 4.0)
    assert thinnest(scan(mask.T.copy()), NAMES) == ("crack", 4.0)


def test_specks_do_not_make_a_class_thin():
    mask = np.zeros((100, 100), np.uint8)
    mask[40:60, 40:60] = 2
    mask[0:30:3, 0:30:3] = 2  # a hundred of one pixel, beside one of four hundred
    assert thinnest(scan(mask), NAMES) == ("bolt", 20.0)


def test_nothing_is_thin_where_nothing_is():
    assert thinnest(scan(np.full((4, 4), 255, np.uint8)), NAMES) is None


@pytest.mark.parametrize("thin", [None, FIELD])
def test_large_images_of_wide_areas_are_resized(thin):
    found = lines([(6000, 8000)] * 3, thin=thin)
    assert found["resize"].value == [480, 640] and "crops_per_image" not in found
    assert "eval_batch_size" not in found


def test_large_images_of_thin_areas_are_cropped_and_an_epoch_has_many_crops():
    found = lines([(6000, 8000)] * 12, 12, CRACK)
    assert "resize" not in found and found["crop_size"].value == [512, 512]
    assert "areas of crack are 5 pixels wide, and would be 0.4" in found["crop_size"].reason
    assert found["crops_per_image"].value == 84  # 1,008 an epoch; 183 would cover an image
    assert found["batch_size"].value == 8 and found["eval_batch_size"].value == 1
    assert "17 GB" in found["eval_batch_size"].reason


@pytest.mark.parametrize(("num_train", "crops"), [(1, 183), (500, 2), (5000, None)])
def test_an_epoch_has_what_covers_an_image_or_a_thousand_crops(num_train, crops):
    found = lines([(6000, 8000)], num_train, CRACK).get("crops_per_image")
    assert (None if found is None else found.value) == crops


def test_one_large_image_fills_a_batch_with_its_crops():
    assert lines([(2000, 2000)], 1, CRACK)["batch_size"].value == 8


def test_areas_that_stay_wide_enough_are_resized():
    assert "resize" in lines([(960, 1280)], thin=Thinnest("crack", 6.1))
    assert "resize" not in lines([(960, 1280)], thin=Thinnest("crack", 5.9))
