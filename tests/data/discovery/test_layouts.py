"""Which files are images and masks, and how they pair, in folders as people have them."""

from pathlib import PurePosixPath

import pytest

from seg.data.discovery.known_data_sets import known_data_set
from seg.data.discovery.layouts import find_by_look, find_layout
from seg.data.files.templates import pictures
from tests.data.discovery.folders import NUMBERS, index_mask, picture, save, write


def layout_of(root):
    paths = [PurePosixPath(path.relative_to(root).as_posix()) for path in pictures(root)]
    return find_layout(paths) or find_by_look(root, paths)


@pytest.mark.parametrize(
    ("image", "mask", "templates"),
    [
        ("images/{}.jpg", "masks/{}.png", ("images", "masks")),
        ("img/{}.jpg", "gt/{}.png", ("img", "gt")),
        ("data/images/{}.jpg", "data/masks/{}.png", ("data/images", "data/masks")),
        ("{}.jpg", "{}.png", ("{stem}", "{stem}.png")),
        ("{}.jpg", "{}_mask.png", ("{stem}", "{stem}_mask")),
        ("{}_image.png", "{}_annotation.png", ("{stem}_image", "{stem}_annotation")),
        ("IMG_{}.jpg", "GT_{}.png", ("IMG_{stem}", "GT_{stem}")),
        ("{}.tif", "{}_lab.tif", ("{stem}", "{stem}_lab")),
        ("images/{}.jpg", "labels/{}_P.png", ("images", "labels/{stem}_P")),
        ("images/{}.jpg", "masks/{}.jpg.png", ("images", "masks")),
        ("{}/image.jpg", "{}/mask.png", ("{stem}/image", "{stem}/mask")),
        ("imagesTr/{}_0000.png", "labelsTr/{}.png", ("imagesTr/{stem}_0000", "labelsTr")),
        ("JPEGImages/{}.jpg", "SegmentationClass/{}.png", ("JPEGImages", "SegmentationClass")),
        ("a/{}.jpg", "b/{}.png", ("a", "b")),
        ("scenes/{}.jpg", "gt/{}.png", ("scenes", "gt")),
        ("images/{}.jpg", "masks/mask_{}.png", ("images", "masks/mask_{stem}")),
        ("segmentation/images/{}.jpg", "segmentation/masks/{}.png",
         ("segmentation/images", "segmentation/masks")),
    ],
)  # fmt: skip
def test_a_folder_without_splits_is_two_templates(tmp_path, image, mask, templates):
    write(tmp_path, image, mask, NUMBERS)
    found = layout_of(tmp_path)
    assert (found.images, found.masks) == templates
    assert len(found.pairs) == len(NUMBERS)
    assert not found.splits and not found.lonely_images and not found.lonely_masks


@pytest.mark.parametrize(
    ("image", "mask", "splits", "templates"),
    [
        ("images/{s}/{}.jpg", "masks/{s}/{}.png", "train val test",
         ("images/{split}", "masks/{split}")),
        ("{s}/images/{}.jpg", "{s}/masks/{}.png", "train valid",
         ("{split}/images", "{split}/masks")),
        ("{s}/{}.jpg", "{s}annot/{}.png", "train val", ("{split}", "{split}annot")),
        ("{s}/{}.jpg", "{s}_masks/{}_mask.gif", "train test",
         ("{split}", "{split}_masks/{stem}_mask")),
        ("images/{s}/{}.jpg", "annotations/{s}/{}.png", "training validation",
         ("images/{split}", "annotations/{split}")),
        ("{s}/{}_jpg.rf.0a1.jpg", "{s}/{}_jpg.rf.0a1_mask.png", "train valid test",
         ("{split}", "{split}/{stem}_mask")),
        ("images/{s}2017/{}.jpg", "annotations/stuff_{s}2017_pixelmaps/{}.png", "train val",
         ("images/{split}2017", "annotations/stuff_{split}2017_pixelmaps")),
    ],
)  # fmt: skip
def test_folders_of_splits_are_templates_with_split(tmp_path, image, mask, splits, templates):
    for number, split in enumerate(splits.split()):
        names = [f"{split}{number}_{name}" for name in NUMBERS[:3]]
        write(tmp_path, image.replace("{s}", split), mask.replace("{s}", split), names)
    found = layout_of(tmp_path)
    assert (found.images, found.masks) == templates
    assert found.splits == sorted(splits.split())
    assert len(found.pairs) == 3 * len(splits.split())


def test_of_cityscapes_the_ids_of_training_are_taken_and_the_others_told(tmp_path):
    for split in ("train", "val"):
        for kind in ("labelTrainIds", "labelIds", "instanceIds", "color"):
            write(tmp_path, f"leftImg8bit/{split}/ulm/ulm_{{}}_leftImg8bit.png",
                  f"gtFine/{split}/ulm/ulm_{{}}_gtFine_{kind}.png", NUMBERS[:2])  # fmt: skip
    found = layout_of(tmp_path)
    assert found.images == "leftImg8bit/{split}/{stem}_leftImg8bit"
    assert found.masks == "gtFine/{split}/{stem}_gtFine_labelTrainIds"
    assert "gtFine/{split}/{stem}_gtFine_labelIds" in found.others


def test_masks_of_classes_are_preferred_to_those_of_objects(tmp_path):
    for folder in ("SegmentationClass", "SegmentationObject"):
        write(tmp_path, "JPEGImages/{}.jpg", f"{folder}/{{}}.png", NUMBERS)
    found = layout_of(tmp_path)
    assert (found.masks, found.others) == ("SegmentationClass", ("SegmentationObject",))


def test_folders_below_those_of_patients_pair_by_lists(tmp_path):
    for patient in range(70):
        write(tmp_path, f"p{patient}/images/{{}}.png", f"p{patient}/masks/{{}}.png", NUMBERS[:2])
    found = layout_of(tmp_path)
    assert found.nested and len(found.pairs) == 140
    assert found.pairs["", "p7/001"].mask == PurePosixPath("p7/masks/001.png")


@pytest.mark.parametrize(
    ("image", "mask", "names", "classes"),
    [
        ("leftImg8bit/ulm/{}_leftImg8bit.png", "gtFine/ulm/{}_gtFine_labelTrainIds.png",
         ["ulm_1", "ulm_2"], {0: "road", 11: "person", 18: "bicycle"}),
        ("leftImg8bit/ulm/{}_leftImg8bit.png", "gtFine/ulm/{}_gtFine_labelIds.png",
         ["ulm_1", "ulm_2"], {7: "road", 24: "person", 33: "bicycle"}),
        ("JPEGImages/{}.jpg", "SegmentationClass/{}.png",
         ["2007_000032", "2011_003276"], {0: "background", 15: "person", 20: "tvmonitor"}),
        ("train/{}.png", "trainannot/{}.png",
         ["0001TP_006690", "0016E5_07959"], {0: "sky", 2: "pole", 10: "bicyclist"}),
        ("images/{}.jpg", "masks/{}.png", ["ulm_1", "2007_000032"], {}),
    ],
)  # fmt: skip
def test_the_classes_of_known_data_sets_are_told_by_their_layout(
    tmp_path, image, mask, names, classes
):
    write(tmp_path, image, mask, names)
    known = known_data_set(layout_of(tmp_path)).names
    assert {value: known[value] for value in classes} == classes
    assert bool(known) == bool(classes)


def test_of_channels_in_files_of_their_own_the_first_is_taken_and_the_others_told(tmp_path):
    for channel in ("0000", "0001"):
        write(tmp_path, f"imagesTr/case_{{}}_{channel}.png", "labelsTr/case_{}.png", NUMBERS)
    found = layout_of(tmp_path)
    assert (found.images, found.masks) == ("imagesTr/{stem}_0000", "labelsTr")
    assert found.others == ("imagesTr/{stem}_0001",)


def test_files_without_a_counterpart_are_told(tmp_path):
    write(tmp_path, "images/{}.jpg", "masks/{}.png", NUMBERS[:4])
    (tmp_path / "images/001.jpg").unlink()
    (tmp_path / "masks/003.png").unlink()
    found = layout_of(tmp_path)
    assert [*found.lonely_masks.values()] == [PurePosixPath("masks/001.png")]
    assert [*found.lonely_images.values()] == [PurePosixPath("images/003.jpg")]


def test_pictures_of_one_kind_have_no_layout(tmp_path):
    for number in range(3):
        save(tmp_path / f"{number}.png", picture(number, index_mask(number)))
    assert layout_of(tmp_path) is None
