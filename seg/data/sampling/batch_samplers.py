"""Which samples a step sees: a function of seed and step, never of ranks or workers."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import BatchSampler, DistributedSampler, Sampler

from seg.data.dataset import Key
from seg.data.sampling.image_samplers import ANYWHERE, Draws
from seg.errors import InputError

Draw = Callable[[int, np.random.Generator], Draws]
"""From the number of samples of an epoch to these samples."""

_STREAM = {
    "seed": "seed_everything",
    "batch_size": "data.batch_size",
    "length": "a number of training images of",
    "drawn_by": "data.sampler",
    "crops_per_image": "data.crops_per_image",
}
"""What decides the order of the samples, and how the user knows it."""

_BEFORE = {"crops_per_image": 1}
"""What checkpoints say that were written before they had it."""

_TOGETHER = 4
"""Most crops of an image that follow each other, so that it is decoded once for all of them."""


class TrainBatchSampler(Sampler[list[Key]]):
    """Shuffled batches of one rank; over all ranks they make up one optimiser step.

    Step k of an epoch takes entries k·B … (k+1)·B - 1 of an order seeded by (seed, epoch), dealt
    out to the ranks in turn: a permutation, or what `draw` draws. With several crops an image, up
    to four of an image follow each other. Entries left over at the end of an epoch are dropped.
    The place in the stream is a state: where `load_state_dict` puts it, the next iteration begins,
    and every further one at the start of an epoch.

    Args:
        length: Number of images.
        batch_size: Samples of one optimiser step, B, over all ranks.
        rank: This process, from 0.
        world_size: Number of processes.
        seed: Seed of the order.
        draw: Draws the samples of an epoch; left out, each comes once.
        sampler: Says what draws; a place in a stream is none in that of another.
        repeat: Whether every epoch has the samples of the first one, crops and augmentation alike.
        crops_per_image: Samples of an epoch, divided by the number of images.

    Raises:
        InputError: If the batch does not divide, or the samples are fewer than one batch.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        draw: Draw | None = None,
        sampler: str | None = None,
        repeat: bool = False,
        crops_per_image: int = 1,
    ) -> None:
        if length * crops_per_image < batch_size:
            raise InputError(
                f"The train split has {length} images, fewer than data.batch_size {batch_size}; "
                "lower data.batch_size, or raise data.crops_per_image where they are large."
            )
        _check_divides(batch_size, world_size)
        self.length = length
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.seed = seed
        self.draw = draw
        self.drawn_by = sampler
        self.repeat = repeat
        self.crops_per_image = crops_per_image
        self.epoch = 0
        self.step = 0
        """Steps of the epoch that are done."""
        self._begin = 0

    @property
    def sampler(self) -> "TrainBatchSampler":
        """Itself: Lightning calls `set_epoch` on a batch sampler's `sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; within it already, stay."""
        if epoch != self.epoch:
            self.epoch, self.step, self._begin = epoch, 0, 0

    def advance(self) -> None:
        """Note that a step's batch was handed out; after an epoch's last the next epoch is due."""
        self.step += 1
        if self.step == len(self):
            self.set_epoch(self.epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """What the stream depends on, and the place in it; the same on every rank."""
        place = {"epoch": self.epoch, "step": self.step}
        return {name: getattr(self, name) for name in _STREAM} | place

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved place, within an epoch or at the start of one, on any number of ranks.

        Raises:
            InputError: If it is a place in another stream.
        """
        for name, option in _STREAM.items():
            before = state.get(name, _BEFORE.get(name))
            if before != getattr(self, name):
                raise InputError(
                    f"The checkpoint was written with {option} {before}, and it is now "
                    f"{getattr(self, name)}: the order of the training images would be another. "
                    f"Resume with {option} {before}, or start a new run from the "
                    "checkpoint's network with --model.init_from."
                )
        self.epoch = state["epoch"]
        self.step = self._begin = state["step"]

    def __len__(self) -> int:
        return self.length * self.crops_per_image // self.batch_size

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, begin = self.epoch, self._begin
        self.step, self._begin = begin, 0
        order = self._order(0 if self.repeat else epoch)
        for start in range(begin * self.batch_size, len(self) * self.batch_size, self.batch_size):
            yield order[start + self.rank : start + self.batch_size : self.world_size]

    def _order(self, epoch: int) -> list[Key]:
        """The keys of all samples of an epoch, of all ranks."""
        generator = np.random.default_rng([self.seed, epoch])
        if self.draw is None and self.crops_per_image == 1:
            return [(epoch, index) for index in generator.permutation(self.length).tolist()]
        indices, places = self._drawn(generator)
        drawn = enumerate(zip(indices.tolist(), places.tolist(), strict=True))
        return [(epoch, index, turn, place) for turn, (index, place) in drawn]

    def _drawn(self, generator: np.random.Generator) -> Draws:
        """The samples of an epoch, in their order."""
        number = self.length * self.crops_per_image
        if self.draw is None:
            images = np.arange(self.length).repeat(self.crops_per_image)
            draws = Draws(images, np.full(number, ANYWHERE))
        else:
            draws = self.draw(number, generator)
        if self.crops_per_image == 1:
            return draws
        order = _together(draws.indices, generator)
        return Draws(draws.indices[order], draws.places[order])


class EvaluationBatchSampler(BatchSampler):
    """Every image exactly once over the ranks, in batches of one size, never padded.

    Rank r takes entries r, r + world_size, …, so that ranks may differ by one image and a rank
    may have none. A batch is given out when it is full; what remains of each size comes last.

    Args:
        sampler: Indices to evaluate. Lightning hands in its own when predicting, and with
            `use_distributed_sampler`; of one that divides and pads the images, all are taken.
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
        divided = isinstance(sampler, DistributedSampler)
        indices = list(range(len(groups)) if divided else sampler)
        self.of_ranks = [
            _equal_batches(indices[r::world_size], groups, batch_size) for r in range(world_size)
        ]
        """The batches of every rank."""
        self.batches = self.of_ranks[rank]
        """The batches of this rank."""

    def __len__(self) -> int:
        """Batches of the rank that has most.

        Lightning leaves an evaluation of length 0 out altogether, for which ranks that have
        images would wait when the counts are summed.
        """
        return max(map(len, self.of_ranks))

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def _together(indices: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """A random order in which up to `_TOGETHER` equal indices follow each other."""
    by_index = np.argsort(indices, kind="stable")
    starts = np.flatnonzero(np.diff(indices[by_index], prepend=-1))
    within = np.arange(len(indices)) - starts.repeat(np.diff(starts, append=len(indices)))
    groups = (within % _TOGETHER == 0).cumsum() - 1
    place = generator.permutation(groups[-1] + 1)[groups]
    return np.asarray(by_index[np.argsort(place, kind="stable")])


def _check_divides(batch_size: int, world_size: int) -> None:
    if batch_size < 1 or batch_size % world_size:
        below = batch_size // world_size * world_size
        nearest = f"{below} or {below + world_size}" if below > 0 else f"{world_size}"
        raise InputError(
            f"data.batch_size {batch_size} is the batch of one optimiser step and must divide by "
            f"the {world_size} ranks; set it to {nearest}."
        )


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
