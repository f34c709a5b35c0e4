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
import signal
del signal.SIGUSR1, signal.pthread_sigmask
of_torch = signal.SIGKILL, signal.SIGCHLD
del signal.SIGKILL, signal.SIGCHLD
from seg.cli.app import main
signal.SIGKILL, signal.SIGCHLD = of_torch
raise SystemExit(main({args}))
"""


def test_a_run_with_workers_needs_no_signal_that_windows_lacks(tmp_path):
    args = ["fit", *SYNTHETIC, *LIGHT, "--data.num_workers=1"]
    command = [sys.executable, "-c", AS_ON_WINDOWS.format(args=args)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    assert list(tmp_path.rglob("last.ckpt"))
