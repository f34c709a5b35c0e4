"""Which image files are the same, and how much of them is read to know."""

import numpy as np
import pytest
from PIL import Image

from seg.audit import facts


@pytest.fixture
def images(tmp_path):
    """Bitmaps of one size: no compression gives them other lengths."""
    rng = np.random.default_rng(0)
    files = {"train": [], "val": []}
    for split, paths in files.items():
        for i in range(4):
            paths.append(tmp_path / f"{split}_{i}.bmp")
            pixels = rng.integers(0, 256, (100, 100, 3), np.uint8)
            Image.fromarray(pixels).save(paths[-1])
    return files


def test_bitmaps_that_differ_are_not_read_whole(images, monkeypatch):
    assert len({path.stat().st_size for paths in images.values() for path in paths}) == 1
    read = []
    monkeypatch.setattr(facts, "_all_bytes", lambda path: read.append(path))
    assert facts._duplicates(images) == []
    assert read == []


def test_a_copy_is_found_and_a_difference_between_the_bytes_compared_first_is_not_missed(images):
    copy, near = images["val"][0], images["val"][1]
    data = bytearray(images["train"][2].read_bytes())
    copy.write_bytes(data)
    data[len(data) // 4] ^= 1  # neither at the start nor in the middle nor at the end
    near.write_bytes(data)
    assert facts._some_bytes(near) == facts._some_bytes(copy)
    assert facts._duplicates(images) == [[str(images["train"][2]), str(copy)]]


def test_files_shorter_than_what_is_compared_first_are_compared(tmp_path):
    files = {split: [tmp_path / split] for split in ("train", "val")}
    for [path] in files.values():
        path.write_bytes(b"short")
    assert facts._duplicates(files) == [[str(tmp_path / "train"), str(tmp_path / "val")]]
