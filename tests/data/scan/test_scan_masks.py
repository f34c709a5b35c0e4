import os

import numpy as np
import pytest
from PIL import Image

from seg.data import SegmentationDataModule
from seg.data.files.headers import DataError
from seg.data.files.labels import Labels
from seg.data.scan.cache import cache_folder

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
    write(root, "train", 6, np.full((9, 8), 9))
    with pytest.raises(DataError) as error:
        scan(root)
    masks = root / "masks/train"
    lines = str(error.value).splitlines()
    assert lines[0] == "3 masks hold labels that have no class:"
    assert lines[1] == f"  - label 7: 2 masks, such as {masks}/2.png, {masks}/5.png"
    assert lines[2] == f"  - label 9: 1 mask, such as {masks}/6.png"
    assert lines[3].startswith("Each is in neither label_map nor class ids 0..2; add it to data.l")
    write(root, "train", 2, np.zeros((9, 8)))
    write(root, "train", 5, np.zeros((9, 8)))
    write(root, "train", 6, np.zeros((9, 8)))
    assert scan(root).pixels[2].tolist() == [72, 0, 0]


RED_GREEN = [[0, 0, 0], [255, 0, 0], [0, 255, 0]]


def recolour(root, split, i, palette):
    """The same indices, with a palette."""
    path = root / f"masks/{split}/{i}.png"
    image = Image.open(path)
    image.putpalette(np.array(palette, np.uint8).tobytes())
    image.save(path)


def test_palettes_that_differ_are_told_once_also_of_remembered_masks(root, caplog):
    for i in range(10):
        recolour(root, "train", i, RED_GREEN)
    scan(root)
    assert caplog.text == ""
    recolour(root, "train", 7, [RED_GREEN[i] for i in (0, 2, 1)])
    for _ in range(2):
        data = SegmentationDataModule(root=str(root), class_names=NAMES)
        data.scan("train")
        data.class_counts()
        (record,) = caplog.records
        text = record.getMessage()
        assert "index 1 is [0, 255, 0] in" in text or "index 1 is [255, 0, 0] in" in text
        assert "masks/train/7.png" in text
        assert "masks/train/0.png" in text
        assert "set data.class_colors" in text
        caplog.clear()
    scan(root, class_colors=RED_GREEN)
    assert caplog.text == ""


def test_palettes_that_differ_in_what_is_not_counted_are_alike(root, caplog):
    for i, unused in enumerate([[9, 9, 9], [8, 8, 8]]):
        write(root, "train", i, np.where(np.eye(9, 8), 1, 255))
        palette = np.zeros((256, 3))
        palette[[1, 2, 255]] = [[255, 0, 0], unused, unused]
        recolour(root, "train", i, palette)
    scan(root)
    assert caplog.text == ""


def test_colours_make_one_data_set_of_masks_with_different_palettes(root):
    plain = scan(root)
    for i in range(10):
        path, order = root / f"masks/train/{i}.png", np.roll([0, 1, 2], i)
        write(root, "train", i, np.argsort(order)[np.asarray(Image.open(path))])
        recolour(root, "train", i, [RED_GREEN[k] for k in order])
    assert equal(scan(root, class_colors=RED_GREEN), plain)


def test_a_scan_of_an_older_version_is_not_used(root, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr("seg.data.scan.cache._FORMAT", "1")
        scan(root)
    read = reading(monkeypatch)
    scan(root)
    assert len(read) == 10
