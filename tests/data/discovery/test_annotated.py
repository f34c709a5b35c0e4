"""Folders whose masks are annotations: which file is whose, and the classes that they name."""

from pathlib import PurePosixPath

import pytest

from seg.data.discovery.annotated import find_annotated
from seg.data.discovery.annotation_survey import survey_annotations
from seg.data.files.templates import pictures
from tests.data.discovery import formats
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
