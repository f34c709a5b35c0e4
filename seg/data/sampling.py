"""Which samples a step sees: a function of seed and step, never of ranks or workers."""

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from torch.utils.data import BatchSampler, Sampler

from seg.errors import InputError

Key = tuple[int, int]
"""Epoch and index of a training sample; the epoch seeds its augmentation."""


class TrainBatchSampler(Sampler[list[Key]]):
    """Shuffled batches of one rank; over all ranks and micro-batches they make up one step.

    Step k of an epoch takes entries k·B … (k+1)·B - 1 of a permutation seeded by (seed, epoch).
    Each micro-batch is a consecutive part of them, dealt out to the ranks in turn. Entries left
    over at the end of an epoch are dropped.

    Args:
        length: Number of samples.
        batch_size: Samples of one optimiser step, B, over all ranks and micro-batches.
        rank: This process, from 0.
        world_size: Number of processes.
        accumulate: Micro-batches of one optimiser step.
        seed: Seed of the order.

    Raises:
        InputError: If the batch does not divide, or the samples are fewer than one batch.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        seed: int = 0,
    ) -> None:
        if length < batch_size:
            raise InputError(
                f"The train split has {length} images, fewer than data.batch_size {batch_size}; "
                "lower data.batch_size."
            )
        micro_batch_size(batch_size, world_size, accumulate)
        self.length = length
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.accumulate = accumulate
        self.seed = seed
        self.epoch = 0
        self._resumed = (0, 0)

    @property
    def sampler(self) -> "TrainBatchSampler":
        """Itself: Lightning calls `set_epoch` on a batch sampler's `sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation and the augmentations of the next iteration."""
        self.epoch = epoch

    def resume(self, epoch: int, micro_batches: int) -> None:
        """Go on within an epoch, of which so many micro-batches are done."""
        self.epoch = epoch
        self._resumed = (epoch, micro_batches)

    def __len__(self) -> int:
        return self.length // self.batch_size * self.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = self.epoch
        order = np.random.default_rng([self.seed, epoch]).permutation(self.length).tolist()
        part = self.batch_size // self.accumulate
        done = self._resumed[1] if self._resumed[0] == epoch else 0
        for start in range(done * part, len(self) * part, part):
            share = order[start + self.rank : start + part : self.world_size]
            yield [(epoch, index) for index in share]


class EvaluationBatchSampler(BatchSampler):
    """Every image exactly once over the ranks, in batches of one size, never padded.

    Rank r takes entries r, r + world_size, …, so that ranks may differ by one image and a rank
    may have none. A batch is given out when it is full; what remains of each size comes last.

    Args:
        sampler: Indices to evaluate (Lightning hands in its own when predicting).
        groups: What must be equal within a batch, one an index: usually height and width.
        batch_size: Most images of a batch.
        rank: This process, from 0.
        world_size: Number of processes.
        drop_last: Always false: evaluation leaves nothing out.

    Raises:
        InputError: If `drop_last` is asked for, or `batch_size` is not positive.
    """

    def __init__(
        self,
        sampler: Sampler[int] | Sequence[int],
        groups: Sequence[Hashable],
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        if drop_last:
            raise InputError("drop_last would leave images out of an evaluation; keep it false.")
        super().__init__(sampler, batch_size, drop_last=False)
        shard = list(sampler)[rank::world_size]
        self._batches = _equal_batches(shard, groups, batch_size)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)


def micro_batch_size(batch_size: int, world_size: int, accumulate: int) -> int:
    """Samples that one rank loads at once.

    Raises:
        InputError: If the batch of a step does not divide; the nearest that do are named.
    """
    parts = world_size * accumulate
    if batch_size < 1 or batch_size % parts:
        below = batch_size // parts * parts
        nearest = f"{below} or {below + parts}" if below > 0 else f"{parts}"
        raise InputError(
            f"data.batch_size {batch_size} is the batch of one optimiser step and must divide by "
            f"{world_size} (ranks) x {accumulate} (accumulate_grad_batches) = {parts}; "
            f"set it to {nearest}."
        )
    return batch_size // parts


def _equal_batches(
    indices: Sequence[int], groups: Sequence[Hashable], batch_size: int
) -> list[list[int]]:
    batches: list[list[int]] = []
    waiting: dict[Hashable, list[int]] = {}
    for index in indices:
        batch = waiting.setdefault(groups[index], [])
        batch.append(index)
        if len(batch) == batch_size:
            batches.append(waiting.pop(groups[index]))
    return [*batches, *waiting.values()]
