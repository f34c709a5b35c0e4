"""scripts/install.sh with real environments and a real pip, for a project that is small."""

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "install.sh"
LIMIT = 300

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "sample"
version = "1"
dependencies = ["needed"]
optional-dependencies = {test = ["checker"]}
"""

BACKEND = '''
"""Builds the wheel of an editable installation; waits while the file "hold" is there."""
import pathlib, time, zipfile

METADATA = """Metadata-Version: 2.1
Name: sample
Version: 1
Requires-Dist: needed
Provides-Extra: test
Requires-Dist: checker; extra == "test"
"""

def build_editable(folder, config_settings=None, metadata_directory=None):
    with open("builds.txt", "a") as file:
        file.write("build\\n")
    while pathlib.Path("hold").exists():
        time.sleep(0.01)
    write_wheel(pathlib.Path(folder), "sample", "1", METADATA)
    return "sample-1-py3-none-any.whl"

def write_wheel(folder, name, version, metadata):
    info = f"{name}-{version}.dist-info"
    wheel = "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}/METADATA", metadata)
        file.writestr(f"{info}/WHEEL", wheel)
        file.writestr(f"{info}/RECORD", "")
'''


class Project:
    """A copy of the script beside a project of its own, and its packages in a folder."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "scripts").mkdir(parents=True)
        shutil.copy(SCRIPT, folder / "scripts")
        (folder / "pyproject.toml").write_text(PYPROJECT)
        (folder / "backend.py").write_text(BACKEND)
        self.constrain(1)
        (folder / "wheels").mkdir()
        for name, version in (("needed", "1"), ("needed", "2"), ("checker", "1")):
            info = f"{name}-{version}.dist-info"
            path = folder / "wheels" / f"{name}-{version}-py3-none-any.whl"
            with zipfile.ZipFile(path, "w") as file:
                head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
                file.writestr(f"{info}/METADATA", head)
                tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
                file.writestr(f"{info}/WHEEL", tags)
                file.writestr(f"{info}/RECORD", "")

    def constrain(self, version):
        (self.folder / "constraints.txt").write_text(f"needed=={version}\n")

    def start(self, *args, **more):
        """The script, in a process group of its own."""
        own = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.folder / "wheels")}
        environment = {**os.environ, "PYTHON": sys.executable, **own, **more}
        return Running([self.folder / "scripts/install.sh", *args], environment, self.folder)

    def install(self, *args, **more):
        """Exit status and output of the script."""
        running = self.start(*args, **more)
        return running.wait(), running.text

    def start_held(self):
        """The script as pip installs a change, which waits until the file "hold" is gone."""
        constraints = self.folder / "constraints.txt"
        constraints.write_text(constraints.read_text() + "# changed\n")
        (self.folder / "hold").touch()
        before = self.builds()
        running = self.start()
        running.until(lambda: self.builds() > before)
        return running

    def let_go(self):
        (self.folder / "hold").unlink()

    def builds(self):
        """How many times pip has begun to install."""
        path = self.folder / "builds.txt"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def packages(self):
        """Name and version of what is installed but for pip's own."""
        found = (path.stem for path in self.folder.glob(".venv/lib*/*/site-packages/*.dist-info"))
        pairs = [name.rsplit("-", 1) for name in found]
        return {name: version for name, version in pairs if name not in ("pip", "setuptools")}


class Running:
    """A running script; what it says goes to a file."""

    def __init__(self, command, environment, folder):
        self.output = folder / f"output_{time.monotonic_ns()}.txt"
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                command, env=environment, cwd="/", stdout=file, stderr=file, start_new_session=True
            )

    @property
    def text(self):
        return self.output.read_text()

    def until(self, condition):
        end = time.monotonic() + LIMIT
        while not condition():
            assert self.process.poll() is None, self.text
            assert time.monotonic() < end, self.text
            time.sleep(0.01)

    def wait(self):
        try:
            return self.process.wait(LIMIT)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    """A project that is installed, and how that ended."""
    project = Project(tmp_path_factory.mktemp("installed") / "project")
    return project, project.install("test")


@pytest.fixture
def project(installation):
    """The installed project, as the tests before have left it: whole."""
    return installation[0]


def test_the_project_is_installed_by_its_constraints_once(installation):
    project, (status, said) = installation
    assert status == 0, said
    assert project.packages() == {"sample": "1", "needed": "1", "checker": "1"}
    assert project.builds() == 1
    for args in (["test"], []):  # without the tests' tools nothing is missing either
        assert project.install(*args) == (0, "")
    assert project.builds() == 1


def test_a_changed_constraint_is_installed_into_the_same_environment(project):
    own = project.folder / ".venv" / "own.txt"
    own.touch()
    before = project.builds()
    project.constrain(2)
    status, said = project.install("test")
    assert status == 0, said
    assert project.packages()["needed"] == "2"
    assert project.builds() == before + 1
    assert own.exists()


def test_a_failed_installation_leaves_the_environment_and_is_tried_again(project):
    before = project.packages()
    project.constrain(3)
    for _ in range(2):
        status, said = project.install("test")
        assert status != 0
        assert "ERROR: Cannot install sample" in said
    assert project.packages() == before
    project.constrain(before["needed"])
    status, said = project.install("test")
    assert (status, project.packages()) == (0, before), said


def test_of_two_installations_at_once_the_second_waits_and_finds_it_done(project):
    before = project.builds()
    first = project.start_held()
    second = project.start()
    second.until(lambda: "Waiting for another installation" in second.text)
    project.let_go()
    assert [first.wait(), second.wait()] == [0, 0]
    assert "Installing" not in second.text
    assert project.builds() == before + 1


def test_an_installation_that_was_cut_short_is_begun_again(project):
    running = project.start_held()
    half = project.folder / ".venv" / "half.txt"
    half.touch()
    os.killpg(running.process.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    project.let_go()
    status, said = project.install()
    assert status == 0, said
    assert not half.exists()
    assert project.packages().keys() == {"sample", "needed"}
    assert project.install() == (0, "")


def test_a_pip_that_has_outlived_its_script_is_waited_for(project):
    first = project.start_held()
    builds = project.builds()
    first.process.kill()
    assert first.wait() == -signal.SIGKILL
    second = project.start()
    second.until(lambda: "Waiting for another installation" in second.text)
    assert project.builds() == builds
    project.let_go()
    assert second.wait() == 0, second.text
    assert project.builds() == builds + 1
    assert project.packages().keys() == {"sample", "needed"}


def test_an_interpreter_that_is_none_is_named_and_nothing_is_made(tmp_path):
    project = Project(tmp_path / "project")
    status, said = project.install(PYTHON="/bin/false")
    assert status == 1
    assert said.startswith("install.sh: /bin/false: no working Python 3.11 or newer")
    assert len(said.splitlines()) == 1
    assert not (project.folder / ".venv").exists()
