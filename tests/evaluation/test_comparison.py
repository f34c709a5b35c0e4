"""Differences of recipes against scipy, closed forms and simulated populations."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from seg.evaluation.comparison import difference, holm
from tests.evaluation.test_intervals import counts_of, drawn


def improved(dense, rng, by):
    """The same images, up to a share of what was missed found."""
    gain = (dense[..., 2] * rng.uniform(0, by, dense.shape[:2])).astype(np.int64)
    return dense + gain[..., None] * [1, 0, -1]


def iou(dense):
    return dense[..., 0].sum(0) / dense.sum((0, 2))


def test_the_interval_is_scipys_paired_bootstrap_of_the_difference():
    rng = np.random.default_rng(0)
    one = drawn(rng, 300, 2)
    other = improved(one, rng, 0.3)

    def statistic(*columns, axis):
        sums = [column.sum(axis) for column in columns]
        return sums[3] / sum(sums[3:]) - sums[0] / sum(sums[:3])

    of_class = [*one[:, 1].T.astype(float), *other[:, 1].T.astype(float)]
    given = {"paired": True, "method": "percentile", "n_resamples": 3000, "random_state": 0}
    expected = bootstrap(of_class, statistic, **given)
    found = difference([counts_of(one)], [counts_of(other)], [0], resamples=3000)
    np.testing.assert_allclose(found.difference[:2], iou(other) - iou(one))
    low, high = expected.confidence_interval
    np.testing.assert_allclose(found.ends[1], [low, high], atol=0.1 * (high - low))


def test_the_images_needed_are_those_of_the_normal_test_of_a_mean():
    rng = np.random.default_rng(1)
    one, other = np.zeros((2, 500, 1, 3), np.int64)
    for dense, share in ((one, 0.5), (other, 0.6)):  # one pixel an image
        dense[:, 0, 0] = rng.random(500) < share
        dense[:, 0, 2] = 1 - dense[:, 0, 0]
    found = difference([counts_of(one)], [counts_of(other)], [0], resamples=3000)
    changes = (other - one)[:, 0, 0]
    expected = ((1.959964 + 0.841621) * changes.std() / (changes.mean() / 2)) ** 2
    assert found.images[0] == pytest.approx(expected, rel=0.1)


def test_one_recipe_under_two_names_does_not_differ():
    counts = counts_of(drawn(np.random.default_rng(2), 50, 3))
    found = difference([counts], [counts], [0], resamples=500)
    assert found.difference.tolist() == [0] * 5
    assert found.p_value.tolist() == [1] * 5
    assert np.isnan(found.images).all()


def test_recipes_that_are_alike_differ_in_five_of_a_hundred_comparisons():
    rng = np.random.default_rng(3)
    p_values = []
    for seed in range(60):
        dense = drawn(rng, 60, 10)
        runs = [[counts_of(improved(dense, rng, 0.6))] for _ in range(2)]
        found = difference(*runs, [0], resamples=400, seed=seed)
        inside = (found.ends[:, 0] <= 0) & (found.ends[:, 1] >= 0)
        # the p-value counts one resample more, so that it is never 0
        assert not (inside & (found.p_value < 0.045)).any()
        assert not (~inside & (found.p_value > 0.065)).any()
        p_values += found.p_value[:10].tolist()
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.08
    assert 0.4 <= np.mean(p_values) <= 0.6


def test_runs_of_several_seeds_are_drawn_again_with_the_spread_that_they_have():
    dense = np.tile(drawn(np.random.default_rng(4), 1, 1) + 100, (50, 1, 1))  # images alike
    runs = [counts_of(dense + np.array([0, wrong, 0])) for wrong in (0, 30, 90)]
    alone = counts_of(dense)
    found = difference([alone], runs, [0], resamples=3000)
    values = np.array([iou(dense + np.array([0, wrong, 0]))[0] for wrong in (0, 30, 90)])
    assert found.second[0] == pytest.approx(values.mean())
    half = 1.96 * values.std(ddof=1) / np.sqrt(3)
    assert np.ptp(found.ends[0]) == pytest.approx(2 * half, rel=0.15)
    assert np.ptp(difference([alone], runs[2:], [0], resamples=300).ends[0]) == pytest.approx(
        0, abs=1e-12
    )


def test_groups_that_are_alike_within_count_as_one():
    rng = np.random.default_rng(5)
    one = drawn(rng, 30, 2)
    other = improved(one, rng, 0.3)
    groups = [f"{i // 3:05d}" for i in range(90)]
    alone = difference([counts_of(one)], [counts_of(other)], [0], resamples=300)
    thrice = [[counts_of(dense.repeat(3, axis=0))] for dense in (one, other)]
    together = difference(*thrice, [0], groups, resamples=300)
    np.testing.assert_allclose(together.ends, alone.ends, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(together.p_value, alone.p_value)
    np.testing.assert_allclose(together.images, 3 * alone.images, rtol=0.1)  # as they are grouped


def test_a_class_that_one_recipe_never_shows_has_no_difference():
    dense = drawn(np.random.default_rng(6), 40, 3)
    dense[:, 2] = 0
    wrong = dense.copy()
    wrong[0, 2, 1] = 5  # predicted where it never is
    found = difference([counts_of(dense)], [counts_of(wrong)], [0], resamples=300)
    assert np.isnan(
        [found.difference[2], found.ends[2, 0], found.p_value[2], found.images[2]]
    ).all()
    assert not np.isnan(found.p_value[:2]).any()


def test_holms_correction_is_that_of_his_example():
    nan = np.nan
    found = holm(np.array([0.01, 0.04, nan, 0.03, 0.005]))
    # 4 · 0.005, 3 · 0.01, 2 · 0.03, and 0.04, which must not fall below the one before
    np.testing.assert_allclose(found, [0.03, 0.06, nan, 0.06, 0.02])
    assert holm(np.array([0.6, 0.7])).tolist() == [1, 1]
    assert np.isnan(holm(np.array([nan]))).all()
