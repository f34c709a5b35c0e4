"""Folders whose masks are annotations: which file is whose, and the classes that they name."""

from pathlib import PurePosixPath

import numpy as np
import pytest

from seg.data.discovery.annotated import find_annotated, told_of_coco
from seg.data.discovery.annotation_survey import survey_annotations
from seg.data.files.labels import Labels
from seg.data.files.templates import pictures
from tests.data.discovery import formats
from tests.data.discovery.folders import NUMBERS, index_mask
from tests.data.files.test_annotations import SQUARE, area, coco

pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")


def layout_of(root):
    below = [PurePosixPath(path.relative_to(root).as_posix()) for path in sorted(root.rglob("*"))]
    paths = [PurePosixPath(path.relative_to(root).as_posix()) for path in pictures(root)]
    return find_annotated(root, paths, [path for path in below if path not in paths])


def test_a_file_of_labelme_belongs_to_the_image_of_its_name(tmp_path):
    formats.labelme(tmp_path)
    found = layout_of(tmp_path)
    assert (found.images, found.masks) == ("{stem}", "{stem}.json")
    assert len(found.pairs) == len(found.annotations) == 10


def test_a_file_of_coco_belongs_to_the_folder_of_its_images(tmp_path):
    formats.coco(tmp_path)
    found = layout_of(tmp_path)
    assert found.images == "images/{split}2017"
    assert found.masks == "annotations/instances_{split}2017.json"
    assert found.splits == ["train", "val"] and len(found.pairs) == 8
    assert found.pairs["val", "001"].image == PurePosixPath("images/val2017/001.jpg")


def test_annotations_name_the_classes_and_those_without_any_are_left_out(tmp_path):
    formats.coco(tmp_path)
    files = sorted((tmp_path / "annotations").iterdir())
    found = survey_annotations(files, coco=True)
    assert found.class_names == ("background", "car", "cat")
    assert "brush" in found.remarks[0]


def test_pictures_without_annotations_have_no_such_layout(tmp_path):
    formats.nnunet(tmp_path)
    assert layout_of(tmp_path) is None


def test_annotations_of_no_category_or_no_image_are_faults(tmp_path):
    file = coco(tmp_path / "a.json", [area(SQUARE), area(SQUARE, 99), area(SQUARE, image=50)])
    found = survey_annotations([file], coco=True)
    assert found.class_names == ("background", "cat")
    assert len(found.faults) == 2
    assert "of images that are not in it, such as annotation 2 of image id 50" in found.faults[0]
    assert "annotation 1: category id 99 is none of [3, 7]" in found.faults[1]


def test_run_lengths_compressed_or_not_give_the_masks_that_they_were_made_of(tmp_path):
    formats.coco_runs(tmp_path)
    found = layout_of(tmp_path)
    labels = Labels(3, names=["background", "car", "crowd of people"])
    for number, pair in enumerate(found.pairs.values()):
        np.testing.assert_array_equal(labels.read(tmp_path / pair.mask), index_mask(number))
    assert len(found.pairs) == 10


def test_images_that_the_file_does_not_list_and_listed_ones_that_are_missing_are_told(tmp_path):
    formats.coco_runs(tmp_path)
    for name in NUMBERS[:4]:
        (tmp_path / f"images/{name}.jpg").rename(tmp_path / f"images/new{name}.jpg")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/x.jpg").write_bytes((tmp_path / "images/005.jpg").read_bytes())
    unlisted, missing = told_of_coco(tmp_path, layout_of(tmp_path))
    shown = ", ".join(f"{tmp_path}/images/new{name}.jpg" for name in NUMBERS[:3])
    assert unlisted == [f"4 images are not listed in annotations.json: such as {shown}"]
    listed = f"{tmp_path}/annotations.json: 4 images are listed that the folder lacks: such as "
    assert missing == [f"{listed}001.jpg, 002.jpg, 003.jpg"]


def test_a_file_that_lists_paths_of_another_machine_finds_images_by_their_names(tmp_path):
    formats.coco_runs(tmp_path)
    file = tmp_path / "annotations.json"
    file.write_text(file.read_text().replace('"0', '"/home/me/pictures/0'))
    found = layout_of(tmp_path)
    assert found.images == "images" and len(found.pairs) == 10 and not found.lonely_masks
