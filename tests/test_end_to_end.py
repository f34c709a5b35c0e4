"""Real processes: two ranks over gloo, a run that is killed, the quickstart script."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import LIGHT, SMALL, SYNTHETIC
from tests.processes import LIMIT, start, start_ranks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
CAMVID = ["-c", str(ROOT / "configs/data/camvid.yaml"), "--data.resize=[32,48]", *SMALL]
TWO_RANKS = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]


def seg(*args, cwd):
    """The command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "seg", *map(str, args)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=LIMIT
    )


def per_class(folder):
    return json.loads((folder / "per_class.json").read_text())


@pytest.fixture(scope="module")
def two_rank_run(camvid_like, tmp_path_factory):
    """A run of two ranks, its working folder and its result."""
    folder = tmp_path_factory.mktemp("two")
    given = ["--data.root", camvid_like, "--trainer.max_epochs=2", "--name", "two", *LIGHT]
    loss = ["-c", ROOT / "configs/loss/weighted_cross_entropy.yaml"]
    result = seg("fit", *CAMVID, *loss, *given, *TWO_RANKS, cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder, result


def test_two_ranks_train_one_run_and_count_every_image_once(two_rank_run):
    folder, result = two_rank_run
    assert [path.name for path in (folder / "runs" / "two").iterdir()] == ["version_0"]
    run = folder / "runs" / "two" / "version_0"
    assert per_class(run)["images"] == 5
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    # 8 images in steps of 4 over both ranks, for two epochs
    assert checkpoint["global_step"] == 4
    assert result.stdout.count("validation split, best epoch") == 1


def test_an_evaluation_has_the_same_figures_on_one_rank_and_on_two(two_rank_run):
    folder, _ = two_rank_run
    checkpoint = folder / "runs" / "two" / "version_0" / "checkpoints" / "last.ckpt"
    given = ["test", "--ckpt_path", checkpoint]
    one = [start(*given, "--output=one", cwd=folder)]
    for run in (one, start_ranks(2, *given, "--output=both", cwd=folder)):
        assert {rank.wait() for rank in run} == {0}, [rank.text for rank in run]
    assert per_class(folder / "one")["images"] == 3
    assert per_class(folder / "one") == per_class(folder / "both")


def test_a_run_ends_with_the_same_weights_on_one_rank_and_on_two_with_micro_batches(
    camvid_like, tmp_path
):
    network = [
        "--model.network=torch.nn.Conv2d",
        "--model.network.kernel_size=3",
        "--model.network.padding=same",
        "--model.network.in_channels=3",
        "--model.network.out_channels=11",
    ]
    given = [*CAMVID, "-c", ROOT / "configs/loss/cross_entropy_dice.yaml", *network]
    given += ["--data.root", camvid_like, "--trainer.max_epochs=2", "--trainer.precision=64-true"]
    weights = []
    one = [start("fit", *given, "--name=one", cwd=tmp_path)]
    micro = ["--name=two", "--model.micro_batch_size=1"]
    for name, run in (("one", one), ("two", start_ranks(2, "fit", *given, *micro, cwd=tmp_path))):
        assert {rank.wait() for rank in run} == {0}, [rank.text for rank in run]
        last = tmp_path / "runs" / name / "version_0" / "checkpoints" / "last.ckpt"
        checkpoint = torch.load(last, weights_only=True)
        weights.append(checkpoint["state_dict"]["network.weight"])
        record = per_class(last.parents[1])
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-9, atol=1e-12)
    assert record == per_class(tmp_path / "runs" / "one" / "version_0")


def test_freezing_on_two_ranks_needs_a_strategy_that_allows_for_it(camvid_like, tmp_path):
    given = [*CAMVID, "--data.root", camvid_like, *LIGHT, "--model.freeze_encoder_epochs=1"]
    refused = start_ranks(2, "fit", *given, cwd=tmp_path)
    assert [rank.wait() for rank in refused] == [2, 2]
    allowed = "ddp_find_unused_parameters_true"
    assert f"set --trainer.strategy {allowed}" in refused[0].text
    more = ["--trainer.max_epochs=2", "--name=frozen"]
    ranks = start_ranks(2, "fit", *given, *more, cwd=tmp_path, strategy=allowed)
    assert [rank.wait() for rank in ranks] == [0, 0], [rank.text for rank in ranks]
    last = tmp_path / "runs" / "frozen" / "version_0" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 4


def test_a_truncated_image_ends_the_run_with_its_name_and_keeps_what_was_written(
    camvid_like, tmp_path
):
    root = tmp_path / "data"
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
            for path in (camvid_like / folder).iterdir():
                (root / folder / path.name).write_bytes(path.read_bytes())
    given = ["--data.root", root, "--name", "cut", *LIGHT]
    assert start("fit", *CAMVID, *given, cwd=tmp_path).wait() == 0
    run = tmp_path / "runs" / "cut" / "version_0"
    before = per_class(run)
    cut = root / "train" / "03.jpg"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    last = run / "checkpoints" / "last.ckpt"
    # in a loader's worker, as it is in use
    more = ["--trainer.max_epochs=2", "--data.num_workers=1"]
    resumed = start("fit", "--ckpt_path", last, *more, cwd=tmp_path)
    assert resumed.wait() == 2
    error = resumed.text.strip().splitlines()[-1]
    assert error.startswith("seg: error: ")
    assert "03.jpg" in error
    assert "Traceback" not in error
    assert per_class(run) == before
    assert torch.load(last, weights_only=True)["epoch"] == 0


@pytest.mark.skipif(
    not (ROOT / ".venv" / "seg-install").exists(),
    reason="scripts/install.sh has not installed .venv; the quickstart would do that first",
)
def test_the_quickstart_trains_both_recipes_and_prints_their_scores_side_by_side():
    runs = ROOT / "runs"
    before = set(runs.glob("quickstart_*/version_*"))
    small = [arg for arg in SYNTHETIC if "accelerator" not in arg]
    small.append("--trainer.check_val_every_n_epoch=1")
    command = [ROOT / "scripts" / "quickstart.sh", *small]
    result = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=LIMIT)
    made = sorted(set(runs.glob("quickstart_*/version_*")) - before)
    try:
        assert result.returncode == 0, result.stderr
        plain, recipe = made
        assert "Installing" not in result.stdout
        shown = result.stdout[result.stdout.index("IoU on the test split, 2 images") :]
        assert all(str(run.relative_to(ROOT)) in shown for run in made)
        scores = [per_class(plain / "test/best"), per_class(recipe / "test/best-calibrated")]
        background = [score["classes"][0] for score in scores]
        cells = next(line.split() for line in shown.splitlines() if "background" in line)
        assert cells[-2:] == [f"{row['iou']:.3f}" for row in background]
        assert "weight" in (recipe / "config.yaml").read_text()
        assert (recipe / "checkpoints/best-calibrated.ckpt").exists()
    finally:
        for folder in made:
            shutil.rmtree(folder)
