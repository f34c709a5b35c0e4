"""Real ranks over gloo under a watchdog with short limits; `python watched_ranks.py FOLDER`.

Each case is a function that every one of three processes runs; what they say on stderr goes to
FOLDER/<case>.<rank>, their exit statuses (negative: the signal) to FOLDER/ends.json.
"""

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
import torch.distributed as dist

from seg.distributed import watchdog
from seg.errors import InputError
from tests.processes import free_port

SIZE = 3
LIMIT = 300
"""Seconds after which a rank that has not ended is killed."""


def meet(name):
    """Wait for all ranks through the store, so that no one misses the connection of one that left.

    A collective is over for one rank before it is for another.
    """
    store = dist.distributed_c10d._get_default_store()
    store.add(name, 1)
    while store.add(name, 0) < SIZE:
        time.sleep(0.02)


def wait_in_a_collective(peer):
    """For ever: nothing is sent, and no connection of this rank is lost."""
    dist.recv(torch.zeros(1), src=peer)


def raises_and_hangs(rank):
    if rank == 1:
        raise InputError("07.jpg is broken")
    wait_in_a_collective(2 - rank)


def lost(rank):
    watchdog.SILENCE = 600
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.recv(torch.zeros(1), src=1)


def silent(rank):
    watchdog.SILENCE = 5
    if rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    wait_in_a_collective(2 - rank)


def first_killed(rank):
    if rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    wait_in_a_collective(3 - rank)


def slow(rank):
    if rank == 1:
        ctypes.PyDLL(None).sleep(2)  # with Python's lock, so that the thread cannot run
    dist.barrier()
    meet("end")


def leaves_early(rank):
    if rank == 1:
        raise SystemExit(143)
    time.sleep(watchdog.SILENCE + 1)


CASES = [raises_and_hangs, lost, silent, first_killed, slow, leaves_early]


def live(case, rank, port):
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(address, RANK=str(rank), WORLD_SIZE=str(SIZE))
    try:
        with watchdog.Watchdog() as guard:
            guard.start()
            dist.init_process_group("gloo")
            assert guard._connected.wait(LIMIT)
            guard._board.wait(f"beat/{rank}", LIMIT, 1)
            meet("start")
            case(rank)
    except InputError:
        time.sleep(600)  # an end that hangs


def start(case, rank, port, folder):
    child = os.fork()
    if child == 0:
        log = os.open(folder / f"{case.__name__}.{rank}", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 2)
        status = 1
        try:
            live(case, rank, port)
            status = 0
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def end_of(child, deadline):
    """Exit status of a child, which is killed when the time is over."""
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "had to be killed"


def main(folder):
    # a machine with other work may hold up a rank that has done nothing wrong
    watchdog.TICK, watchdog.SILENCE, watchdog.SUSPICION = 0.1, 12.0, 3.0
    watchdog.PATIENCE, watchdog.GRACE = 5.0, 12.0
    ranks = {}
    for case in CASES:
        port = free_port()
        ranks |= {(case.__name__, rank): start(case, rank, port, folder) for rank in range(SIZE)}
    deadline = time.monotonic() + LIMIT
    stopped = ranks.pop(("silent", 1))
    ends = [(*key, end_of(child, deadline)) for key, child in ranks.items()]
    end_of(stopped, 0)
    (folder / "ends.json").write_text(json.dumps(ends))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
