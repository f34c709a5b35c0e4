"""Intervals against simulated populations, closed forms and scipy."""

import numpy as np
import pytest
from scipy.stats import bootstrap, norm

from seg.evaluation import resampling
from seg.evaluation.image_counts import ImageCounts
from seg.evaluation.intervals import FEWEST, intervals
from seg.evaluation.resampling import class_scores, resampled_sums


def counts_of(dense):
    """Counts (N, C, 3) as a metric keeps them."""
    image, class_id = np.nonzero(dense.any(axis=2))
    names = tuple(f"{i:05d}" for i in range(len(dense)))
    return ImageCounts(names, dense.shape[1], image, class_id, dense[image, class_id])


def drawn(rng, images, classes, share=1.0):
    """Images of a population in which each class is in a share of them, its size lognormal."""
    shape = images, classes
    present = rng.random(shape) < share
    size = np.exp(rng.normal(5, 0.8, shape)) * present
    recall = rng.beta(6, 2, shape)
    wrong = np.exp(rng.normal(3, 0.8, shape)) * present
    return np.stack([size * recall, wrong, size * (1 - recall)], 2).round().astype(np.int64)


IOU = np.exp(5) * 0.75 / (np.exp(5) + np.exp(3))
"""Of that population: E tp / E (tp + fp + fn); the factor exp(0.8² / 2) is in each."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("images", "share", "least"), [(60, 1.0, 0.92), (100, 0.3, 0.90), (200, 0.06, 0.90)]
)
def test_of_a_hundred_intervals_95_hold_the_iou_of_the_population(images, share, least):
    rng = np.random.default_rng(1)
    held = []
    for seed in range(40):
        found = intervals(counts_of(drawn(rng, images, 12, share)), [0, 1], None, 400, seed)
        low, high = found.ends["iou"].T
        known = ~np.isnan(low)
        held += ((low < IOU) & (high > IOU))[known].tolist()
    assert len(held) > 300
    assert least <= np.mean(held) <= 0.97


@pytest.mark.slow
def test_the_intervals_of_the_means_hold_the_mean_of_the_population():
    rng = np.random.default_rng(2)
    held = []
    for seed in range(200):
        counts = counts_of(drawn(rng, 100, 4, np.array([1, 0.5, 0.3, 0.2])))
        found = intervals(counts, [2, 3], None, 300, seed).ends
        held.append([low < IOU < high for low, high in (found["miou"], found["miou_rare"])])
    of_all, of_rare = np.mean(held, axis=0)
    assert 0.90 <= of_all <= 0.98
    assert 0.90 <= of_rare <= 0.98


def test_a_mean_that_rests_on_classes_of_few_images_has_no_interval():
    dense = drawn(np.random.default_rng(9), 100, 4)
    assert not np.isnan(intervals(counts_of(dense), [0, 1]).ends["miou"]).any()
    dense[3:, 1] = 0  # varies more than all others together
    found = intervals(counts_of(dense), [2, 3]).ends
    assert np.isnan(found["miou"]).all()
    assert not np.isnan(found["miou_rare"]).any()


def test_the_interval_of_a_share_of_pixels_is_that_of_the_binomial_distribution():
    found = np.zeros((2000, 1, 3), np.int64)
    found[:, 0, 0] = np.arange(2000) < 1400  # one pixel an image, found or missed
    found[:, 0, 2] = 1 - found[:, 0, 0]
    half = norm.ppf(0.975) * np.sqrt(0.7 * 0.3 / 2000)
    ends = intervals(counts_of(found), [0], resamples=4000).ends
    np.testing.assert_allclose(ends["recall"][0], [0.7 - half, 0.7 + half], atol=0.002)
    np.testing.assert_allclose(ends["iou"], ends["recall"])


def test_for_many_images_the_interval_is_scipys_percentile_bootstrap():
    dense = drawn(np.random.default_rng(3), 400, 2)
    of_class = tuple(dense[:, 0].T.astype(float))

    def iou(tp, fp, fn, axis):
        return tp.sum(axis) / (tp.sum(axis) + fp.sum(axis) + fn.sum(axis))

    given = {"paired": True, "method": "percentile", "n_resamples": 4000, "random_state": 0}
    expected = bootstrap(of_class, iou, **given).confidence_interval
    found = intervals(counts_of(dense), [0], resamples=4000).ends["iou"][0]
    np.testing.assert_allclose(found, expected, atol=0.1 * (expected.high - expected.low))


def test_images_of_a_group_count_as_one_however_many_they_are():
    dense = drawn(np.random.default_rng(4), 30, 3)
    groups = [f"{i // 4:05d}" for i in range(120)]
    alone = intervals(counts_of(dense), [0, 2])
    together = intervals(counts_of(dense.repeat(4, axis=0)), [0, 2], groups)
    for name, ends in alone.ends.items():
        np.testing.assert_allclose(together.ends[name], ends, rtol=1e-12)
    assert together.drawn == 30 and together.grouped
    assert together.images.tolist() == [120] * 3
    assert together.groups.tolist() == [30] * 3


def test_a_class_in_too_few_images_has_no_interval_and_one_that_is_absent_neither():
    dense = drawn(np.random.default_rng(5), 40, 4)
    dense[FEWEST:, 1] = 0
    dense[FEWEST - 1 :, 2] = 0
    dense[:, 3] = 0
    found = intervals(counts_of(dense), [0])
    for name in resampling.SCORES:
        assert np.isnan(found.ends[name]).all(axis=1).tolist() == [False, False, True, True]
    assert found.images.tolist() == [40, FEWEST, FEWEST - 1, 0]
    assert not np.isnan(found.ends["miou_rare"]).any()


def test_a_class_that_is_hardly_predicted_has_an_interval_of_its_recall_alone():
    dense = drawn(np.random.default_rng(6), 40, 1)
    dense[5:, 0, 2] += dense[5:, 0, 0]
    dense[5:, 0, :2] = 0
    found = intervals(counts_of(dense), [0]).ends
    assert np.isnan(found["precision"]).all()
    assert not np.isnan(found["recall"]).any()


def test_a_split_of_too_few_images_has_no_interval_at_all():
    found = intervals(counts_of(drawn(np.random.default_rng(7), FEWEST - 1, 2)), [0])
    assert all(np.isnan(ends).all() for ends in found.ends.values())


def test_the_sums_are_whole_numbers_that_depend_on_the_seed_alone(monkeypatch):
    counts = counts_of(drawn(np.random.default_rng(8), 50, 3))
    whole = np.concatenate([*resampled_sums(counts, 40, seed=1)])
    monkeypatch.setattr(resampling, "_DRAWN", 7 * 50)
    monkeypatch.setattr(resampling, "_BLOCK", 11)
    parts = [*resampled_sums(counts, 40, seed=1)]
    assert len(parts) == 6
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert np.array_equal(whole, whole.astype(np.int64))
    assert not np.array_equal(np.concatenate([*resampled_sums(counts, 40, seed=2)]), whole)


def test_the_scores_of_counts_are_nan_where_nothing_is_counted():
    found = class_scores(np.array([[6, 2, 0], [0, 0, 3], [0, 0, 0]]))
    np.testing.assert_allclose(found["iou"], [0.75, 0, np.nan])
    np.testing.assert_allclose(found["dice"], [12 / 14, 0, np.nan])
    np.testing.assert_allclose(found["precision"], [0.75, np.nan, np.nan])
    np.testing.assert_allclose(found["recall"], [1, 0, np.nan])
