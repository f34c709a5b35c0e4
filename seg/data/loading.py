"""How loaders go with the trainer and the machine: place in training, workers, threads."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any
from weakref import WeakSet

import cv2
import lightning as L
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from seg.data.dataset import Sample
from seg.data.sampling.batch_samplers import TrainBatchSampler

_MOST_WORKERS = 8
# there is no SIGUSR1 on Windows
_SIGNALS = [getattr(signal, s) for s in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, s)]
_workers: WeakSet[BaseProcess] = WeakSet()
"""Those that this process has started."""


class WorkerLoader(DataLoader[Sample]):
    """A loader whose workers leave signals to this process, and end with it, however it ends.

    Ctrl-C and some launchers send signals to all processes, but this one needs its workers until
    it has saved the run.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        if self.num_workers == 0 or self._iterator is not None:
            return super().__iter__()
        Finalize(None, _kill_workers, exitpriority=0)  # a fork forgets those of its parent
        before = set(multiprocessing.active_children())
        try:
            with _signals_blocked():
                return super().__iter__()
        finally:
            _workers.update(set(multiprocessing.active_children()) - before)


class TrainLoader(WorkerLoader):
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


def make_loader(
    kind: type[WorkerLoader],
    dataset: Dataset[Sample],
    batch_sampler: Any,
    workers: int | None,
    trainer: L.Trainer | None,
) -> WorkerLoader:
    """A loader whose processes, by default `default_workers`, stay from epoch to epoch."""
    if workers is None:
        workers = default_workers(1 if trainer is None else trainer.num_devices)
    return kind(
        dataset,
        batch_sampler=batch_sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=prepare_worker,
    )


@contextmanager
def local_rank_first(trainer: L.Trainer | None) -> Iterator[None]:
    """The first rank of each machine goes through it before the others do."""
    rank = trainer.local_rank if trainer is not None and dist.is_initialized() else None
    if rank is not None and rank > 0:
        dist.barrier()
    yield
    if rank == 0:
        dist.barrier()


def place_of(trainer: L.Trainer | None) -> tuple[int, int]:
    """Rank and number of ranks, of those that divide the samples among them."""
    strategy = None if trainer is None else trainer.strategy
    place = getattr(strategy, "distributed_sampler_kwargs", {"rank": 0, "num_replicas": 1})
    return place["rank"], place["num_replicas"]


def default_workers(devices: int) -> int:
    """One less than a device's share of the cores that this process may use, 0 to 8."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(0, min(_MOST_WORKERS, cores // devices - 1))


def prepare_worker(worker: int) -> None:
    """Keep OpenCV from starting threads in a worker, leave signals to its parent, end with it."""
    cv2.setNumThreads(0)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent's end", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Within it no signal comes; for ever not to the processes that it starts.

    A worker that gets one before `prepare_worker` would die of it, and the run would fail.
    """
    if not hasattr(signal, "pthread_sigmask"):  # as on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill_workers() -> None:
    """End the workers that are left when this process ends.

    Lightning leaves those of the training alone when a run ends within a validation.
    Multiprocessing would send them a SIGTERM, and wait for them for ever.
    """
    left = [worker for worker in _workers if worker in multiprocessing.active_children()]
    in_main_thread = threading.current_thread() is threading.main_thread()
    if left and in_main_thread and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's would raise an error
    for worker in left:
        worker.kill()
