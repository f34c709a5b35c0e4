"""How loaders go with the trainer and the machine: place in training, workers, threads."""

import os
from typing import Any

import cv2
import lightning as L
from torch.utils.data import DataLoader

from seg.data.dataset import Sample

_MOST_WORKERS = 8


class TrainLoader(DataLoader[Sample]):
    """A loader that Lightning takes to be resumable, which it is: see `TrainBatchSampler.resume`.

    Its state is empty because the position is read from the trainer's progress, which, unlike a
    count of the batches handed out, is also right at the end of an epoch.
    """

    def state_dict(self) -> dict[str, Any]:
        """Nothing to save."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""


def position(trainer: L.Trainer, length: int) -> tuple[int, int]:
    """Epoch, and its micro-batches done, of a trainer that may go on from a checkpoint.

    Read from the optimiser steps, which no stage of Lightning's restart changes; micro-batches
    of an unfinished step are counted because Lightning goes on after them.

    Args:
        trainer: Trainer with its progress restored.
        length: Micro-batches of a whole epoch.
    """
    limit, accumulate = trainer.limit_train_batches, trainer.accumulate_grad_batches
    batches = min(length, limit) if isinstance(limit, int) else int(length * limit)
    steps = max(1, -(-batches // accumulate))
    epoch, step = divmod(trainer.global_step, steps)
    start = step * accumulate
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    done = int(progress.processed)
    return epoch, done if start < done < start + accumulate else start


def default_workers(devices: int) -> int:
    """One less than a device's share of the cores that this process may use, 0 to 8."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(0, min(_MOST_WORKERS, cores // devices - 1))


def one_thread(worker: int) -> None:
    """Keep OpenCV from starting threads of its own in every worker."""
    cv2.setNumThreads(0)
