"""A step sees the same samples however they are split; evaluation sees each image once."""

import numpy as np
import pytest
from torch.utils.data import DataLoader

from seg.data.loading import TrainLoader
from seg.data.sampling import EvaluationBatchSampler, TrainBatchSampler

LENGTH, BATCH = 103, 12
SPLITS = [(1, 1), (2, 1), (4, 1), (1, 3), (2, 3), (3, 4)]


def steps(world_size: int, accumulate: int, epoch: int = 0) -> list[list[tuple[int, int]]]:
    """What each optimiser step sees, over all ranks and micro-batches."""
    loaded: list[list[tuple[int, int]]] = [[] for _ in range(LENGTH // BATCH)]
    for rank in range(world_size):
        sampler = TrainBatchSampler(LENGTH, BATCH, rank, world_size, accumulate, seed=5)
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler) == LENGTH // BATCH * accumulate
        assert {len(batch) for batch in batches} == {BATCH // world_size // accumulate}
        for i, batch in enumerate(batches):
            loaded[i // accumulate] += batch
    return [sorted(step) for step in loaded]


@pytest.mark.parametrize(("world_size", "accumulate"), SPLITS)
@pytest.mark.parametrize("epoch", [0, 3])
def test_a_step_is_the_same_for_any_ranks_and_micro_batches(
    world_size: int, accumulate: int, epoch: int
) -> None:
    assert steps(world_size, accumulate, epoch) == steps(1, 1, epoch)


def test_a_micro_batch_of_all_ranks_is_the_same_for_any_ranks() -> None:
    whole = [sorted(batch) for batch in TrainBatchSampler(LENGTH, BATCH, accumulate=3)]
    halves = [TrainBatchSampler(LENGTH, BATCH, rank, 2, accumulate=3) for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*halves, strict=True)] == whole


def test_an_epoch_sees_no_image_twice_and_carries_its_number() -> None:
    keys = [key for step in steps(2, 1, epoch=3) for key in step]
    assert {epoch for epoch, _ in keys} == {3}
    indices = [index for _, index in keys]
    assert len(set(indices)) == len(indices) == LENGTH // BATCH * BATCH
    assert set(indices) <= set(range(LENGTH))


def test_the_order_differs_between_epochs_and_between_seeds() -> None:
    first, second, other = (
        [i for batch in order(seed, epoch) for _, i in batch]
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    )
    assert first != second
    assert first != other
    assert second != other


def order(seed: int, epoch: int) -> list[list[tuple[int, int]]]:
    sampler = TrainBatchSampler(LENGTH, BATCH, seed=seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_every_image_is_left_out_now_and_then_not_always_the_same() -> None:
    seen = {i for epoch in range(10) for batch in order(0, epoch) for _, i in batch}
    assert seen == set(range(LENGTH))


def test_resuming_goes_on_where_the_epoch_stopped_and_then_as_ever() -> None:
    whole = TrainBatchSampler(LENGTH, BATCH, accumulate=2)
    resumed = TrainBatchSampler(LENGTH, BATCH, accumulate=2)
    resumed.resume(epoch=2, micro_batches=5)
    whole.set_epoch(2)
    assert list(resumed) == list(whole)[5:]
    assert list(resumed) == list(whole)[5:]
    for sampler in (resumed, whole):
        sampler.set_epoch(3)
    assert list(resumed) == list(whole)


def test_the_epoch_is_set_where_lightning_looks() -> None:
    sampler = TrainBatchSampler(LENGTH, BATCH)
    loader = TrainLoader(range(LENGTH), batch_sampler=sampler)
    loader.batch_sampler.sampler.set_epoch(4)
    assert next(iter(sampler))[0][0] == 4
    loader.load_state_dict(loader.state_dict())
    assert isinstance(loader, DataLoader)


@pytest.mark.parametrize(
    ("batch_size", "world_size", "accumulate", "nearest"),
    [(10, 4, 1, "8 or 12"), (10, 2, 2, "8 or 12"), (3, 4, 1, "4")],
)
def test_a_batch_that_does_not_divide_names_the_nearest(
    batch_size: int, world_size: int, accumulate: int, nearest: str
) -> None:
    with pytest.raises(
        ValueError,
        match=rf"data.batch_size {batch_size} .* {world_size} \(ranks\) x {accumulate} "
        rf"\(accumulate_grad_batches\) = {world_size * accumulate}; set it to {nearest}\.",
    ):
        TrainBatchSampler(LENGTH, batch_size, 0, world_size, accumulate)


def test_fewer_images_than_a_batch_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"train split has 11 images, fewer than data.batch_size 12"
    ):
        TrainBatchSampler(11, BATCH)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("length", [0, 1, 5, 20])
def test_evaluation_sees_every_image_exactly_once(length: int, world_size: int) -> None:
    groups = [(10, i % 3) for i in range(length)]
    samplers = [
        EvaluationBatchSampler(range(length), groups, 4, rank, world_size)
        for rank in range(world_size)
    ]
    batches = [batch for sampler in samplers for batch in sampler]
    assert sorted(i for batch in batches for i in batch) == list(range(length))
    assert all(len({groups[i] for i in batch}) == 1 for batch in batches)
    assert max(map(len, batches), default=0) <= 4
    assert [len(list(s)) for s in samplers] == [len(s) for s in samplers]


def test_images_of_one_size_are_evaluated_in_their_order() -> None:
    batches = list(EvaluationBatchSampler(range(7), [(1, 1)] * 7, 3))
    assert batches == [[0, 1, 2], [3, 4, 5], [6]]


def test_full_batches_of_a_size_come_first_and_the_rest_last() -> None:
    groups = ["a", "b", "a", "b", "c", "a"]
    batches = list(EvaluationBatchSampler(range(6), groups, 2))
    assert batches == [[0, 2], [1, 3], [4], [5]]


def test_dropping_the_last_images_of_an_evaluation_is_refused() -> None:
    with pytest.raises(ValueError, match="would leave images out"):
        EvaluationBatchSampler(range(5), [0] * 5, 2, drop_last=True)


def test_the_order_is_near_uniform() -> None:
    first = [order(0, epoch)[0][0][1] for epoch in range(400)]
    assert abs(np.mean(first) - (LENGTH - 1) / 2) < 4 * np.std(range(LENGTH)) / 20
