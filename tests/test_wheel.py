"""The package as a user installs it: a wheel in an environment of its own, and no checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import LIGHT, SMALL, write_pairs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ["pyproject.toml", "setup.py", "README.md", "LICENSE", "configs", "seg"]


def run(*command, cwd, **environment):
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    result = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of the programs of an environment into which the wheel was installed.

    Its other packages are those that these tests run with.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip"]
    own = ["--no-deps", "--no-index", "--no-build-isolation"]
    run(*pip, "wheel", *own, "-w", folder / "out", source, cwd=folder)
    shutil.rmtree(source)
    environment = folder / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=folder)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "other.pth").write_text(sysconfig.get_path("purelib"))
    (wheel,) = (folder / "out").iterdir()
    programs = environment / "bin"
    run(*pip, "--python", programs / "python", "install", *own[:2], wheel, cwd=folder)
    return programs


def test_a_wheel_brings_its_configurations_and_trains_a_folder_without_a_checkout(
    installed, tmp_path
):
    found = run(installed / "python", "-c", "import seg; print(seg.__file__)", cwd=tmp_path)
    assert Path(found.strip()).is_relative_to(installed.parent)
    lines = run(installed / "seg", "configs", cwd=tmp_path).splitlines()
    files = ROOT.glob("configs/*/*.yaml")
    assert {line.split()[0] for line in lines} == {f"{p.parent.name}/{p.stem}" for p in files}
    write_pairs(tmp_path / "mine/images", tmp_path / "mine/masks", 12, (40, 56), [0, 1])
    run(installed / "seg", "init", "mine", cwd=tmp_path)
    small = [*SMALL, *LIGHT, "--trainer.limit_train_batches=2"]
    run(installed / "seg", "fit", "-c", "mine.yaml", "-c", "rare", *small, cwd=tmp_path)
    (config,) = tmp_path.glob("runs/*/version_0/config.yaml")
    assert "seg.losses.TverskyLoss" in config.read_text()
    assert (config.parent / "checkpoints/best.ckpt").exists()
