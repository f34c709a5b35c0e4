"""Runs of the command in processes of their own, without importing everything anew for each.

A server process imports the program once; every run is forked from it.
"""

import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 600.0
"""Seconds after which a process that hangs is ended; no test waits for them to pass."""


@cache
def context() -> ForkServerContext:
    """What starts the processes."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork processes")
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["tests.preloaded"])
    return forkserver


@dataclass
class Run:
    """A running command, or one of its ranks."""

    process: BaseProcess
    output: Path

    @property
    def text(self) -> str:
        """What it has printed so far, errors included."""
        return self.output.read_text(errors="replace")

    def wait(self, limit: float = LIMIT) -> int:
        """Its exit status; minus the signal's number where one killed it."""
        self.process.join(limit)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"still running after {limit} s:\n{self.text}")
        return self.process.exitcode

    def send(self, number: int, to_group: bool = False) -> None:
        """Send a signal to it alone, or to its workers as well, as a terminal does."""
        assert self.process.pid is not None
        (os.killpg if to_group else os.kill)(self.process.pid, number)

    def lives_on(self, limit: float) -> bool:
        """Whether its workers live for so many seconds, which ends them."""
        assert self.process.pid is not None
        return lives_on(self.process.pid, limit)[0]

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait for what the run does."""
        end = time.monotonic() + LIMIT
        while not condition():
            assert self.process.is_alive(), self.text
            assert time.monotonic() < end, self.text
            time.sleep(0.005)


def start(*args: Any, cwd: Path, **environment: str) -> Run:
    """Start `seg` with these arguments; ranks that it starts itself are Python anew."""
    output = cwd / f"output_{time.monotonic_ns()}.txt"
    output.touch()
    settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    given = ([str(arg) for arg in args], str(cwd), str(output), settings)
    process = context().Process(target=_main, args=given)
    process.start()
    return Run(process, output)


def lives_on(group: int, limit: float) -> tuple[bool, float]:
    """Whether processes of a group live for so many seconds, which ends them, and how long."""
    begin = time.monotonic()
    while members(group) and time.monotonic() < begin + limit:
        time.sleep(0.02)
    left, seconds = members(group), time.monotonic() - begin
    for process in left:
        os.kill(process, signal.SIGKILL)
    return bool(left), seconds


def members(group: int) -> list[int]:
    """The living processes of a group."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, own = place.read_text().rpartition(")")[2].split()[:3]
            found.append((int(place.parent.name), int(own), state))
    if not found:  # as on macOS
        command = ["ps", "-A", "-o", "pid=,pgid=,stat="]
        listed = subprocess.run(command, capture_output=True, text=True, check=True)
        lines = (line.split() for line in listed.stdout.splitlines())
        found = [(int(pid), int(own), state) for pid, own, state in lines]
    # a zombie has ended, and awaits its parent
    return [pid for pid, own, state in found if own == group and state[0] != "Z"]


def free_port() -> int:
    """A port that no server has, nor any connection will be given by chance."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)  # below the usual range of clients
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def start_ranks(
    count: int,
    *args: Any,
    cwd: Path,
    strategy: str | None = "ddp",
    slurm: bool = False,
    **environment: str,
) -> list[Run]:
    """Start the ranks of a run as an outer launcher does: torchrun, or srun."""
    port, size = str(free_port()), str(count)
    given = [*args, f"--trainer.devices={count}"]
    given += [f"--trainer.strategy={strategy}"] if strategy else []
    runs = []
    for rank in map(str, range(count)):
        if slurm:
            place = {"JOB_ID": "77", "JOB_NAME": "train", "NODELIST": "127.0.0.1", "NODEID": "0"}
            place |= {"NNODES": "1", "NTASKS": size, "NTASKS_PER_NODE": size}
            place |= {"PROCID": rank, "LOCALID": rank}
            place = {f"SLURM_{name}": value for name, value in place.items()}
        else:
            place = {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": size}
            place |= {"WORLD_SIZE": size, "RANK": rank, "LOCAL_RANK": rank}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        runs.append(start(*given, cwd=cwd, **{**place, **environment}))
    return runs


def make_runs(folder: Path, runs: Sequence[tuple[int, Sequence[Any]]]) -> None:
    """Make runs in a folder, one after the other, each given as its number of ranks and arguments.

    All of them must end well.
    """
    for count, args in runs:
        several = count > 1
        made = start_ranks(count, *args, cwd=folder) if several else [start(*args, cwd=folder)]
        assert [run.wait() for run in made] == [0] * count, "\n".join(run.text for run in made)


def _main(args: Sequence[str], cwd: str, output: str, environment: dict[str, str]) -> None:
    os.setpgid(0, 0)  # its workers are in the group of its number
    multiprocessing.set_start_method("fork", force=True)  # of loaders' workers, as in any process
    os.environ.update(environment)
    os.chdir(cwd)
    if "SEG_TEST_LARGEST_FILE" in environment:  # a full disk, as far as a program can tell
        import resource

        largest = int(environment["SEG_TEST_LARGEST_FILE"])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    file = os.open(output, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which the server ignores
    import torch
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    from seg.cli.app import main

    rank = environment.get("RANK") or environment.get("SLURM_PROCID", "0")
    rank_zero_only.rank = int(rank)  # else read as lightning is imported
    torch.set_num_threads(1)
    # of what Lightning makes the command of a rank that it starts
    sys.argv, sys.modules["__main__"].__spec__ = ["seg", *args], find_spec("seg.__main__")
    sys.exit(main(args))
