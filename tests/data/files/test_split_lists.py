"""Lists of a split's samples are read in the forms in which they are written."""

from pathlib import Path

import pytest

from seg.data.files.headers import DataError
from seg.data.files.pairing import check, find_pairs
from tests.data.files.test_pairing import FOLDERS, offenders, write, write_pairs

NAMES = ["000", "c d/e", "x"]
LISTS = {
    "stems": "000\nc d/e\n",
    "with a byte order mark": "\ufeff000\nc d/e\n",
    "with Windows' line ends": "000\r\nc d/e\r\n",
    "with backslashes": "000\nc d\\e.jpg\n",
    "paths below the root": "images/000.jpg\nimages/c d/e.jpg\n",
    "whole paths of another machine": "/data/set/images/000.jpg\n/data/set/images/c d/e.jpg\n",
    "pairs by tabs": "000.jpg\t000.png\nc d/e.jpg\tc d/e.png\n",
    "a CSV with headings": 'image,mask\n000.jpg,000.png\n"c d/e.jpg","masks/c d/e.png"\n',
    "a CSV of one column": "filename\n000\nc d/e\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_pairs(tmp_path, NAMES)
    return tmp_path


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS)
def test_a_list_is_read(text: str, root: Path) -> None:
    (root / "val.txt").write_bytes(text.encode())
    [pairs] = check([find_pairs(root, "val", **FOLDERS, split_files="{split}.txt")])
    assert pairs.names == ("000", "c d/e")
    assert [path.stem for path in pairs.masks] == ["000", "e"]


def test_a_list_in_utf_16_is_read(root: Path) -> None:
    (root / "val.txt").write_bytes("000\r\nx\r\n".encode("utf-16"))
    assert find_pairs(root, "val", **FOLDERS, split_files="{split}.txt").names == ("000", "x")


def test_a_second_column_decides_which_mask_an_image_has(root: Path) -> None:
    write(root / "masks/other.png")
    (root / "val.txt").write_text("images/000.jpg masks/other.png\nx.jpg x.png\n")
    [pairs] = check([find_pairs(root, "val", **FOLDERS, split_files="{split}.txt")])
    assert pairs.names == ("000", "x")
    assert [path.name for path in pairs.masks] == ["other.png", "x.png"]


def test_a_mask_that_is_listed_and_not_there_is_told(root: Path) -> None:
    (root / "val.txt").write_text("000,gone.png\n")
    lines = offenders(find_pairs(root, "val", **FOLDERS, split_files="{split}.txt"))
    assert f"no mask in {root}/masks (data.masks) is called 'gone.png'" in lines[1]


def test_lists_go_with_patterns_of_names(tmp_path: Path) -> None:
    for stem in "12":
        write(tmp_path / f"{stem}_image.png")
        write(tmp_path / f"{stem}_mask.png")
    (tmp_path / "val.txt").write_text("1_image.png\n2\n")
    patterns = {"images": "{stem}_image", "masks": "{stem}_mask"}
    [pairs] = check([find_pairs(tmp_path, "val", **patterns, split_files="{split}.txt")])
    assert pairs.names == ("1", "2")


def test_a_path_that_leaves_the_folder_is_refused_also_after_its_name(root: Path) -> None:
    (root / "val.txt").write_text("images/../secret")
    with pytest.raises(DataError, match="leaves the image folder"):
        find_pairs(root, "val", **FOLDERS, split_files="{split}.txt")
