"""Runs that are killed, really, and resumed end bitwise as runs that never were."""

import re
from pathlib import Path

import pytest
import torch

from tests.moments import SIGNALLED, differences, outcome
from tests.processes import start, start_ranks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
# a checkpoint after every second step
STEPS = ROOT / "configs/trainer/checkpoint_steps.yaml"
RUN = [*SIGNALLED, "-c", STEPS, "--checkpoint.every_n_train_steps=2"]
OTHER = [
    "-c",
    ROOT / "configs/optimizer/onecycle.yaml",
    "--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging",
    "--trainer.callbacks.decay=0.9",
    "--trainer.max_steps=10",
    "--trainer.max_epochs=null",
    "--trainer.val_check_interval=0.5",
]
PLATEAU = [
    "--model.lr_scheduler=lightning.pytorch.cli.ReduceLROnPlateau",
    "--model.lr_scheduler.monitor=val/loss",
    "--model.lr_scheduler.patience=0",
    "--model.lr_scheduler.threshold=0.5",
    "--data.num_workers=1",
]
KINDS = {"epochs": [], "steps, one cycle, EMA, two validations": OTHER, "plateau": PLATEAU}
FOLDER = Path("runs/run/version_0")


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """The folders of runs that nothing stopped, by kind."""
    folders = {kind: tmp_path_factory.mktemp("whole") for kind in KINDS}
    runs = [start("fit", *RUN, *KINDS[kind], cwd=folder) for kind, folder in folders.items()]
    assert [run.wait() for run in runs] == [0] * len(runs), [run.text for run in runs]
    return {kind: folder / FOLDER for kind, folder in folders.items()}


@pytest.mark.parametrize(
    ("kind", "moment"),
    [
        ("epochs", "on_train_batch_start:3"),
        ("epochs", "on_validation_batch_end:4"),
        ("steps, one cycle, EMA, two validations", "on_train_batch_end:7"),
        ("steps, one cycle, EMA, two validations", "on_train_epoch_start:8"),
        ("plateau", "on_train_epoch_start:4"),
    ],
)
def test_a_run_killed_and_resumed_ends_as_one_never_stopped(kind, moment, wholes, tmp_path):
    killed = start("fit", *RUN, *KINDS[kind], cwd=tmp_path, SEG_TEST_MOMENT=f"{moment}:SIGKILL:0")
    assert killed.wait() == -9, killed.text
    last = FOLDER / "checkpoints" / "last.ckpt"
    resumed = start("fit", "--ckpt_path", last, "--trust", "tests", cwd=tmp_path)
    assert resumed.wait() == 0, resumed.text
    assert differences(outcome(wholes[kind]), outcome(tmp_path / FOLDER)) == []


@pytest.fixture(scope="module")
def whole_of_two(tmp_path_factory):
    """The folder of a run of two ranks that nothing stopped."""
    folder = tmp_path_factory.mktemp("ranks")
    ranks = start_ranks(2, "fit", *RUN, cwd=folder)
    assert [rank.wait() for rank in ranks] == [0, 0], [rank.text for rank in ranks]
    return folder / FOLDER


@pytest.mark.parametrize("killed", ["all", "1"])
def test_a_run_of_two_ranks_that_lost_one_or_both_ends_as_one_never_stopped(
    killed, whole_of_two, tmp_path
):
    moment = f"on_train_batch_start:5:SIGKILL:{killed}"
    ranks = start_ranks(2, "fit", *RUN, cwd=tmp_path, SEG_TEST_MOMENT=moment)
    statuses = [rank.wait() for rank in ranks]
    assert statuses[1] == -9, ranks[1].text
    assert statuses[0] not in (None, 0), ranks[0].text
    last = FOLDER / "checkpoints" / "last.ckpt"
    assert torch.load(tmp_path / last, weights_only=True)["global_step"] == 4
    resumed = start_ranks(2, "fit", "--ckpt_path", last, "--trust=[tests]", cwd=tmp_path)
    assert [rank.wait() for rank in resumed] == [0, 0], [rank.text for rank in resumed]
    assert differences(outcome(whole_of_two), outcome(tmp_path / FOLDER)) == []


def test_a_run_killed_before_its_first_checkpoint_says_that_there_is_none(tmp_path):
    killed = start("fit", *RUN, cwd=tmp_path, SEG_TEST_MOMENT="on_train_batch_start:1:SIGKILL:0")
    assert killed.wait() == -9, killed.text
    last = FOLDER / "checkpoints" / "last.ckpt"
    resumed = start("fit", "--ckpt_path", last, "--trust=[tests]", cwd=tmp_path)
    assert resumed.wait() == 2
    assert f"{last}: no such checkpoint" in resumed.text.splitlines()[-1]


def test_a_full_disk_ends_the_run_with_what_it_needs_and_without_a_part_of_a_file(tmp_path):
    run = start(
        "fit", *RUN, "--model.network.width=500", cwd=tmp_path, SEG_TEST_LARGEST_FILE="100000"
    )
    assert run.wait() == 2, run.text
    last = FOLDER / "checkpoints" / "last.ckpt"
    error = run.text.splitlines()[-1]
    assert re.search(rf"{last}: .*: File too large\. It needs \d+,\d+ bytes .* are free", error)
    assert list((tmp_path / last).parent.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--seed_everything=1", "with seed_everything 0, and it is now 1"),
        ("--data.batch_size=8", "with data.batch_size 4, and it is now 8"),
        ("--data.synthetic_length=20", "a number of training images of 16, and it is now 20"),
    ],
)
def test_resuming_into_another_order_of_the_data_is_refused(option, message, wholes, tmp_path):
    best = wholes["epochs"] / "checkpoints" / "last.ckpt"
    given = ["--ckpt_path", best, "--trust=[tests]", "--trainer.max_epochs=4", "--name=other"]
    resumed = start("fit", *given, option, cwd=tmp_path)
    assert resumed.wait() == 2, resumed.text
    assert message in resumed.text
