"""Workers end with their run."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LIGHT, SMALL, SYNTHETIC
from tests.processes import start

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def test_an_error_within_a_validation_ends_a_run_that_has_workers(camvid_like, tmp_path):
    root = shutil.copytree(camvid_like, tmp_path / "data")
    cut = root / "val" / "03.jpg"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    data = ["-c", ROOT / "configs/data/camvid.yaml", "--data.root", root]
    more = ["--data.num_workers=2", "--trainer.num_sanity_val_steps=0"]
    run = start("fit", *data, *SMALL, *LIGHT, *more, cwd=tmp_path)
    assert run.wait() == 2, run.text
    assert "03.jpg" in run.text
    assert "Traceback" not in run.text
    assert not run.lives_on(10)


AS_ON_WINDOWS = """
import importlib, multiprocessing, os, pkgutil, signal, sys
import albumentations, lightning.pytorch.cli, torchvision  # these ask which system it is
from multiprocessing import resource_tracker
resource_tracker.ensure_running()  # where there is a fork, a spawn needs it
of_torch = signal.SIGKILL, signal.SIGCHLD
for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL", "SIGCHLD", "pthread_sigmask"):
    delattr(signal, name)
for name in ("fork", "getuid", "killpg", "O_DIRECTORY", "sched_getaffinity", "statvfs", "uname"):
    if hasattr(os, name):  # macOS has not all of them either
        delattr(os, name)
sys.modules |= dict.fromkeys(("fcntl", "grp", "pwd", "resource", "termios"))
import seg.cli.app
for module in pkgutil.walk_packages(seg.__path__, "seg."):
    if module.name != "seg.__main__":
        importlib.import_module(module.name)
signal.SIGKILL, signal.SIGCHLD = of_torch
multiprocessing.set_start_method("spawn")
raise SystemExit(seg.cli.app.main({args}))
"""


def test_modules_and_a_run_with_spawned_workers_need_nothing_that_windows_lacks(tmp_path):
    train_only = ["--trainer.limit_val_batches=0", "--checkpoint.monitor=train/loss"]
    args = ["fit", *SYNTHETIC, *LIGHT, *train_only, "--checkpoint.mode=min", "--data.num_workers=1"]
    command = [sys.executable, "-c", AS_ON_WINDOWS.format(args=args)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    assert list(tmp_path.rglob("last.ckpt"))
