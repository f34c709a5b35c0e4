"""What a command imports before it answers: what it needs, and nothing that takes long."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest

from seg.cli import app
from seg.cli.command_table import COMMANDS, Command
from tests.conftest import LIGHT, SYNTHETIC

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NOTED = """
import sys
from seg.__main__ import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


class FirstStep(L.Callback):
    """Tells what has been imported when the first step is done, and ends the process."""

    def on_train_batch_end(self, *args):
        print(*sys.modules, file=sys.stderr, flush=True)
        os._exit(0)


def imported(*args, cwd=None):
    """The modules that a process of its own has loaded by the end of `seg ARGS`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", NOTED, *args]
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)
    assert result.returncode in (0, 1, 2), result.stderr
    return set(result.stderr.splitlines()[-1].split())


SLOW = {"torch", "lightning", "numpy", "albumentations", "matplotlib", "scipy"}


@pytest.mark.parametrize("args", ["--help", "fitt", "", "configs", *(f"{c} -h" for c in COMMANDS)])
def test_what_needs_no_library_is_answered_without_them(args):
    found = imported(*args.split())
    assert "seg.cli.app" in found
    assert found & SLOW == set()


def test_runs_are_compared_without_torch(tmp_path):
    found = imported("compare", str(tmp_path), "other")
    assert "seg.evaluation.comparison" in found
    assert found & {"torch", "lightning", "torchmetrics"} == set()


def test_a_run_has_imported_nothing_before_its_first_step_that_only_its_end_needs(tmp_path):
    callback = f"--trainer.callbacks+={__name__}.FirstStep"
    found = imported("fit", *SYNTHETIC, *LIGHT, callback, cwd=tmp_path)
    assert {"torch", "lightning", "torchmetrics", "tests.cli.test_start"} <= found
    assert found & {"seg.report.curves", "transformers", "scipy.signal", "scipy.stats"} == set()


def test_no_garbage_is_looked_for_among_what_was_imported(tmp_path, monkeypatch):
    (tmp_path / "quick.py").write_text(
        "import gc\ndef main(args, on=gc.isenabled()):\n    return on"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(COMMANDS, "quick", Command("Answer.", "quick"))
    before = gc.get_freeze_count()
    assert app.main(["quick"]) == 0 and gc.isenabled()
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    assert frozen > before and app.main(["quick"]) == 0
    assert gc.get_freeze_count() == 0  # once alone, else what runs leave behind would stay


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes that tell of a lost reader")
@pytest.mark.parametrize("args", ["configs", "fit --help"])
def test_a_reader_that_has_enough_is_no_error(args):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "seg", *args.split()]
    result = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (result.returncode, result.stderr) == (141, b"")
