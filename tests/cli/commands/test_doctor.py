"""`seg doctor`: what it says is what there is, also where something is not."""

import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from seg.cli.commands import doctor

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
ABOUT = dict(line.split(": ", 1) for line in doctor.report())
LIBRARIES = ["lightning", "segmentation-models-pytorch", "albumentations", "torchmetrics"]
LIBRARIES += ["jsonargparse"]


def python(*args, **more):
    command = [sys.executable, *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_version_of_a_library_is_that_of_its_installation(name):
    assert f"{name} {version(name)}" in ABOUT["libraries"].split(", ")


def test_python_torch_and_the_threads_are_those_of_this_process():
    assert platform.python_version() in ABOUT["Python"]
    assert ABOUT["torch"].startswith(f"{torch.__version__}, ")
    assert version("torchvision") in ABOUT["torch"]
    assert ABOUT["threads"].startswith(f"torch takes {torch.get_num_threads()};")
    assert ABOUT["seg"] == version("seg")


def test_what_the_tests_run_with_is_all_there():
    required, _, optional = ABOUT["missing"].partition("sphinx")  # the first of the extra docs
    assert required in ("", "nothing")
    assert "extra test" not in optional


@pytest.mark.slow
def test_the_command_ends_with_0_and_a_few_short_lines_without_a_terminal(tmp_path):
    result = python("-m", "seg", "doctor", cwd=tmp_path, env=ENVIRONMENT, stdin=subprocess.DEVNULL)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(doctor.LINES)
    assert len(lines) <= 12
    assert max(map(len, lines)) < 200
    assert "OMP_NUM_THREADS=2" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_of_ascii_alone_gets_all_lines():
    code = (
        "import seg.cli.commands.doctor as d; d.LINES = {'CPU': lambda: '\u00bd GHz'}; d.main([])"
    )
    result = python("-c", code, env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"})
    assert (result.returncode, result.stdout) == (0, "CPU: ? GHz\n"), result.stderr


def test_without_any_library_it_says_what_is_missing():
    # -S: no site-packages; -I would leave out the sources too
    result = python("-S", "-m", "seg.cli.commands.doctor", env=ENVIRONMENT)
    assert result.returncode == 0, result.stderr
    said = dict(line.split(": ", 1) for line in result.stdout.splitlines())
    assert said["torch"] == "not known, ModuleNotFoundError: No module named 'torch'"
    assert "lightning missing" in said["libraries"]
    assert platform.python_version() in said["Python"]
    assert re.search(r"\d+ of \d+ cores usable", said["CPU"])
    assert list(said) == list(doctor.LINES)


def test_a_package_that_is_missing_or_too_old_is_named_with_what_is_asked_for(monkeypatch):
    asked = ["torch<2", "nowhere>=3", 'nothing; sys_platform == "none"', "numpy"]
    asked += ['tool<9; extra == "test"', 'mypy>=999; python_version > "3" and extra == "test"']
    monkeypatch.setattr(doctor, "requires", lambda name: asked)
    found = doctor.LINES["missing"]()
    required = f"torch<2 (found {version('torch')}), nowhere>=3"
    extra = f"tool<9, mypy>=999 (found {version('mypy')}) (optional, extra test)"
    assert found == f"{required}; {extra}"


def test_a_warning_is_part_of_its_line():
    def finds():
        warnings.warn("the driver is too old\nand more", UserWarning, stacklevel=1)
        return "none"

    assert doctor._guarded(finds) == "none; the driver is too old"


def test_an_amd_gpu_is_described_by_its_architecture(monkeypatch):
    amd = SimpleNamespace(
        name="AMD Instinct MI300X", total_memory=192 * 2**30, major=9, minor=4, gcnArchName="gfx942"
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: amd)
    assert doctor.LINES["GPU"]() == "cuda:0 AMD Instinct MI300X, 192 GiB, gfx942"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda tool: tool if tool == "rocm-smi" else None)
    assert doctor.LINES["GPU"]() == "none that torch can use, although there is rocm-smi"
