"""Sizes, channels and range of images: what is proposed for them, and what is wrong with pairs."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from seg.data import SegmentationDataModule
from seg.data.discovery.images import survey_images
from tests.data.discovery.folders import index_mask, picture, save


def survey(folder, images, mask=None, num_train=100):
    """Of arrays, written as TIFFs, with masks of their size or one given."""
    paths, masks = [], []
    for number, array in enumerate(images):
        paths.append(folder / f"{number}.tif")
        planes = {"planarconfig": "contig"} if array.ndim == 3 else {}
        tifffile.imwrite(paths[-1], array, photometric="minisblack", **planes)
        masks.append(folder / f"{number}_mask.png")
        save(masks[-1], np.zeros(array.shape[:2], np.uint8) if mask is None else mask)
    return survey_images(paths, masks, num_train)


def lines(found):
    return {setting.key: setting.value for setting in found.settings}


def grey(height, width):
    return np.zeros((height, width), np.uint8)


@pytest.mark.parametrize(
    ("size", "resize", "crop"),
    [
        ((360, 480), None, [288, 384]),
        ((966, 1296), [480, 640], [384, 512]),
        ((1000, 500), [640, 320], [512, 256]),
        ((64, 64), None, [32, 32]),
        ((20, 30), None, [16, 24]),
    ],
)
def test_large_images_are_resized_and_crops_cover_two_thirds(tmp_path, size, resize, crop):
    found = lines(survey(tmp_path, [grey(*size)] * 2))
    assert (found.get("resize"), found["crop_size"]) == (resize, crop)


def test_images_of_several_shapes_are_not_resized_to_one(tmp_path):
    found = lines(survey(tmp_path, [grey(500, 1000), grey(1000, 500), grey(1200, 1100)]))
    assert "resize" not in found
    assert max(found["crop_size"]) <= 512 and found["eval_batch_size"] == 1


def test_a_batch_has_no_more_images_than_the_training_split(tmp_path):
    assert lines(survey(tmp_path, [grey(64, 64)], num_train=3))["batch_size"] == 3


@pytest.mark.parametrize(
    ("array", "key", "value"),
    [
        (np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8), "image_range", [0.0, 1.0]),
        (np.linspace(-5, 9, 64, dtype=np.float32).reshape(8, 8), "image_range", [-5.0, 9.0]),
        (np.linspace(100, 4000, 64).astype(np.uint16).reshape(8, 8), "image_range", [0, 4000]),
        (np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8), "image_range", None),
        (np.zeros((8, 8, 5), np.uint8), "in_channels", 5),
        (np.zeros((8, 8, 3), np.uint8), "in_channels", None),
    ],
    ids=["unit floats", "other floats", "12 of 16 bits", "16 bits", "5 channels", "RGB"],
)
def test_range_and_channels_are_told_where_the_defaults_do_not_fit(tmp_path, array, key, value):
    assert lines(survey(tmp_path, [array])).get(key) == value


def test_a_photograph_that_is_turned_by_its_tag_alone_is_told(tmp_path):
    image, mask = picture(1, index_mask(1)), index_mask(1)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(image).save(tmp_path / "a.jpg", exif=exif)
    save(tmp_path / "a.png", mask)
    (fault,) = survey_images([tmp_path / "a.jpg"], [tmp_path / "a.png"], 1).faults
    assert "a.jpg is 48 x 40 but" in fault and "EXIF orientation 6" in fault


def test_the_lines_are_options_of_the_data_module(tmp_path):
    found = lines(survey(tmp_path, [np.zeros((900, 1200, 4), np.uint16)]))
    data = SegmentationDataModule(root=str(tmp_path), class_names=["a", "b"], **found)
    assert data.in_channels == 4 and data.resize == [480, 640]
