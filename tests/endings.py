"""Runs of the command that a signal ends at one moment: how they end, and what they leave."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch

from tests.conftest import write_pairs
from tests.moments import SIGNALLED
from tests.processes import lives_on, members, start

ROOT = Path(__file__).resolve().parents[1]
LAST = Path("runs/run/version_0/checkpoints/last.ckpt")
LIMIT = 60.0
"""Seconds in which a run ends after the signal, and its workers after it."""

# by command and moment: the hook and the global step; others are sent from outside
HOOKS = {
    "fit": {
        "start": "on_sanity_check_start:0",
        "training": "on_train_batch_start:5",
        "validation": "on_validation_batch_start:4",
        "before validation": "on_validation_start:4",
        "after validation": "on_validation_end:4",
        "between epochs": "on_train_epoch_end:4",
        "saving": "on_save_checkpoint:4",
    },
    "test": {"start": "on_test_start:0", "testing": "on_test_batch_start:0"},
    "predict": {"start": "on_predict_start:0", "predicting": "on_predict_batch_start:0"},
}
MOMENTS = {
    "fit": ["imports", *HOOKS["fit"], "any time"],
    "test": [*HOOKS["test"]],
    "predict": [*HOOKS["predict"]],
    "audit": ["imports", "scan"],
    "fit, 2 ranks": ["joining", "any time"],
}
SIGNALS = ("SIGTERM", "SIGINT", "SIGKILL", "SIGTERM group", "SIGINT group")
WORKERS = ("1", "2", "1 fresh", "2 fresh", "1 slow", "2 slow", "2 fresh slow")


@dataclass
class Ending:
    """How a run ended.

    Attributes:
        seconds: From the signal to the end of the run.
        left: From then to the end of its last worker.
        faults: What is not as it should be.
    """

    seconds: float
    left: float
    faults: list[str] = field(default_factory=list)


def combinations() -> Iterator[tuple[str, str, str]]:
    """Every command with each of its moments and each signal."""
    for command, moments in MOMENTS.items():
        for moment, signalled in product(moments, SIGNALS):
            yield command, moment, signalled


def prepare(folder: Path) -> None:
    """What `test`, `predict` and `audit` need: a checkpoint, images, masks that take a while."""
    run = start("fit", *SIGNALLED, cwd=folder)
    assert run.wait() == 0, run.text
    write_pairs(folder / "images", folder / "ids", 8, (64, 64), range(5))
    write_pairs(folder / "train", folder / "trainannot", 1, (1600, 2000), range(12))
    for kind, name in (("train", "00.jpg"), ("trainannot", "00.png")):
        source = folder / kind / name
        for i in range(1, 60):
            os.link(source, source.with_stem(f"{i:02}"))


def ending(command: str, moment: str, signalled: str, workers: str, folder: Path) -> Ending:
    """Make a run in a folder, with the checkpoint of another one for `test` and `predict`."""
    number, *group = signalled.split()
    if moment == "imports" or command == "fit, 2 ranks":
        status, said, pid, seconds = _program(command, moment, number, bool(group), folder)
    else:
        status, said, pid, seconds = _run(command, moment, number, bool(group), workers, folder)
    lives, left = lives_on(pid, LIMIT)
    text = said.read_text(errors="replace")
    end = Ending(seconds, left, ["a process is left"] if lives else [])
    statuses = {"SIGTERM": (143,), "SIGINT": (130,), "SIGKILL": (-9,)}[number]
    if moment in ("imports", "joining"):  # where the handlers are not ours yet
        statuses += (-signal.Signals[number],)
    if moment == "joining":  # Lightning kills the first rank when the second one is gone
        statuses += (-9,)
    words = ["Traceback", "Exception ignored", "leaked"]
    words += ["Error"] if number != "SIGKILL" else []  # a rank says that it lost the first one
    state = "it hangs" if status is None else f"exit status {status}"
    wrong = [state] if status not in statuses else []
    wrong += [f"said {word!r}" for word in words if word in text]
    if number != "SIGKILL" and moment not in ("imports", "joining"):
        wrong += [] if f"stopped by {number}" in text else ["did not say that it was stopped"]
        if command.startswith("fit") and moment not in ("start", "joining"):
            wrong += [] if "and saved as" in text else ["did not say that it had saved"]
            torch.load(folder / LAST, weights_only=True)
    end.faults += [f"{fault}; it said:\n{text}" for fault in wrong]
    return end


def _run(
    command: str, moment: str, number: str, to_group: bool, workers: str, folder: Path
) -> tuple[int | None, Path, int, float]:
    count, *kinds = workers.split()
    hook = HOOKS.get(command, {}).get(moment)
    environment = {"SEG_TEST_WORKERS": " ".join(kinds)}
    environment |= {"SEG_TEST_MOMENT": f"{hook}:{number}:0"} if hook else {}
    environment |= {"SEG_TEST_GROUP": "1"} if to_group else {}
    given: list[Any] = [f"--data.num_workers={count}", "--trainer.callbacks+=tests.moments.Workers"]
    if command == "fit":
        given = [*SIGNALLED, *given, "--trainer.max_epochs=1000"]
    elif command == "audit":
        environment["XDG_CACHE_HOME"] = str(folder / f"cache_{time.monotonic_ns()}")
        given = ["-c", ROOT / "configs/data/camvid.yaml", "--data.root", folder]
    else:
        given += ["--ckpt_path", LAST, "--trust=[tests]", "--output=out"]
        given += ["--trainer.callbacks+=tests.moments.SignalAt"]
        given += ["--data.predict=images"] if command == "predict" else []
    run = start(command, *given, cwd=folder, **environment)
    if hook is None:
        run.until(lambda: command == "audit" or (folder / LAST).exists())
        time.sleep(random.uniform(0.1, 1.0))
        begin = time.monotonic()
        run.send(signal.Signals[number], to_group)
    run.process.join(LIMIT)
    status, end = run.process.exitcode, time.monotonic()
    if hook is not None:
        begin = float(re.findall(r"signalled at (\S+)", run.text)[0])
    assert run.process.pid is not None
    return status, run.output, run.process.pid, end - begin


def _program(
    command: str, moment: str, number: str, to_group: bool, folder: Path
) -> tuple[int | None, Path, int, float]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    given = ["-c", str(ROOT / "configs/data/camvid.yaml")] if command == "audit" else SIGNALLED
    if command == "fit, 2 ranks":
        given = [*given, "--trainer.devices=2", "--trainer.strategy=ddp", "--data.num_workers=1"]
        given = [*given, "--trainer.max_epochs=1000"]
    said = folder / "output.txt"
    with said.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "seg", command.split(",")[0], *given], cwd=folder,
            env=environment, start_new_session=True, stdout=output, stderr=subprocess.STDOUT,
            preexec_fn=_allow_ctrl_c,
        )  # fmt: skip
    try:
        while not (
            moment == "imports"
            or (moment == "joining" and len(members(process.pid)) > 1)
            or (moment == "any time" and (folder / LAST).exists())
        ):
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(random.uniform(0.2, 2.0))
        begin = time.monotonic()
        (os.killpg if to_group else os.kill)(process.pid, signal.Signals[number])
        with suppress(subprocess.TimeoutExpired):
            process.wait(LIMIT)
        status = process.returncode
    finally:
        process.kill()
    return status, said, process.pid, time.monotonic() - begin


def _allow_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which a shell in the background ignores
