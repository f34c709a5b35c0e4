"""Signals save a run and end it on all ranks; what is resumed ends as if nothing had been."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.moments import SIGNALLED, differences, outcome
from tests.processes import LIMIT, Run, start, start_ranks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("runs/run/version_0")
LAST = FOLDER / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    run = start("fit", *SIGNALLED, cwd=folder)
    assert run.wait() == 0, run.text
    return folder / FOLDER


def said(*runs: Run) -> str:
    """The one line that a stopped run leaves its user with, over all its ranks."""
    (line,) = [line for run in runs for line in run.text.splitlines() if "stopped by" in line]
    return line


def resume(line: str, cwd: Path) -> None:
    """Run the command that the line gives."""
    command = re.search(r"seg (fit --ckpt_path .*)$", line)
    assert command is not None, line
    run = start(*command[1].split(), "--trust=[tests]", cwd=cwd)
    assert run.wait() == 0, run.text


@pytest.mark.parametrize(
    ("moment", "status", "step", "more"),
    [
        ("on_train_start:0:SIGUSR1:0", 138, 1, {}),
        ("on_train_batch_start:5:SIGTERM:0", 143, 6, {}),
        ("on_train_batch_start:5:SIGINT:0", 130, 6, {"SEG_TEST_GROUP": "1"}),
        ("on_train_batch_start:5:SIGTERM:0", 143, 6, {"SEG_TEST_GROUP": "1"}),
        ("on_validation_batch_start:4:SIGINT:0", 130, 4, {}),
        ("on_train_epoch_end:8:SIGTERM:0", 143, 9, {}),
    ],
)
def test_a_signal_saves_after_the_running_step_and_the_command_it_prints_goes_on(
    moment, status, step, more, whole, tmp_path
):
    workers = ["--data.num_workers=1"] if more else []
    more = {**more, "SEG_TEST_MOMENT": moment, "SEG_TEST_CURVES": "1"}
    run = start("fit", *SIGNALLED, *workers, cwd=tmp_path, **more)
    assert run.wait() == status, run.text
    line = said(run)
    name = moment.split(":")[2]
    assert line.startswith(f"seg: stopped by {name} after step {step} and saved as {LAST}. ")
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == step
    assert "Traceback" not in run.text
    assert (tmp_path / FOLDER / "curves.png").exists()
    resume(line, tmp_path)
    assert differences(outcome(whole), outcome(tmp_path / FOLDER)) == []


@pytest.mark.parametrize("hook", ["on_fit_start", "on_sanity_check_start"])
def test_a_signal_before_the_first_step_ends_the_run_without_a_file(hook, tmp_path):
    run = start("fit", *SIGNALLED, cwd=tmp_path, SEG_TEST_MOMENT=f"{hook}:0:SIGTERM:0")
    assert run.wait() == 143, run.text
    assert re.match("seg: stopped by SIGTERM before the first step", said(run))
    assert list(tmp_path.rglob("*.ckpt*")) == []


def test_a_second_signal_ends_the_run_at_once(tmp_path):
    moment = {"SEG_TEST_MOMENT": "on_train_batch_start:1:SIGTERM:0", "SEG_TEST_SLEEP": "1000"}
    run = start("fit", *SIGNALLED, cwd=tmp_path, **moment)
    run.until(lambda: "in its sleep" in run.text)
    time.sleep(1.1)  # signals within a second count as one
    run.send(signal.SIGTERM)
    assert run.wait() == 143, run.text
    assert "stopped at once by a second signal, without saving" in run.text
    assert list(tmp_path.rglob("*.ckpt*")) == []


def test_a_signal_ends_an_evaluation_with_its_status(whole, tmp_path):
    given = ["--ckpt_path", whole / "checkpoints" / "last.ckpt", "--output", "out"]
    given += ["--trust=[tests]", "--trainer.callbacks+=tests.moments.SignalAt"]
    moment = "on_test_batch_start:0:SIGTERM:0"
    run = start("test", *given, cwd=tmp_path, SEG_TEST_MOMENT=moment)
    assert run.wait() == 143, run.text
    assert "stopped by SIGTERM" in said(run)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("moment", "step"),
    [("on_train_batch_start:5:SIGTERM:1", 7), ("on_validation_batch_start:4:SIGTERM:1", 4)],
)
def test_a_signal_to_one_rank_stops_all_ranks_after_the_same_step(moment, step, tmp_path):
    ranks = start_ranks(2, "fit", *SIGNALLED, cwd=tmp_path, SEG_TEST_MOMENT=moment)
    assert [rank.wait() for rank in ranks] == [143, 143], [rank.text for rank in ranks]
    assert f"after step {step} and saved" in said(*ranks)
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == step


def test_a_signal_to_the_first_of_the_processes_that_lightning_started_stops_them_all(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    more = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=1000"]
    command = [sys.executable, "-m", "seg", "fit", *SIGNALLED, *more]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            end = time.monotonic() + LIMIT
            while not (tmp_path / LAST).exists():
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            # the pipe is closed when all of them have ended
            _, errors = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert process.returncode == 143, errors
    assert errors.count("stopped by SIGTERM after step") == 1
    step = int(re.findall(r"after step (\d+)", errors)[0])
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == step


def test_under_slurm_the_job_is_saved_and_requeued_and_goes_on_when_run_again(whole, tmp_path):
    (tmp_path / "scontrol").write_text(
        f'#!/bin/sh\necho "$@" >> "{tmp_path}/requeued.txt"\nkill -KILL $PPID\n'
    )
    (tmp_path / "scontrol").chmod(0o755)
    slurm = {"JOB_ID": "77", "JOB_NAME": "train", "NTASKS": "1", "PROCID": "0", "LOCALID": "0"}
    slurm |= {"NODEID": "0", "NTASKS_PER_NODE": "1", "NNODES": "1", "JOB_NUM_NODES": "1"}
    job = {f"SLURM_{name}": value for name, value in slurm.items()}
    job["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    given = [*SIGNALLED, "--trainer.default_root_dir=job"]
    moment = "on_train_batch_start:5:SIGUSR1:0"
    run = start("fit", *given, cwd=tmp_path, SEG_TEST_MOMENT=moment, **job)
    assert run.wait() == -9, run.text
    assert (tmp_path / "requeued.txt").read_text() == "requeue 77\n"
    saved = tmp_path / "job" / "hpc_ckpt_1.ckpt"
    assert torch.load(saved, weights_only=True)["global_step"] == 6
    again = start("fit", *given, cwd=tmp_path, **job)
    assert again.wait() == 0, again.text
    ended = outcome(tmp_path / "job" / "run" / "version_1")
    assert differences(outcome(whole), ended) == ["metrics"]  # in a folder of its own
