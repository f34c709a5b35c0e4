"""A rank that fails ends the run on every rank, with its error, also where the others wait for it.

A rank that waits in a collective runs no Python, so it can neither learn of another rank's error
nor be stopped by a signal's handler. A thread beside it can: on each rank one writes a sign of life
to the store of the process group, and reads there whether a rank has failed.
"""

import faulthandler
import os
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

import lightning as L
import torch.distributed as dist
from lightning.pytorch.strategies import ParallelStrategy

from seg.distributed.failure_store import Board, Failure
from seg.distributed.launchers import started_by_lightning
from seg.errors import InputError, NonFiniteError, describe
from seg.lightning_compat.trainer import spawns

TICK = 1.0
"""Seconds between two signs of life."""
SILENCE = 40.0
"""Seconds without a sign of life after which a rank is given up.

Work, however long, does not silence the thread that gives them, unless it keeps Python's lock all
the while; with what follows, the run still ends within a minute.
"""
SUSPICION = 5.0
"""The same once a rank has lost a connection, so that one of them must be gone."""
PATIENCE = 5.0
"""Seconds that a rank which ends waits for the others to have read why."""
GRACE = 30.0
"""Seconds that a failed rank has for its own end, which may wait for ranks that are gone."""
_FIRST = "SEG_FIRST_PROCESS"
"""Environment variable: the process that Lightning starts the others of this machine from."""


class Watchdog(L.Callback):
    """Ends this rank when another one fails or vanishes, and tells the others when this one does.

    Around a whole run, as a context, it reports what leaves it as an exception; as a callback it
    does so before Lightning's own clearing up, which may wait for the others for ever. An end by a
    signal or Ctrl-C is no failure.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._board: Board | None = None
        self._connected = threading.Event()
        self._stop = threading.Event()
        self._reported = False
        # only torchrun's store is there before the ranks have met
        self._early = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"

    def __enter__(self) -> Self:
        if self._early and int(os.environ["WORLD_SIZE"]) > 1:
            self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is None:
            return
        if os.environ.get(_FIRST) == str(os.getpid()):
            del os.environ[_FIRST]
        if error is not None:
            self.report(error)
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            if self._board is not None:
                # after Ctrl-C Lightning has killed the others
                patience = 0 if isinstance(error, KeyboardInterrupt) else SILENCE
                with suppress(RuntimeError):
                    self._board.leave(patience)

    def guard(self, trainer: L.Trainer) -> None:
        """Become the trainer's first callback and start to watch, where it has several processes.

        Those that Lightning spawns or forks it watches itself. A sharded run has a launcher only
        in the process that starts the others, and under srun or torchrun none at all.
        """
        strategy = trainer.strategy
        if isinstance(strategy, ParallelStrategy) and not spawns(strategy):
            if not started_by_lightning():
                os.environ[_FIRST] = str(os.getpid())
            trainer.callbacks.insert(0, self)  # type: ignore[attr-defined]
            self.start()

    def start(self) -> None:
        """Watch as soon as there is a process group, in a thread that the end of the run stops."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Tell the other ranks."""
        self.report(exception)

    def report(self, error: BaseException) -> None:
        """Tell the other ranks that this one fails.

        After a lost connection the culprit is another rank: it is given time to be found, whereupon
        this process ends.
        """
        if self._reported or self._thread is None:
            return
        self._reported = True
        # without a store to come, in vain
        expected = self._early or dist.is_initialized()
        self._connected.wait(PATIENCE if expected else 0)
        if _is_orderly(error) or self._board is None:
            return
        # should this rank's own end hang
        faulthandler.dump_traceback_later(GRACE, exit=True, file=2)
        try:
            self._report(error, self._board, self._thread)
        except RuntimeError:
            if _is_lost_connection(error):
                _end_without_store()

    def _report(self, error: BaseException, board: Board, thread: threading.Thread) -> None:
        if _is_lost_connection(error):
            board.add("suspicion")
            thread.join(SUSPICION + PATIENCE)
        self._stop.set()
        thread.join()
        first = board.fail(board.rank, describe(error), 2 if isinstance(error, InputError) else 1)
        if first.rank == board.rank:
            board.wait("seen", PATIENCE, board.size - 1)
        else:
            board.add("seen")
        board.leave(PATIENCE)

    def _watch(self) -> None:
        try:
            if not self._connect():
                return
            heard: dict[int, tuple[int, float]] = {}
            while not self._stop.wait(TICK):
                failure = self._look(heard)
                if failure is not None and not self._stop.is_set():
                    self._end(failure)
        except RuntimeError:
            if not self._stop.is_set():
                _end_without_store()

    def _connect(self) -> bool:
        while not (self._early or dist.is_initialized()):
            if self._stop.wait(TICK / 4):
                return False
            if _first_is_gone():
                _say("rank 0 ended before this rank had joined it")
                _exit(1)
        if self._early:
            rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        else:
            rank, size = dist.get_rank(), dist.get_world_size()
        self._board = Board(rank, size, SILENCE)
        self._connected.set()
        return True

    def _look(self, heard: dict[int, tuple[int, float]]) -> Failure | None:
        """Give a sign of life; the failure that someone reported, or that this rank finds.

        Rank 0 listens to all ranks, the others to rank 0, so that the store is asked little.
        """
        board = self._board
        assert board is not None
        board.add(f"beat/{board.rank}")
        now = time.monotonic()
        for rank in range(board.size) if board.rank == 0 else (0,):
            beats = board.count(f"beat/{rank}")
            if rank not in heard or heard[rank][0] != beats:
                heard[rank] = (beats, now)
        limit = SUSPICION if board.count("suspicion") else SILENCE
        quiet = {rank: now - since for rank, (beats, since) in heard.items() if beats > 0}
        gone = [r for r, t in quiet.items() if t > limit and not board.count(f"left/{r}")]
        if gone:
            rank = max(gone, key=lambda rank: quiet[rank])
            board.fail(rank, f"no sign of life for {quiet[rank]:.0f} s: killed, or cut off")
        return board.failure()

    def _end(self, failure: Failure) -> None:
        board = self._board
        assert board is not None
        # before all waiting: a launcher may kill this process any moment
        _say(f"{failure} (this is rank {board.rank})")
        with suppress(RuntimeError):
            board.add("seen")
            board.leave(PATIENCE)
        _exit(failure.status)


def _first_is_gone() -> bool:
    """Whether the process has ended that this one was started from, whose store it waits for."""
    parent = str(os.getppid())  # on Windows it stays the same
    return started_by_lightning() and os.environ.get(_FIRST, parent) != parent


def _end_without_store() -> None:
    store = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    _say(f"rank 0 or its launcher failed: the store at {store} is gone")
    _exit(1)


def _is_orderly(error: BaseException) -> bool:
    """Whether all ranks end by themselves: as asked to, by a signal, or with the same error."""
    if isinstance(error, SystemExit):
        return error.code in (None, 0) or (isinstance(error.code, int) and error.code >= 128)
    return isinstance(error, KeyboardInterrupt | NonFiniteError)


def _is_lost_connection(error: BaseException) -> bool:
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)


def _say(text: str) -> None:
    # not by print: the main thread may hold the stream's lock for ever
    os.write(2, f"seg: {text}\n".encode())


def _exit(status: int) -> None:
    """End the process without its own clearing up, which may wait for other ranks."""
    late = threading.Timer(1, os._exit, (status,))
    late.daemon = True
    late.start()
    sys.stdout.flush()  # this too may never get its lock
    os._exit(status)
