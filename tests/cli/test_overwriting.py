"""What a command reads, it never overwrites."""

import hashlib
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.test_app import run_of, seg
from tests.conftest import LIGHT, SYNTHETIC, write_pairs
from tests.processes import start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    assert seg("fit", *SYNTHETIC, *LIGHT, "--trainer.default_root_dir", folder) == 0
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
    assert "was not written by this command" in capsys.readouterr().err
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


@pytest.mark.parametrize("command", ["export", "calibrate", "audit"])
def test_a_full_disk_is_told_in_one_line_and_nothing_half_written_is_left(
    checkpoint, command, tmp_path
):
    given = {
        "export": ["--size=[64,64]", "--output=out/a.pt2"],
        "calibrate": ["--output=out/a.ckpt"],
        "audit": ["--output=out"],
    }
    read = [] if command == "audit" else ["--ckpt_path", checkpoint]
    (tmp_path / "cache").write_text("")  # no folder, so that no scan is kept
    own = {"SEG_TEST_LARGEST_FILE": "2000", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    run = start(command, *read, *given[command], cwd=tmp_path, **own)
    assert run.wait() == 2, run.text
    assert re.search(r"^seg: error: out/.*: cannot be written: .*File too large", run.text, re.M)
    assert "Traceback" not in run.text
    assert [*(tmp_path / "out").iterdir()] == []


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


def test_images_in_the_output_folder_are_not_left_out_in_silence(checkpoint, images, capsys):
    assert predict(checkpoint, images, images / "sub") == 2
    assert (
        f"{images / 'sub/02.png'}: exists and was not written by this command"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("command", ["validate", "test"])
def test_previews_do_not_overwrite_the_data(checkpoint, tmp_path, capsys, command):
    names = torch.load(checkpoint, weights_only=True)["class_names"]
    write_pairs(tmp_path / "images", tmp_path / "previews", 2, (32, 40), range(len(names)))
    for path in [*(tmp_path / "images").iterdir(), *(tmp_path / "previews").iterdir()]:
        path.rename(path.with_name(f"0_{path.name}"))
    before = contents(tmp_path)
    data = ["--data.root", tmp_path, f"--data.class_names=[{', '.join(names)}]"]
    data += ["--data.images=images", "--data.masks=previews", "--data.num_workers=0"]
    data += ["--data.split_fractions={val: 0.5, test: 0.5}", "--trainer.accelerator=cpu"]
    data += ["--data.synthetic_length=128", "--data.synthetic_size=[128,128]"]  # the defaults
    assert seg(command, "--ckpt_path", checkpoint, *data, "--output", tmp_path) == 2
    assert "this input would be overwritten" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_calibration_is_not_taken_out_over_another_file(checkpoint, capsys):
    other = checkpoint.with_name("best.ckpt")
    before = other.read_bytes()
    given = ["calibrate", "--ckpt_path", checkpoint, "--remove"]
    assert seg(*given, "--output", other) == 2
    assert f"{other}: exists" in capsys.readouterr().err
    assert other.read_bytes() == before


def test_lists_of_splits_that_somebody_else_made_are_not_overwritten(tmp_path, capsys):
    write_pairs(tmp_path / "images", tmp_path / "masks", 12, (32, 40), range(2))
    (tmp_path / "val.txt").write_text("00\n01\n")
    given = ["--data.root", tmp_path, "--data.class_names=[a, b]", "--output", tmp_path]
    given += ["--data.images=images", "--data.masks=masks"]
    assert seg("split", *given) == 2
    assert f"{tmp_path / 'val.txt'}: exists" in capsys.readouterr().err
    assert (tmp_path / "val.txt").read_text() == "00\n01\n"
    assert not (tmp_path / "train.txt").exists()
    (tmp_path / "val.txt").unlink()
    for _ in range(2):
        assert seg("split", *given) == 0


def test_an_audit_does_not_overwrite_its_configuration(tmp_path, capsys):
    config = tmp_path / "recommended.yaml"
    config.write_text("data: {synthetic_length: 4}\n")
    assert seg("audit", "-c", config, "--output", tmp_path) == 2
    assert f"{config}: this input would be overwritten" in capsys.readouterr().err
    assert seg("audit", "--data.synthetic_length=4", "--output", tmp_path) == 2
    assert f"{config}: exists" in capsys.readouterr().err
    assert config.read_text() == "data: {synthetic_length: 4}\n"
    for _ in range(2):
        assert seg("audit", "-c", config, "--output", tmp_path / "audit") == 0


@pytest.mark.parametrize("command", ["export", "calibrate"])
def test_what_is_no_result_of_a_command_is_not_overwritten_by_it(
    checkpoint, images, tmp_path, capsys, command
):
    run = tmp_path / "run"
    shutil.copytree(checkpoint.parent, run)
    given = [command, "--ckpt_path", run / "last.ckpt"]
    given += ["--size", "[64,64]"] if command == "export" else []
    before = contents(tmp_path)
    for output in (run / "best.ckpt", images / "00.png", images):
        assert seg(*given, "--output", output) == 2
        assert f"{output}: exists and was not written" in capsys.readouterr().err
    assert contents(tmp_path) == before
    for _ in range(2):
        assert seg(*given) == 0


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_results_of_another_checkpoint_or_of_other_data_are_not_written_over(
    checkpoint, images, tmp_path, capsys, command
):
    output, best = tmp_path / "out", checkpoint.with_name("best.ckpt")
    common = [command, "--trainer.accelerator=cpu", "--data.num_workers=0", "--output", output]
    data = ["--data.predict", images] if command == "predict" else []
    for _ in range(2):
        assert seg(*common, *data, "--ckpt_path", checkpoint) == 0
    before = contents(output)
    others = ["--data.predict", images / "sub"] if command == "predict" else []
    others = others or ["--data.synthetic_length=12"]
    for given in ([*data, "--ckpt_path", best], [*others, "--ckpt_path", checkpoint]):
        capsys.readouterr()
        assert seg(*common, *given) == 2
        (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("seg: error")]
        assert line.startswith(f"seg: error: {output}: holds results of {checkpoint} on ")
        assert f"those of {given[-1]} on " in line and "--output" in line
    assert contents(output) == before


def test_the_results_of_a_training_are_not_written_over(checkpoint, capsys):
    run = checkpoint.parents[1]
    before = contents(run)
    assert seg("test", "--ckpt_path", checkpoint, "--output", run) == 2
    assert f"{run}: holds results of a training" in capsys.readouterr().err
    assert contents(run) == before
