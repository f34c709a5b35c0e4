import numpy as np
import pytest
from scipy import stats

from seg.data.sampling.batch_samplers import TrainBatchSampler
from seg.data.sampling.image_samplers import ANYWHERE, ClassFirstSampler, RepeatFactorSampler
from seg.data.scan.components import find_regions
from seg.data.scan.table import Scan
from seg.errors import InputError

CLASSES = 4


def masks(count=30, size=(12, 10)):
    """Class 0 is everywhere, 1 in every second, 2 in every fifth image, 3 in none."""
    rng = np.random.default_rng(0)
    for i in range(count):
        mask = np.zeros(size, np.uint8)
        if i % 2 == 0:
            mask[rng.integers(12), :5] = 1
        if i % 5 == 0:
            mask[rng.integers(12), rng.integers(10)] = 2
        yield mask


MASKS = list(masks())
SCAN = Scan.of([find_regions(mask, CLASSES) for mask in MASKS], CLASSES)


def drawn_classes(draws):
    """Class of the pixel that each crop has to show, or ANYWHERE."""
    return np.array(
        [
            ANYWHERE if place == ANYWHERE else MASKS[index].ravel()[place]
            for index, place in zip(*draws, strict=True)
        ]
    )


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_classes_are_drawn_as_often_as_their_shares_say(tau, share):
    length = 20_000
    found = drawn_classes(
        ClassFirstSampler(tau, share).draw(SCAN, length, np.random.default_rng(1))
    )
    pixels = np.array([sum((mask == c).sum() for mask in MASKS) for c in range(3)])
    weights = (pixels / pixels.sum()) ** -tau
    expected = {ANYWHERE: share, **dict(enumerate((1 - share) * weights / weights.sum()))}
    observed = [(found == c).sum() for c, p in expected.items() if p > 0]
    wanted = [length * p for p in expected.values() if p > 0]
    assert sum(observed) == length  # none of class 3, which has no pixel
    assert stats.chisquare(observed, wanted).pvalue > 0.01


def test_images_of_a_class_and_its_pixels_are_drawn_alike():
    draws = ClassFirstSampler(0.0, 0.0).draw(SCAN, 30_000, np.random.default_rng(2))
    found = drawn_classes(draws)
    images, counts = np.unique(draws.indices[found == 1], return_counts=True)
    assert images.tolist() == list(range(0, 30, 2))
    assert stats.chisquare(counts).pvalue > 0.01
    of_first = draws.places[(found == 1) & (draws.indices == 2)]
    places, counts = np.unique(of_first, return_counts=True)
    assert places.tolist() == np.flatnonzero(MASKS[2].ravel() == 1).tolist()
    assert stats.chisquare(counts).pvalue > 0.01


def test_uniform_draws_take_every_image_before_one_comes_again():
    draws = ClassFirstSampler(uniform_share=1.0).draw(SCAN, 45, np.random.default_rng(3))
    assert sorted(draws.indices[:30]) == list(range(30))
    assert len(set(draws.indices[30:])) == 15
    assert set(draws.places) == {ANYWHERE}


def test_images_repeat_by_the_rarest_of_their_classes():
    sampler = RepeatFactorSampler(0.5)
    # shares of the images: 1, 1/2 and 1/5
    expected = [np.sqrt(0.5 / 0.2) if i % 5 == 0 else 1.0 for i in range(30)]
    assert np.allclose(sampler.repeat_factors(SCAN), expected)
    total = np.zeros(30)
    for seed in range(2000):
        draws = sampler.draw(SCAN, 30, np.random.default_rng(seed))
        counts = np.bincount(draws.indices, minlength=30)
        wanted = 30 * np.array(expected) / sum(expected)
        assert len(draws.indices) == 30
        assert (counts >= np.floor(wanted)).all() and (counts <= np.ceil(wanted)).all()
        total += counts
    assert np.abs(total / 2000 - wanted).max() < 4 * 0.5 / np.sqrt(2000)  # 4 standard errors


@pytest.mark.parametrize("sampler", [ClassFirstSampler(), RepeatFactorSampler()], ids=repr)
def test_ranks_share_one_stream_that_goes_on_where_it_was_left(sampler):
    def stream(rank, world):
        draw = lambda length, generator: sampler.draw(SCAN, length, generator)  # noqa: E731
        return TrainBatchSampler(30, 4, rank, world, 7, draw, repr(sampler))

    whole = stream(0, 1)
    epochs = []
    for epoch in range(2):
        whole.set_epoch(epoch)
        epochs.append(list(whole))
    parts = [list(stream(rank, 2)) for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(b) for b in epochs[0]]
    assert epochs[0] != epochs[1]
    resumed = stream(0, 1)
    resumed.load_state_dict({**whole.state_dict(), "epoch": 1, "step": 3})
    assert list(resumed) == epochs[1][3:]
    keys = [key for batch in epochs[0] for key in batch]
    assert len({key[:3] for key in keys}) == len(keys)  # each augmented by a seed of its own


def test_several_crops_are_drawn_as_often_as_by_a_longer_epoch():
    draw = lambda length, generator: ClassFirstSampler().draw(SCAN, length, generator)  # noqa: E731
    sampler = TrainBatchSampler(30, 10, seed=3, draw=draw, crops_per_image=5)
    keys = [key for batch in sampler for key in batch]
    drawn = draw(150, np.random.default_rng([3, 0]))
    assert sorted(key[1] for key in keys) == sorted(drawn.indices.tolist())
    pairs = zip(drawn.indices.tolist(), drawn.places.tolist(), strict=True)
    assert sorted((key[1], key[3]) for key in keys) == sorted(pairs)


def test_a_place_in_the_stream_of_another_sampler_is_refused():
    draw = lambda length, generator: ClassFirstSampler().draw(SCAN, length, generator)  # noqa: E731
    sampler = TrainBatchSampler(30, 4, draw=draw, sampler=repr(ClassFirstSampler()))
    uniform = TrainBatchSampler(30, 4)
    with pytest.raises(InputError, match=r"data.sampler None, and it is now ClassFirstSampler\("):
        sampler.load_state_dict(uniform.state_dict())
    before_samplers = {k: v for k, v in uniform.state_dict().items() if k != "drawn_by"}
    uniform.load_state_dict(before_samplers)  # of a checkpoint that knows of none


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ClassFirstSampler(tau=-1), "tau -1"),
        (lambda: ClassFirstSampler(uniform_share=1.5), "uniform_share 1.5"),
        (lambda: RepeatFactorSampler(0), "threshold 0"),
    ],
)
def test_values_out_of_range_are_refused(make, text):
    with pytest.raises(InputError, match=text):
        make()
