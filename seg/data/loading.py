"""How loaders go with the trainer and the machine: place in training, workers, threads."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
from torch.utils.data import DataLoader

from seg.data.dataset import Sample
from seg.data.sampling.batch_samplers import TrainBatchSampler

_MOST_WORKERS = 8
_ONE_CALL = 1.0
"""Seconds in which several signals count as one: to the process, and to its group."""


class TrainLoader(DataLoader[Sample]):
    """A loader over a `TrainBatchSampler` that can be left and taken up at any step.

    Its state is the place after the last batch handed out, whatever its workers have prepared
    beyond that. Lightning saves it in every checkpoint.
    """

    batch_sampler: TrainBatchSampler

    def state_dict(self) -> dict[str, int]:
        """The sampler's state."""
        return self.batch_sampler.state_dict()

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Begin the next iteration at a saved place.

        Raises:
            InputError: If it is a place in another stream.
        """
        self.batch_sampler.load_state_dict(state)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # begun by the first batch, not before, so that it sees an epoch set until then
        for batch in super().__iter__():
            self.batch_sampler.advance()
            yield batch


def default_workers(devices: int) -> int:
    """One less than a device's share of the cores that this process may use, 0 to 8."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(0, min(_MOST_WORKERS, cores // devices - 1))


def prepare_worker(worker: int) -> None:
    """Keep OpenCV from starting threads in a worker, and leave signals to the main process.

    Ctrl-C and some launchers send them to all processes, but the main one needs the workers until
    its step is over. A later SIGTERM, by which a worker that hangs is ended, works.
    """
    first: list[float] = []

    def terminate(number: int, frame: Any) -> None:
        first.append(time.monotonic())
        if first[-1] - first[0] > _ONE_CALL:
            os._exit(128 + number)

    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):  # not on Windows
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, terminate)
