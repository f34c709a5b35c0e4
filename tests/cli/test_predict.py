"""What `seg predict` does with images that cannot be read: it predicts the others."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.cli.test_app import run_of, seg
from tests.conftest import LIGHT, SYNTHETIC
from tests.processes import start_ranks

pytestmark = pytest.mark.slow

SIZE = (40, 56)
COMMON = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    given = [*SYNTHETIC, *LIGHT, "--trainer.max_steps=1"]
    assert seg("fit", *given, "--trainer.default_root_dir", folder) == 0
    return run_of(folder) / "checkpoints/last.ckpt"


@pytest.fixture
def images(tmp_path):
    """Nine images of one size: 3 has a damaged header, 5 and 7 only their pixels are damaged."""
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for i in range(9):
        picture = Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8))
        picture.save(folder / f"{i}.{'jpg' if i == 5 else 'png'}")
    for name, kept in (("3.png", 20), ("5.jpg", 1500), ("7.png", 1000)):
        (folder / name).write_bytes((folder / name).read_bytes()[:kept])
    return folder


def predict(checkpoint, images, output, *args):
    given = ["--ckpt_path", checkpoint, "--data.predict", images, "--output", output]
    return seg("predict", *COMMON, *given, *args)


def labels(folder):
    return {path.name: np.asarray(Image.open(path)) for path in folder.glob("*.png")}


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_images_are_named_and_all_others_are_predicted(
    workers, checkpoint, images, tmp_path, capsys
):
    loaders = [f"--data.num_workers={workers}", "--data.eval_batch_size=4"]
    assert predict(checkpoint, images, tmp_path / "out", *loaders) == 3
    said = capsys.readouterr().err
    assert "seg: error: 3 of 9 images are not predicted:" in said
    assert all(f"{images / name}: " in said for name in ("3.png", "5.jpg", "7.png"))
    found = labels(tmp_path / "out")
    assert sorted(found) == [f"{i}.png" for i in (0, 1, 2, 4, 6, 8)]
    for name in ("3.png", "5.jpg", "7.png"):
        (images / name).unlink()
    assert predict(checkpoint, images, tmp_path / "again", "--data.num_workers=0") == 0
    for name, expected in labels(tmp_path / "again").items():
        np.testing.assert_array_equal(found[name], expected)


def test_where_all_images_are_damaged_nothing_is_written(checkpoint, images, tmp_path, capsys):
    for i in (0, 1, 2, 3, 4, 6, 8):
        (images / f"{i}.png").unlink()
    assert predict(checkpoint, images, tmp_path / "out", "--data.num_workers=0") == 2
    said = capsys.readouterr()
    assert "2 of 2 images are not predicted" in said.err
    assert "Predictions written" not in said.out
    assert not (tmp_path / "out").exists()


def test_other_files_are_told_and_only_images_among_them_count(
    checkpoint, images, tmp_path, capsys, caplog
):
    for name in ("3.png", "5.jpg", "7.png"):
        (images / name).unlink()
    for name in ("notes.txt", ".hidden", "list.csv"):
        (images / name).write_text("1")
    assert predict(checkpoint, images, tmp_path / "out", "--data.num_workers=0") == 0
    assert "3 files are no images by name: " in caplog.text
    (images / "photo.heic").write_bytes(b"ftypheic")
    assert predict(checkpoint, images, tmp_path / "out", "--data.num_workers=0") == 3
    said = capsys.readouterr().err
    assert "1 of 7 images is not predicted: " in said and "photo.heic" in said
    assert sorted(labels(tmp_path / "out")) == [f"{i}.png" for i in (0, 1, 2, 4, 6, 8)]


def test_an_image_of_other_channels_does_not_keep_the_others_from_being_predicted(
    checkpoint, tmp_path, capsys
):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", SIZE[::-1]).save(folder / "a.png")
    tifffile.imwrite(folder / "b.tif", np.zeros((*SIZE, 5), np.uint8), planarconfig="contig")
    assert predict(checkpoint, folder, tmp_path / "out", "--data.num_workers=0") == 3
    assert f"{folder / 'b.tif'}: 5 channels found, 3 expected" in capsys.readouterr().err
    assert sorted(labels(tmp_path / "out")) == ["a.png"]


def test_two_ranks_tell_together_what_could_not_be_read(checkpoint, images, tmp_path):
    given = ["predict", "--ckpt_path", checkpoint, *COMMON, "--data.predict=images"]
    given += ["--output=out", "--data.eval_batch_size=1", "--data.num_workers=1"]
    ranks = start_ranks(2, *given, cwd=tmp_path)
    assert [rank.wait() for rank in ranks] == [3, 3], "".join(rank.text for rank in ranks)
    said = "".join(rank.text for rank in ranks)
    assert said.count("3 of 9 images are not predicted:") == 1
    assert all(f"images/{name}: " in said for name in ("3.png", "5.jpg", "7.png"))
    assert sorted(labels(tmp_path / "out")) == [f"{i}.png" for i in (0, 1, 2, 4, 6, 8)]
