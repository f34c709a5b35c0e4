"""What the ranks of a run tell one another beside their collectives."""

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from datetime import timedelta

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Failure:
    """Why a run ends: the rank that failed first, its host, its error and its exit status."""

    rank: int
    host: str
    error: str
    status: int = 1

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.host} failed: {self.error}"


class Board:
    """What the ranks tell one another, over a connection of its own to the group's store.

    Args:
        rank: This process.
        size: Number of processes.
        limit: Seconds to wait for an answer.

    Raises:
        RuntimeError: If the store does not answer; so do all methods.
    """

    def __init__(self, rank: int, size: int, limit: float) -> None:
        self.rank = rank
        self.size = size
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        timeout = timedelta(seconds=limit)
        store = TCPStore(host, port, None, False, timeout, wait_for_workers=False)
        # torchrun may start all ranks anew
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._store = PrefixStore(f"watchdog/{attempt}", store)
        self._store.set(f"host/{rank}", socket.gethostname())

    def add(self, name: str, amount: int = 1) -> int:
        """Count something that the ranks share; the new count."""
        return int(self._store.add(name, amount))

    def count(self, name: str) -> int:
        """How often the ranks have added to `name`."""
        return self.add(name, 0)

    def fail(self, rank: int, error: str, status: int = 1) -> Failure:
        """Put down that a rank has failed; the first failure put down by anyone."""
        known = self._store.check([f"host/{rank}"])
        host = self._store.get(f"host/{rank}").decode() if known else "an unknown host"
        own = json.dumps(asdict(Failure(rank, host, error, status)))
        return Failure(**json.loads(self._store.compare_set("failure", "", own)))

    def failure(self) -> Failure | None:
        """The first failure, if any."""
        if not self._store.check(["failure"]):
            return None
        return Failure(**json.loads(self._store.get("failure")))

    def leave(self, seconds: float) -> None:
        """Say that this rank gives no more signs of life.

        Rank 0, whose process may be the store's, waits until all have left, for so long at most.
        """
        self.add(f"left/{self.rank}")
        self.add("left")
        if self.rank == 0:
            self.wait("left", seconds, self.size)

    def wait(self, name: str, seconds: float, times: int) -> None:
        """Wait until the ranks have added to `name` so many times, for so long at most."""
        end = time.monotonic() + seconds
        while self.count(name) < times and time.monotonic() < end:
            time.sleep(0.05)
