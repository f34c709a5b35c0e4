"""What a command reads, it never overwrites."""

import hashlib
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.cli.test_app import run_of, seg
from tests.conftest import SYNTHETIC, write_pairs


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    assert seg("fit", *SYNTHETIC, "--trainer.default_root_dir", folder) == 0
    return run_of(folder) / "checkpoints/last.ckpt"


@pytest.fixture
def images(tmp_path):
    """PNG images, one of them in a subfolder."""
    write_pairs(tmp_path / "jpeg", tmp_path / "masks", 3, (40, 56), range(3))
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for i, path in enumerate(sorted((tmp_path / "jpeg").iterdir())):
        Image.open(path).save((folder / "sub" if i == 2 else folder) / f"{path.stem}.png")
    return folder


def contents(folder):
    files = [p for p in folder.rglob("*") if p.is_file()]
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def predict(checkpoint, sources, output):
    given = ["--trainer.accelerator=cpu", "--data.num_workers=0"]
    output = [] if output is None else ["--output", output]
    return seg("predict", "--ckpt_path", checkpoint, *given, "--data.predict", sources, *output)


@pytest.mark.parametrize("spelling", ["same", "dots", "link", "list", "file"])
def test_predictions_never_take_the_place_of_their_images(checkpoint, images, spelling, capsys):
    before, link = contents(images), images.parent / "link"
    link.symlink_to(images)
    sources = {"list": f"[{images}/00.png,{images}/01.png]", "file": images / "00.png"}
    output = {"dots": images / "sub" / "..", "link": link}.get(spelling, images)
    assert predict(checkpoint, sources.get(spelling, images), output) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("seg: error")]
    assert "--output" in line
    assert contents(images) == before


@pytest.mark.parametrize("linked", [False, True])
def test_an_output_inside_the_images_is_left_out_of_them(checkpoint, images, linked):
    before, output = contents(images), images / "labels"
    if linked:
        (images.parent / "elsewhere").mkdir()
        output.symlink_to(images.parent / "elsewhere")
    for _ in range(2):
        assert predict(checkpoint, images, output) == 0
        written = output.resolve()
        found = sorted(str(path.relative_to(written)) for path in written.rglob("*.png"))
        assert found == ["00.png", "01.png", "sub/02.png"]
    kept = {p: h for p, h in contents(images).items() if output not in p.parents}
    assert kept == before


def test_the_default_output_inside_the_images_is_left_out_of_them(checkpoint, images):
    run = images / "run"
    shutil.copytree(checkpoint.parents[1], run)
    inside = run / "checkpoints/last.ckpt"
    for path in run.rglob("*.png"):
        path.unlink()
    for _ in range(2):
        assert predict(inside, images, None) == 0
        assert len(list((run / "predict").rglob("*.png"))) == 3


def test_a_file_that_is_no_prediction_is_never_overwritten(checkpoint, images, capsys):
    output = images.parent / "masks"  # truth, of the names that the predictions have
    before = contents(output)
    assert predict(checkpoint, images, output) == 2
    assert "was not written by seg predict" in capsys.readouterr().err
    assert contents(output) == before


def test_a_prediction_is_written_again(checkpoint, images):
    output = images.parent / "out"
    assert predict(checkpoint, images, output) == 0
    first = np.asarray(Image.open(output / "00.png"))
    assert predict(checkpoint, images, output) == 0
    assert (np.asarray(Image.open(output / "00.png")) == first).all()


@pytest.mark.parametrize("command", ["export", "calibrate"])
def test_a_checkpoint_that_is_read_is_not_overwritten(checkpoint, command, capsys):
    before = checkpoint.read_bytes()
    size = ["--size", "[64,64]"] if command == "export" else []
    assert seg(command, "--ckpt_path", checkpoint, *size, "--output", checkpoint) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert checkpoint.read_bytes() == before


def test_split_lists_that_are_in_use_are_not_overwritten(tmp_path, capsys):
    write_pairs(tmp_path / "images", tmp_path / "masks", 6, (40, 56), range(2))
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("00\n01\n")
    data = ["--data.root", tmp_path, "--data.images=images", "--data.masks=masks"]
    given = ["--data.class_names=[a,b]", "--data.split_files=lists/{split}.txt"]
    assert seg("split", *data, *given, "--output", lists) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert (lists / "train.txt").read_text() == "00\n01\n"
