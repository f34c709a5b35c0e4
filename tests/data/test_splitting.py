"""Divisions against what is known of them: whole groups, shares, minima where they can be met."""

import itertools

import numpy as np
import pytest

from seg.data.splitting import Unmet, stratify
from seg.errors import InputError

FRACTIONS = (0.7, 0.15, 0.15)


def long_tail(seed, images=400, classes=5):
    """Pixels of classes that are in half, a quarter, an eighth … of the images."""
    rng = np.random.default_rng(seed)
    shows = rng.random((images, classes)) < 0.5 ** np.arange(1, classes + 1)
    return shows * rng.integers(1, 1000, (images, classes))


def singles(pixels):
    return [str(i) for i in range(len(pixels))]


def images_of(pixels, split, splits=3):
    return np.array([(pixels[split == s] > 0).sum(0) for s in range(splits)])


def distance(pixels, split, fractions=FRACTIONS):
    """Mean relative distance from the wanted share, of images and of pixels of each class."""
    wanted = np.array(fractions)[:, None]
    of_images = images_of(pixels, split) / (pixels > 0).sum(0)
    of_pixels = np.array([pixels[split == s].sum(0) for s in range(3)]) / pixels.sum(0)
    return [np.abs(found - wanted).mean() / wanted.mean() for found in (of_images, of_pixels)]


def test_of_classes_that_exclude_each_other_every_split_has_exactly_its_share():
    pixels = np.eye(4, dtype=np.int64)[np.repeat(np.arange(4), [100, 40, 20, 20])] * 7
    split = stratify(pixels, singles(pixels), FRACTIONS)
    assert images_of(pixels, split).T.tolist() == [[70, 15, 15], [28, 6, 6], [14, 3, 3], [14, 3, 3]]


@pytest.mark.parametrize("kind", [0, 1], ids=["images", "pixels"])
def test_the_shares_of_classes_are_met_far_better_than_by_chance(kind):
    found, chance = [], []
    for seed in range(8):
        pixels = long_tail(seed)
        found.append(distance(pixels, stratify(pixels, singles(pixels), FRACTIONS))[kind])
        rng = np.random.default_rng(seed)
        chance.append(distance(pixels, rng.choice(3, len(pixels), p=FRACTIONS))[kind])
    assert np.mean(found) < np.mean(chance) / 2


@pytest.mark.parametrize("seed", range(8))
def test_the_sizes_of_the_splits_are_near_what_was_asked(seed):
    pixels = long_tail(seed)
    sizes = np.bincount(stratify(pixels, singles(pixels), FRACTIONS)) / len(pixels)
    assert sizes == pytest.approx(FRACTIONS, abs=0.05)


@pytest.mark.parametrize("seed", range(8))
def test_no_group_is_divided(seed):
    pixels = long_tail(seed)
    groups = np.random.default_rng(seed).integers(0, 60, len(pixels)).astype(str)
    split = stratify(pixels, groups, FRACTIONS)
    assert all(len(set(split[groups == g])) == 1 for g in set(groups))


def test_the_order_of_the_images_does_not_matter_and_the_seed_does():
    pixels, names = long_tail(0), singles(long_tail(0))
    order = np.random.default_rng(1).permutation(len(pixels))
    split = stratify(pixels, names, FRACTIONS, seed=3)
    shuffled = stratify(pixels[order], [names[i] for i in order], FRACTIONS, seed=3)
    assert np.array_equal(split[order], shuffled)
    assert not np.array_equal(split, stratify(pixels, names, FRACTIONS, seed=4))


def possible(shows, groups, splits, least):
    """Whether any division has as many images of each class in each split."""
    names = sorted(set(groups))
    wanted = least * (shows.sum(0) > 0)
    for places in itertools.product(range(splits), repeat=len(names)):
        where = np.array([places[names.index(g)] for g in groups])
        if all((shows[where == s].sum(0) >= wanted).all() for s in range(splits)):
            return True
    return False


@pytest.mark.slow
def test_minima_are_met_wherever_any_division_meets_them():
    rng, met, unmet = np.random.default_rng(0), 0, 0
    for _ in range(120):
        images, splits = int(rng.integers(4, 9)), int(rng.integers(2, 4))
        shows = rng.random((images, 3)) < 0.6
        groups = rng.integers(0, 6, images).astype(str).tolist()
        least = int(rng.integers(1, 3))
        fractions = np.full(splits, 1 / splits)
        if possible(shows, groups, splits, least):
            split = stratify(shows * 5, groups, fractions, least)
            counts = images_of(shows, split, splits)
            assert (counts >= least * (shows.sum(0) > 0)).all()
            met += 1
        else:
            with pytest.raises(InputError):
                stratify(shows * 5, groups, fractions, least)
            unmet += 1
    assert met > 20
    assert unmet > 20


def test_what_cannot_be_met_is_said_with_class_and_split():
    pixels = np.array([[1, 1], [1, 0], [1, 0], [1, 0]])
    with pytest.raises(Unmet) as caught:
        stratify(pixels, singles(pixels), (0.5, 0.5))
    assert caught.value.class_id == 1
    assert caught.value.images == 0


def test_a_class_in_no_mask_is_in_no_ones_way():
    pixels = np.array([[1, 0]] * 10)
    split = stratify(pixels, singles(pixels), (0.5, 0.5))
    assert np.bincount(split).tolist() == [5, 5]


def test_images_without_any_class_are_dealt_out_by_size():
    split = stratify(np.zeros((10, 2), np.int64), singles(range(10)), (0.8, 0.2))
    assert np.bincount(split).tolist() == [8, 2]


@pytest.mark.parametrize(
    ("fractions", "least", "message"),
    [
        ((0.7, 0.2), 1, "sum to 1"),
        ((1.2, -0.2), 1, "positive"),
        ((0.5, 0.5), -1, "0 or more"),
        ((0.25, 0.25, 0.25, 0.25), 1, "3 groups cannot fill 4 splits"),
    ],
)
def test_settings_that_are_none_are_refused(fractions, least, message):
    with pytest.raises(InputError, match=message):
        stratify(np.ones((3, 2), np.int64), ["a", "b", "c"], fractions, least)
