"""`seg split` on real files: what it writes is what the data module reads."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from seg.data import SegmentationDataModule
from tests.cli.test_app import seg
from tests.conftest import SMALL

NAMES = ["ground", "plate", "crack"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Twenty images of five videos; the rarest class is in one of each video's four."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for i in range(20):
        mask = np.zeros((16, 16), np.uint8)
        mask[:4, : 1 + i % 3] = 1
        if i % 4 == 0:
            mask[8, 8] = 2
        name = f"video{i // 4}_{i:02}"
        Image.fromarray(np.full((16, 16, 3), i, np.uint8)).save(tmp_path / f"images/{name}.png")
        Image.fromarray(mask).save(tmp_path / f"masks/{name}.png")
    return tmp_path


def given(root, *more):
    names = f"--data.class_names=[{', '.join(NAMES)}]"
    folders = ["--data.images=images", "--data.masks=masks"]
    return ["--data.root", root, names, *folders, "--output", root / "lists", *more]


def lists(root):
    files = sorted((root / "lists").glob("*.txt"))
    return {p.stem: [x for x in p.read_text().splitlines() if x[0] != "#"] for p in files}


def test_every_image_is_in_one_list_and_every_list_shows_every_class(root, capsys):
    assert seg("split", *given(root)) == 0
    found = lists(root)
    assert set(found) == {"train", "val", "test"}
    everything = sorted(name for names in found.values() for name in names)
    assert everything == sorted(p.stem for p in (root / "images").iterdir())
    for names in found.values():
        assert any(int(name[-2:]) % 4 == 0 for name in names)
    assert "plate" in capsys.readouterr().out


@pytest.mark.slow
def test_the_lists_are_read_as_the_command_says(root, capsys):
    assert seg("split", *given(root)) == 0
    use = re.search(r"Use them with: (.*)", capsys.readouterr().out)[1].split()
    fit = given(root)[:-2]
    steps = ["--data.batch_size=2", "--trainer.default_root_dir", root / "out"]
    fractions = "--data.split_fractions={train: 0.5, val: 0.5}"  # as a YAML may have
    assert seg("fit", *fit, fractions, *use, *SMALL, *steps) == 0
    files = {"split_files": str(root / "lists/{split}.txt")}
    folders = {"images": "images", "masks": "masks"}
    data = SegmentationDataModule(root=str(root), class_names=NAMES, **folders, **files)
    assert list(data.dataset("val").pairs.names) == lists(root)["val"]


def test_a_video_stays_together(root):
    halves = ["--fractions", "{train: 0.6, val: 0.4}"]
    assert seg("split", *given(root, "--group", r"^(video\d+)_", *halves)) == 0
    videos = [{name.split("_")[0] for name in names} for names in lists(root).values()]
    assert [len(v) for v in videos] == [3, 2]
    assert not videos[0] & videos[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--min_images", "2"], "crack is in 5 images of 5 groups, too few for 2 in each of 3"),
        (["--group", "scene"], "'scene' is not found in 'video0_00'"),
        (["--group", "("], "no regular expression"),
        (["--fractions", "{train: 0.5, val: 0.4}"], "sum to 1"),
        (["--data.images", "images/{split}"], "a list cannot move an image"),
    ],
)
def test_what_cannot_be_done_is_refused_and_writes_nothing(root, options, message, capsys):
    assert seg("split", *given(root, *options)) == 2
    assert message in capsys.readouterr().err
    assert not (root / "lists").exists()


def test_without_files_there_is_nothing_to_divide(capsys):
    assert seg("split") == 2
    assert "give --data.root" in capsys.readouterr().err


def test_a_mask_that_cannot_be_read_is_named(root, capsys):
    Image.fromarray(np.full((16, 16), 99, np.uint8)).save(root / "masks/video0_00.png")
    assert seg("split", *given(root)) == 2
    assert "video0_00.png" in capsys.readouterr().err


def test_the_videos_of_camvid_are_kept_apart(shared_data, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = shared_data / "CamVid"
    for part, kept in (("images", ""), ("masks", "annot")):
        for split in ("train", "val"):
            shutil.copytree(source / f"{split}{kept}", tmp_path / part, dirs_exist_ok=True)
    colors = "--data.label_map={11: 255}"
    names = [str(i) for i in range(11)]
    options = ["--data.root", tmp_path, f"--data.class_names={json.dumps(names)}", colors]
    folders = ["--data.images=images", "--data.masks=masks", "--output", tmp_path / "lists"]
    video = ["--group", r"^(0001TP|0006R0|0016E5)", "--fractions", "{train: 0.7, val: 0.3}"]
    assert seg("split", *options, *folders, *video) == 0
    found = lists(tmp_path)
    videos = {split: {name[:6] for name in listed} for split, listed in found.items()}
    assert not videos["train"] & videos["val"]
    assert len(found["train"]) + len(found["val"]) == 468
