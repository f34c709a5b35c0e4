"""Pairs are found by relative path, and everything wrong with them is told at once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg.data.files.headers import DataError
from seg.data.files.pairing import check, find_pairs

FOLDERS = {"images": "images", "masks": "masks"}
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def write(path: Path, size: tuple[int, int] = (4, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros(size, np.uint8)).save(path)
    return path


def write_pairs(root: Path, names: list[str], images: str = "images", masks: str = "masks") -> None:
    for name in names:
        write(root / images / f"{name}.jpg")
        write(root / masks / f"{name}.png")


def offenders(*splits: object) -> list[str]:
    with pytest.raises(DataError) as caught:
        check(list(splits))
    return str(caught.value).splitlines()


def test_pairs_match_by_relative_path_whatever_the_extension(tmp_path: Path) -> None:
    for name, suffix in (("b/1", ".PNG"), ("a/1", ".jpeg"), ("a/x.y", ".tif"), ("0", ".bmp")):
        write(tmp_path / "images/train" / f"{name}{suffix}", (5, 7))
        write(tmp_path / "masks/train" / f"{name}.png", (5, 7))
    [pairs] = check([find_pairs(tmp_path, "train")])
    assert pairs.names == ("0", "a/1", "a/x.y", "b/1")
    assert [p.name for p in pairs.images] == ["0.bmp", "1.jpeg", "x.y.tif", "1.PNG"]
    assert [m.name for m in pairs.masks] == ["0.png", "1.png", "x.y.png", "1.png"]
    assert [m.parent.name for m in pairs.masks] == ["train", "a", "a", "b"]
    assert pairs.sizes == ((5, 7),) * 4


def test_hidden_files_and_other_files_are_skipped(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a"], "images/train", "masks/train")
    write(tmp_path / "images/train/.hidden.png")
    write(tmp_path / "images/train/.thumbs/b.png")
    (tmp_path / "images/train/Thumbs.db").write_text("")
    assert check([find_pairs(tmp_path, "train")])[0].names == ("a",)


def test_masks_below_the_images_are_no_images(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a"], "train", "train/masks")
    [pairs] = check([find_pairs(tmp_path, "train", "{split}", "{split}/masks")])
    assert pairs.names == ("a",)


def test_templates_give_the_camvid_layout(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a"], "val", "valannot")
    pairs = find_pairs(tmp_path, "val", "{split}", "{split}annot")
    assert pairs.masks == (tmp_path / "valannot/a.png",)


def test_ten_offenders_are_listed_and_the_rest_are_counted(tmp_path: Path) -> None:
    for i in range(12):
        write(tmp_path / f"images/train/{i:02d}.png")
    (tmp_path / "masks/train").mkdir(parents=True)
    lines = offenders(find_pairs(tmp_path, "train"))
    assert lines[0] == "12 problems with the data files:"
    assert len(lines) == 12
    assert all(f"{i:02d}.png: no mask in " in line for i, line in enumerate(lines[1:11]))
    assert lines[11].strip() == "… and 2 more"


def test_every_kind_of_offender_is_told_at_once_over_the_splits(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["good", "broken"], "images/train", "masks/train")
    write(tmp_path / "images/train/alone.png")
    write(tmp_path / "masks/train/orphan.png")
    write(tmp_path / "images/train/big.png", (9, 9))
    write(tmp_path / "masks/train/big.png", (9, 8))
    write(tmp_path / "images/train/lossy.png")
    write(tmp_path / "masks/train/lossy.jpg")
    write(tmp_path / "images/train/good.png")
    (tmp_path / "masks/train/broken.png").write_bytes(b"no picture")
    text = "\n".join(offenders(find_pairs(tmp_path, "train"), find_pairs(tmp_path, "val")))
    images, masks = tmp_path / "images/train", tmp_path / "masks/train"
    assert "7 problems" in text
    assert f"{images}/alone.png: no mask in {masks}" in text
    assert f"{masks}/orphan.png: no image in {images}" in text
    assert f"{images}/big.png is 9 x 9 but {masks}/big.png is 9 x 8" in text
    assert f"{masks}/lossy.jpg: a mask must not be a JPEG" in text
    assert f"{images}/good.png and {images}/good.jpg have the same name" in text
    assert f"{masks}/broken.png: not a picture" in text
    assert f"split 'val': no such folders {tmp_path}/images/val and {tmp_path}/masks/val" in text


def test_sizes_are_compared_after_orientation(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((4, 6), np.uint8))
    exif = image.getexif()
    exif[274] = 6
    (tmp_path / "images/train").mkdir(parents=True)
    image.save(tmp_path / "images/train/a.jpg", exif=exif)
    write(tmp_path / "masks/train/a.png", (6, 4))
    assert check([find_pairs(tmp_path, "train")])[0].sizes == ((6, 4),)


@pytest.mark.parametrize("line", ["b", "b.jpg", "  b  "])
def test_split_files_list_stems_or_paths(tmp_path: Path, line: str) -> None:
    write_pairs(tmp_path, ["a", "b", "c/d"])
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/val.txt").write_text(f"# held out\nc/d\n\n{line}\n")
    pairs = find_pairs(tmp_path, "val", **FOLDERS, split_files="splits/{split}.txt")
    assert check([pairs])[0].names == ("c/d", "b")


def test_lines_that_name_nothing_or_one_image_twice_are_offenders(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a"])
    (tmp_path / "val.txt").write_text("a\na.jpg\nz\n")
    text = "\n".join(offenders(find_pairs(tmp_path, "val", **FOLDERS, split_files="{split}.txt")))
    folder = f"{tmp_path}/{FOLDERS['images']} (data.images)"
    assert f"{tmp_path}/val.txt: no image in {folder} is called 'z'" in text
    assert f"{tmp_path}/val.txt: 'a.jpg' is listed twice" in text


@pytest.mark.parametrize("line", ["../secret", "/etc/a", "a/../../b"])
def test_lines_that_leave_the_folder_are_refused(tmp_path: Path, line: str) -> None:
    write_pairs(tmp_path, ["a"])
    (tmp_path / "val.txt").write_text(line)
    with pytest.raises(DataError, match=r"val.txt: .* leaves the image folder"):
        find_pairs(tmp_path, "val", **FOLDERS, split_files="{split}.txt")


def test_missing_and_empty_split_files_are_told(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a"])
    with pytest.raises(DataError, match=r"val.txt: cannot be read"):
        find_pairs(tmp_path, "val", **FOLDERS, split_files="{split}.txt")
    (tmp_path / "val.txt").write_text("# nothing\n")
    lines = offenders(find_pairs(tmp_path, "val", **FOLDERS, split_files="{split}.txt"))
    assert "val.txt: lists no images" in lines[1]


def fractions(root: Path, seed: int = 0, shares: dict[str, float] = SHARES) -> dict[str, tuple]:
    return {
        split: find_pairs(root, split, **FOLDERS, split_fractions=shares, split_seed=seed).names
        for split in shares
    }


def test_fractions_divide_one_folder_into_disjoint_splits(tmp_path: Path) -> None:
    names = [f"{i:02d}" for i in range(25)]
    write_pairs(tmp_path, names)
    splits = fractions(tmp_path)
    # ends at 0.8, 0.9 and 1.0 of 25, rounded half to even: 20, 22 and 25
    assert [len(s) for s in splits.values()] == [20, 2, 3]
    assert sorted(name for split in splits.values() for name in split) == names
    assert splits == fractions(tmp_path)
    assert splits != fractions(tmp_path, seed=1)


def test_fractions_do_not_depend_on_the_order_files_were_written(tmp_path: Path) -> None:
    names = [f"{i:02d}" for i in range(20)]
    write_pairs(tmp_path / "a", names)
    write_pairs(tmp_path / "b", names[::-1])
    assert fractions(tmp_path / "a") == fractions(tmp_path / "b")


def test_fractions_below_one_leave_samples_out(tmp_path: Path) -> None:
    write_pairs(tmp_path, [f"{i}" for i in range(10)])
    splits = fractions(tmp_path, shares={"train": 0.3, "val": 0.2})
    assert [len(s) for s in splits.values()] == [3, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split_fractions": {"train": 0.8, "val": 0.3}, **FOLDERS}, "sum to at most 1"),
        ({"split_fractions": {"train": 1.0, "val": 0.0}, **FOLDERS}, "must be positive"),
        ({"split_fractions": {"val": 1.0}, **FOLDERS}, "'train' is not in data.split_fractions"),
        ({"split_fractions": SHARES}, "divides one folder"),
        ({"split_fractions": SHARES, "split_files": "{split}.txt"}, "exclude each other"),
        ({"images": "images", "masks": "masks"}, "Every split would be the same files"),
        ({"images": "{split}", "masks": "{split}"}, "are the same folder"),
        ({"split_files": "all.txt", **FOLDERS}, "Every split would be the same files"),
    ],
)
def test_templates_that_cannot_tell_splits_apart_are_refused(
    tmp_path: Path, options: dict, message: str
) -> None:
    write_pairs(tmp_path, ["a", "b"])
    with pytest.raises(DataError, match=message):
        find_pairs(tmp_path, "train", **options)
