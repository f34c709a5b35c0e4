"""Images and masks whose names differ are paired by what stands for {stem}."""

from pathlib import Path

import pytest

from seg.data.files.headers import DataError
from seg.data.files.pairing import check, find_pairs
from seg.data.files.predicted_images import find_images
from tests.data.files.test_pairing import offenders, write, write_pairs

ONE_FOLDER = {"split_fractions": {"train": 1.0}}
# of each layout: the files, the templates, and the names with image and mask
LAYOUTS = {
    "Cityscapes": (
        ["leftImg8bit/train/aachen/aachen_1_leftImg8bit.png"],
        ["gtFine/train/aachen/aachen_1_gtFine_labelIds.png",
         "gtFine/train/aachen/aachen_1_gtFine_color.png"],
        {"images": "leftImg8bit/{split}/{stem}_leftImg8bit",
         "masks": "gtFine/{split}/{stem}_gtFine_labelIds"},
        "aachen/aachen_1",
    ),
    "DRIVE": (
        ["training/images/21_training.tif"],
        ["training/1st_manual/21_manual1.png", "training/mask/21_training_mask.png"],
        {"images": "training/images/{stem}_training", "masks": "training/1st_manual/{stem}_manual1"}
        | ONE_FOLDER,
        "21",
    ),
    "one folder, two endings of the name": (
        ["001_image.png"], ["001_annotation.png"],
        {"images": "{stem}_image.png", "masks": "{stem}_annotation.png"} | ONE_FOLDER,
        "001",
    ),
    "one folder, the image's name in the mask's": (
        ["a/x.jpg"], ["a/x_mask.png"],
        {"images": "{stem}", "masks": "{stem}_mask"} | ONE_FOLDER,
        "a/x",
    ),
    "a beginning": (
        ["train/images/IMG_1.jpg"], ["train/ground-truth/GT_1.png"],
        {"images": "{split}/images/IMG_{stem}", "masks": "{split}/ground-truth/GT_{stem}"},
        "1",
    ),
    "a folder a sample": (
        ["case_1/image.png"], ["case_1/label.png", "case_1/overlay.png"],
        {"images": "{stem}/image", "masks": "{stem}/label"} | ONE_FOLDER,
        "case_1",
    ),
    "two files of one name apart by their extension": (
        ["1.jpg"], ["1.png"],
        {"images": "{stem}.jpg", "masks": "{stem}.png"} | ONE_FOLDER,
        "1",
    ),
    "the image's whole name": (
        ["images/train/photo.jpg"], ["masks/train/photo.jpg.png"], {}, "photo",
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_paired(layout: str, tmp_path: Path) -> None:
    images, masks, options, name = LAYOUTS[layout]
    for path in (*images, *masks):
        write(tmp_path / path)
    [pairs] = check([find_pairs(tmp_path, "train", **options)])
    assert pairs.names == (name,)
    assert pairs.images == (tmp_path / images[0],)
    assert pairs.masks == (tmp_path / masks[0],)


def test_names_that_do_not_match_are_told_with_what_to_write(tmp_path: Path) -> None:
    for name in ("1", "2"):
        write(tmp_path / f"images/train/{name}.jpg")
        write(tmp_path / f"masks/train/{name}_mask.png")
    lines = offenders(find_pairs(tmp_path, "train"))
    assert len(lines) == 2
    assert "images are called '1.jpg', masks '1_mask.png'" in lines[1]
    assert "{stem}" in lines[1]


def test_a_missing_mask_is_told_with_the_name_that_was_sought(tmp_path: Path) -> None:
    for path in ("1_image.png", "1_mask.png", "2_image.png"):
        write(tmp_path / path)
    found = find_pairs(tmp_path, "train", "{stem}_image", "{stem}_mask", None, {"train": 1.0})
    assert f"2_image.png: no mask in {tmp_path} is called 2_mask.*" in offenders(found)[1]


@pytest.mark.parametrize(
    ("missing", "message"),
    [("data", r"no such folder \(data.root\)"), ("data/images/val", "no such folder")],
)
def test_a_missing_folder_is_named(missing: str, message: str, tmp_path: Path) -> None:
    write_pairs(tmp_path / "data", ["a"], "images/val", "masks/val")
    (tmp_path / missing).rename(tmp_path / "moved")
    with pytest.raises(DataError, match=f"{tmp_path / missing}: {message}"):
        check([find_pairs(tmp_path / "data", "val")])


def test_stem_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more than once"):
        find_pairs(tmp_path, "train", "{split}/{stem}/{stem}")


def test_a_link_to_a_folder_above_adds_no_image(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a", "sub/b"], "images/train", "masks/train")
    (tmp_path / "images/train/latest").symlink_to(".")
    (tmp_path / "images/train/sub/up").symlink_to("../..")
    assert find_pairs(tmp_path, "train").names == ("a", "sub/b")
    assert find_images(str(tmp_path / "images/train")).pairs.names == ("a", "sub/b")


def test_a_link_to_a_folder_elsewhere_is_followed_once(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/c.png")
    for name in ("more", "again"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).symlink_to(tmp_path / "elsewhere")
    assert find_images(str(tmp_path / "in")).pairs.names == ("again/c",)
