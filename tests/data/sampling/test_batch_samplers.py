"""A step sees the same samples however they are split; evaluation sees each image once."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from torch.utils.data import Dataset, DistributedSampler

from seg.data.loading import TrainLoader
from seg.data.sampling.batch_samplers import EvaluationBatchSampler, TrainBatchSampler
from seg.errors import InputError

LENGTH, BATCH = 103, 12


def steps(world_size: int, epoch: int = 0) -> list[list[tuple[int, int]]]:
    """What each optimiser step sees, over all ranks."""
    loaded: list[list[tuple[int, int]]] = [[] for _ in range(LENGTH // BATCH)]
    for rank in range(world_size):
        sampler = TrainBatchSampler(LENGTH, BATCH, rank, world_size, seed=5)
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler) == LENGTH // BATCH
        assert {len(batch) for batch in batches} == {BATCH // world_size}
        for i, batch in enumerate(batches):
            loaded[i] += batch
    return [sorted(step) for step in loaded]


@pytest.mark.parametrize("world_size", [2, 3, 4])
@pytest.mark.parametrize("epoch", [0, 3])
def test_a_step_is_the_same_for_any_ranks(world_size: int, epoch: int) -> None:
    assert steps(world_size, epoch) == steps(1, epoch)


def test_an_epoch_sees_no_image_twice_and_carries_its_number() -> None:
    keys = [key for step in steps(2, epoch=3) for key in step]
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


def loader_of(workers: int = 0, rank: int = 0, world_size: int = 1, **stream: int) -> TrainLoader:
    sampler = TrainBatchSampler(
        **{"length": LENGTH, "batch_size": BATCH, "rank": rank, "world_size": world_size} | stream
    )
    return TrainLoader(
        Keys(),
        batch_sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=list,
    )


class Keys(Dataset[tuple[int, int]]):
    """Gives back the key that it is asked for."""

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, int]:
        return key


def stream(loader: TrainLoader, steps: int) -> Iterator[list[tuple[int, int]]]:
    """So many batches of an own training loop, over the ends of epochs."""
    left = steps
    while left > 0:
        for batch in itertools.islice(loader, left):
            left -= 1
            yield batch


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loop_of_ones_own_goes_on_from_the_saved_state_after_any_step(workers: int) -> None:
    per_epoch = LENGTH // BATCH
    whole = list(stream(loader_of(), 2 * per_epoch + 2))
    assert len({key for batch in whole for key in batch}) == len(whole) * BATCH
    loader = loader_of(workers)
    saved = [loader.state_dict() for _ in stream(loader, 2 * per_epoch + 1)]
    stream_of = {"seed": 0, "batch_size": BATCH, "length": LENGTH, "drawn_by": None}
    stream_of["crops_per_image"] = 1
    assert saved[3] == {**stream_of, "epoch": 0, "step": 4}
    assert [saved[per_epoch - 1][key] for key in ("epoch", "step")] == [1, 0]
    for done in (1, 3, per_epoch - 1, per_epoch, per_epoch + 1, 2 * per_epoch):
        resumed = loader_of()
        resumed.load_state_dict(saved[done - 1])
        assert list(stream(resumed, len(whole) - done)) == whole[done:]


def test_a_state_is_taken_up_by_any_number_of_ranks() -> None:
    one = loader_of()
    whole = list(stream(one, 5))
    ranks = [loader_of(rank=rank, world_size=3) for rank in range(3)]
    for loader in ranks:
        loader.load_state_dict({**one.state_dict(), "step": 2})
    for batch, *shares in zip(whole[2:], *(stream(loader, 3) for loader in ranks), strict=True):
        assert sorted(batch) == sorted(key for share in shares for key in share)


def test_an_epoch_that_was_left_begins_anew_and_not_where_it_was_left() -> None:
    loader = loader_of()
    first = next(iter(loader))
    assert next(iter(loader)) == first


def test_setting_the_epoch_that_a_state_is_in_stays_there_and_another_begins_at_its_start() -> None:
    # as Lightning does before every epoch, the one that it goes on with included
    loader, whole = loader_of(), loader_of()
    state = {**loader.state_dict(), "epoch": 2, "step": 5}
    for epoch, done in ((2, 5), (3, 0)):
        whole.batch_sampler.sampler.set_epoch(epoch)
        expected = list(whole)[done:]
        loader.load_state_dict(state)
        loader.batch_sampler.sampler.set_epoch(epoch)
        assert list(loader) == expected


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"seed": 1}, r"with seed_everything 0, and it is now 1: .* Resume with seed_everything 0"),
        ({"batch_size": 6}, r"with data\.batch_size 12, and it is now 6: .* --model\.init_from"),
        ({"length": 99}, r"with a number of training images of 103, and it is now 99"),
        ({"crops_per_image": 3}, r"with data\.crops_per_image 1, and it is now 3"),
    ],
    ids=["seed", "batch", "images", "crops"],
)
def test_a_state_of_another_stream_is_refused(other: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        loader_of(**other).load_state_dict(loader_of().state_dict())


@pytest.mark.parametrize(
    ("batch_size", "world_size", "nearest"), [(10, 4, "8 or 12"), (7, 2, "6 or 8"), (3, 4, "4")]
)
def test_a_batch_that_does_not_divide_names_the_nearest(
    batch_size: int, world_size: int, nearest: str
) -> None:
    with pytest.raises(
        InputError,
        match=rf"data.batch_size {batch_size} .* divide by the {world_size} ranks; "
        rf"set it to {nearest}\.",
    ):
        TrainBatchSampler(LENGTH, batch_size, 0, world_size)


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
    # all ranks take part in an evaluation, also one without an image
    assert {len(s) for s in samplers} == {max(len(list(s)) for s in samplers)}


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


def test_a_repeated_epoch_has_the_keys_of_the_first_on_any_ranks() -> None:
    for world_size in (1, 2):
        for rank in range(world_size):
            given = (LENGTH, BATCH, rank, world_size, 5)
            first, repeated = TrainBatchSampler(*given), TrainBatchSampler(*given, repeat=True)
            repeated.set_epoch(3)
            assert list(repeated) == list(first)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_sampler_that_would_divide_and_pad_the_images_again_is_passed_over(rank):
    groups = [(1, 1)] * 5
    lightnings = DistributedSampler(range(5), num_replicas=2, rank=rank)
    found = EvaluationBatchSampler(lightnings, groups, 2, rank, 2)
    assert found.batches == EvaluationBatchSampler(range(5), groups, 2, rank, 2).batches


def test_a_state_from_before_there_were_several_crops_goes_on_with_one() -> None:
    state = loader_of().state_dict()
    del state["crops_per_image"]
    loader_of().load_state_dict(state)
    with pytest.raises(InputError, match=r"Resume with data\.crops_per_image 1, or start"):
        loader_of(crops_per_image=2).load_state_dict(state)


CROPS = {"length": 7, "batch_size": 10, "crops_per_image": 10}


def keys_of(**given: int) -> list[list[tuple[int, ...]]]:
    return list(TrainBatchSampler(**CROPS | given))


def test_an_epoch_has_so_many_crops_of_every_image_each_with_a_seed_of_its_own() -> None:
    keys = [key for batch in keys_of() for key in batch]
    assert np.bincount([key[1] for key in keys]).tolist() == [10] * 7
    assert len({key[:3] for key in keys}) == 70
    assert {key[3] for key in keys} == {-1}


def test_up_to_four_crops_of_an_image_follow_each_other() -> None:
    indices = [key[1] for batch in keys_of(length=50) for key in batch]
    runs = [len([*group]) for _, group in itertools.groupby(indices)]
    assert 3 * 50 * 0.9 < len(runs) <= 3 * 50  # 4 + 4 + 2 crops of each; few meet by chance
    assert sorted(set(runs))[:2] == [2, 4]


@pytest.mark.parametrize("world_size", [2, 5])
def test_ranks_share_the_steps_of_several_crops(world_size: int) -> None:
    shares = [keys_of(rank=rank, world_size=world_size) for rank in range(world_size)]
    joined = [sorted(itertools.chain(*parts)) for parts in zip(*shares, strict=True)]
    assert joined == [sorted(batch) for batch in keys_of()]


def test_several_crops_go_on_where_they_were_left() -> None:
    whole = keys_of()
    resumed = TrainBatchSampler(**CROPS)
    resumed.load_state_dict({**resumed.state_dict(), "step": 3})
    assert list(resumed) == whole[3:] and len(resumed) == len(whole) == 7


def test_few_images_of_many_crops_fill_a_batch() -> None:
    assert len(TrainBatchSampler(2, 12, crops_per_image=6)) == 1
    with pytest.raises(InputError, match=r"or raise data\.crops_per_image"):
        TrainBatchSampler(2, 12, crops_per_image=5)
