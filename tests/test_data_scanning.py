import os

import numpy as np
import pytest
from PIL import Image

from seg.data import SegmentationDataModule
from seg.data.header import DataError
from seg.data.labels import Labels
from seg.data.remembering import cache_folder

NAMES = ["a", "b", "c"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Ten training and four validation pairs, and a cache of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("val", 4)):
        for part in ("images", "masks"):
            (tmp_path / "data" / part / split).mkdir(parents=True)
        for i in range(count):
            write(tmp_path / "data", split, i, rng.integers(0, 3, (9, 8)))
    return tmp_path / "data"


def write(root, split, i, mask):
    Image.fromarray(np.zeros((9, 8, 3), np.uint8)).save(root / f"images/{split}/{i}.png")
    Image.fromarray(mask.astype(np.uint8)).save(root / f"masks/{split}/{i}.png")


def scan(root, role="train", **options):
    return SegmentationDataModule(root=str(root), class_names=NAMES, **options).scan(role)


def reading(monkeypatch):
    """The masks that are read from now on."""
    read, original = [], Labels.read_values
    monkeypatch.setattr(
        Labels, "read_values", lambda self, path: (read.append(path), original(self, path))[1]
    )
    return read


def equal(first, second):
    pairs = zip(first.arrays().values(), second.arrays().values(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_a_second_scan_reads_only_what_changed(root, monkeypatch):
    first = scan(root)
    scan(root, "val")
    read = reading(monkeypatch)
    assert equal(scan(root), first)
    assert read == []
    write(root, "train", 3, np.full((9, 8), 2))
    changed = scan(root)
    assert [path.name for path in read] == ["3.png"]
    assert changed.pixels[3].tolist() == [0, 0, 72]
    assert not equal(changed, first)
    scan(root, "val")  # kept beside the other split
    assert len(read) == 1


def test_a_file_of_the_same_size_and_another_time_is_read_again(root, monkeypatch):
    scan(root)
    path = root / "masks/train/0.png"
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    read = reading(monkeypatch)
    scan(root)
    assert read == [path]


def test_other_labels_are_another_scan(root):
    plain = scan(root)
    mapped = scan(root, label_map={2: 255})
    assert plain.pixels[:, 2].sum() == mapped.ignored.sum() > 0
    assert mapped.pixels[:, 2].sum() == 0
    assert equal(scan(root), plain)


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_damaged_cache_is_told_and_replaced(root, damage, caplog, monkeypatch):
    first = scan(root)
    (file,) = cache_folder().iterdir()
    file.write_bytes(file.read_bytes()[:900] if damage is None else damage)
    assert equal(scan(root), first)
    assert f"{file}: cannot be read" in caplog.text
    read = reading(monkeypatch)
    assert equal(scan(root), first)
    assert read == []


def test_a_cache_that_cannot_be_written_is_told_and_does_not_matter(root, caplog, monkeypatch):
    first = scan(root)
    (root / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / "file"))
    assert equal(scan(root), first)
    assert "cannot be written" in caplog.text


def test_all_masks_with_unknown_labels_are_counted_in_one_message(root):
    for i in (2, 5):
        write(root, "train", i, np.full((9, 8), 7))
    with pytest.raises(
        DataError, match=r"2 problems with the data files:\n.*2.png: label 7"
    ) as error:
        scan(root)
    assert "5.png: label 7 (72 pixels)" in str(error.value)
    write(root, "train", 2, np.zeros((9, 8)))
    write(root, "train", 5, np.zeros((9, 8)))
    assert scan(root).pixels[2].tolist() == [72, 0, 0]
