"""Splits by folders, lists of names, paths and pairs, and numbers."""

from pathlib import PurePosixPath

import numpy as np
import pytest

from seg.data.discovery.division import divide
from seg.data.discovery.layouts import find_layout
from seg.data.discovery.splits import Splits, find_splits
from seg.data.files.templates import pictures
from tests.data.discovery.folders import NUMBERS, write


def splits_of(root):
    paths = [PurePosixPath(path.relative_to(root).as_posix()) for path in pictures(root)]
    others = [PurePosixPath(path.relative_to(root).as_posix()) for path in sorted(root.rglob("*"))]
    others = [path for path in others if path not in paths and (root / path).is_file()]
    return find_splits(root, find_layout(paths), others)


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "images/{}.jpg", "masks/{}.png", NUMBERS)
    return tmp_path


def names(splits):
    return {role: [name for _, name in keys] for role, keys in splits.keys.items()}


@pytest.mark.parametrize(
    "line",
    ["{}", "{}.jpg", "images/{}.jpg", "/home/me/images/{}.jpg", "images/{}.jpg masks/{}.png",
     "images/{}.jpg,masks/{}.png"],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_lists_of_names_paths_and_pairs_are_read(root, line, ending):
    for split, listed in (("train", NUMBERS[:6]), ("val", NUMBERS[6:])):
        text = "".join(line.format(name, name) + ending for name in listed)
        (root / f"{split}.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    found = splits_of(root)
    assert names(found) == {"train": NUMBERS[:6], "val": NUMBERS[6:]}
    assert found.settings[0].value == "{split}.txt" and not found.need_lists


def test_lists_whose_lines_are_no_images_are_none(root):
    (root / "train.txt").write_text("the model was trained for ten epochs\n" * 5)
    assert splits_of(root).keys == {}


def test_lines_of_a_list_without_a_pair_are_told(root):
    (root / "train.txt").write_text("\n".join([*NUMBERS, "011"]))
    assert splits_of(root).faults == (
        f"{root}/train.txt: 1 of its lines name no image with a mask",
    )


def test_an_image_of_two_lists_is_left_out_of_training(root):
    (root / "train.txt").write_text("\n".join(NUMBERS[:6]))
    (root / "val.txt").write_text("\n".join(NUMBERS[5:]))
    found = splits_of(root)
    assert names(found) == {"train": NUMBERS[:5], "val": NUMBERS[5:]}
    assert found.need_lists and "006" in found.remarks[0]


@pytest.mark.parametrize(
    "text", ['{"train": ["001", "002.jpg"], "val": [3]}', '{"train": [1, 2], "val": ["003"]}']
)
def test_a_mapping_lists_names_or_numbers(root, text):
    (root / "split.json").write_text(text)
    assert names(splits_of(root)) == {"train": ["001", "002"], "val": ["003"]}


@pytest.mark.parametrize("number", range(2, 9))
def test_a_few_images_leave_no_split_empty(tmp_path, number):
    write(tmp_path, "images/{}.jpg", "masks/{}.png", NUMBERS[:number])
    paths = [PurePosixPath(path.relative_to(tmp_path).as_posix()) for path in pictures(tmp_path)]
    shown = np.ones((number, 3), np.int64)
    found = divide(find_layout(paths), Splits("no split"), shown).keys
    assert all(found.values()) and {"train", "val"} <= {*found}
    assert sorted(name for keys in found.values() for _, name in keys) == NUMBERS[:number]
