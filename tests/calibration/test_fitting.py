"""Biases of the logits against brute force, planted shifts and formulas written out."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from seg.calibration import (
    LogOdds,
    PixelSample,
    below_largest,
    calibration_errors,
    cross_fitted,
    fit_temperature,
    log_odds,
    prior_bias,
    sample,
)
from seg.calibration.fitting import SHARES, least_share, parts_of, rarest_classes
from seg.calibration.histograms import DEEPEST, LIMIT, STEP
from seg.calibration.priors import fit_biased_temperature
from seg.calibration.probabilities import PIXELS, log_probabilities, nll
from seg.calibration.searching import confusion, iou, search
from seg.errors import InputError
from seg.evaluation.metrics import confusion_matrix, scores
from seg.inference.whole_images import labels

ROOM = 2**20


def picture(seed, classes=4, size=(20, 30)):
    """Logits (C, H, W) on a grid of steps, with ties, and a target with ignored pixels."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, 30, (classes, *size), generator=generator)
    target = torch.randint(0, classes, size, generator=generator).byte()
    target[torch.rand(size, generator=generator) < 0.2] = 255
    favoured = target.long().clamp(max=classes - 1)
    levels.scatter_add_(0, favoured[None], torch.full((1, *size), 9))
    return levels * STEP, target


def odds_of(pictures):
    return [log_odds(*below_largest(*p, 255)) for p in pictures]


def together(images):
    return LogOdds.of(images, np.zeros(len(images), np.int64))


def decided(logits, bias):
    """What `argmax` decides, with the biases in steps."""
    return labels(logits[None], torch.tensor(bias * STEP, dtype=torch.float32))[0]


@pytest.mark.parametrize("seed", range(5))
def test_the_confusion_of_any_biases_is_that_of_argmax_over_all_pixels(seed):
    logits, target = picture(seed)
    (odds,) = odds_of([(logits, target)])
    rng = np.random.default_rng(seed)
    for _ in range(10):
        bias = rng.integers(-LIMIT, LIMIT + 1, 4)
        expected = confusion_matrix(decided(logits, bias), target, 4)
        assert np.array_equal(confusion(odds, bias), expected)


def test_logits_below_the_deepest_level_are_out_of_reach_of_any_bias():
    logits = torch.tensor([[[0.0]], [[-DEEPEST * STEP - 1]]])
    (odds,) = odds_of([(logits, torch.ones(1, 1).byte())])
    assert odds.levels[1, 0] == DEEPEST
    assert confusion(odds, np.array([-LIMIT, LIMIT]))[1].tolist() == [1, 0]


def test_rows_that_are_equal_are_one_in_an_image_and_in_a_part():
    logits, target = torch.zeros(3, 4, 4), torch.ones(4, 4).byte()
    images = odds_of([(logits, target)] * 7)
    assert [image.counts.tolist() for image in images] == [[16]] * 7
    merged = LogOdds.of(images, np.array([0, 0, 1, 1, 2, 2, 2]))
    assert merged.counts.tolist() == [32, 32, 48]
    assert merged.folds.tolist() == [0, 1, 2]


def test_an_image_without_a_pixel_that_counts_adds_nothing():
    whole = picture(0)
    empty = whole[0], torch.full_like(whole[1], 255)
    alone, both = together(odds_of([whole])), together(odds_of([empty, whole]))
    assert all(np.array_equal(a, b) for a, b in zip(alone, both, strict=True))


def different_rows(seed):
    """A hundred thousand rows, nearly all different, of five classes of which two are rare."""
    logits, target = picture(seed, 5, (300, 450))
    rare = torch.rand(target.shape, generator=torch.Generator().manual_seed(seed)) < 0.98
    target[(target > 2) & rare] = 255
    offset = STEP * torch.tensor([6, 0, -3, -8, -10])[:, None, None]
    return together(odds_of([(logits + offset, target)]))


def test_few_rows_are_not_thinned():
    odds = together(odds_of([picture(0)]))
    assert odds.thinned(len(odds.counts)) is odds


@pytest.mark.parametrize("rows", [100, 3000, 20_000])
def test_thinning_keeps_rare_classes_and_the_pixels_of_frequent_ones(rows):
    odds = different_rows(0)
    thin = odds.thinned(rows)
    assert len(thin.counts) <= rows
    for c, pixels in enumerate(odds.pixels()):
        kept, every = (o.counts[o.labels == c] for o in (thin, odds))
        if len(every) <= rows // 5:
            assert kept.tolist() == every.tolist()
        else:
            assert kept.sum() == pytest.approx(pixels, abs=kept.min())


@pytest.mark.parametrize("seed", range(3))
def test_biases_found_in_thinned_rows_are_as_good_on_all_of_them(seed):
    odds = different_rows(seed)
    best = mean_iou(odds, search(odds, range(5)), range(5))
    assert best > mean_iou(odds, np.zeros(5, np.int64), range(5)) + 0.02
    thin = odds.thinned(len(odds.counts) // 3)
    assert len(thin.counts) < len(odds.counts) / 3
    assert mean_iou(odds, search(thin, range(5)), range(5)) == pytest.approx(best, abs=1e-3)


def test_one_logit_is_two_classes():
    z = torch.tensor([[[-1.0, 2.0, 0.25]]])
    (odds,) = odds_of([(z, torch.tensor([[0, 1, 0]]).byte())])
    assert odds.levels.shape[0] == 2
    assert confusion(odds, np.zeros(2, np.int64)).tolist() == [[1, 1], [0, 1]]
    assert confusion(odds, np.array([3, 0])).tolist() == [[2, 0], [0, 1]]


def mean_iou(odds, bias, classes):
    return np.nanmean(iou(confusion(odds, np.array(bias)))[list(classes)])


@pytest.mark.parametrize("seed", range(4))
def test_no_change_of_one_bias_improves_what_was_found(seed):
    odds = together(odds_of([picture(seed)]))
    found = search(odds, range(4))
    best = mean_iou(odds, found, range(4))
    assert best >= mean_iou(odds, np.zeros(4, np.int64), range(4))
    for c, value in itertools.product(range(4), range(-LIMIT, LIMIT + 1)):
        changed = found.copy()
        changed[c] = value
        assert mean_iou(odds, changed, range(4)) <= best + 1e-12


@pytest.mark.parametrize("seed", range(4))
def test_of_two_classes_the_search_finds_the_best_there_is(seed):
    odds = together(odds_of([picture(seed, classes=2)]))
    found = mean_iou(odds, search(odds, range(2)), range(2))
    every = range(-LIMIT, LIMIT + 1)
    assert found == max(mean_iou(odds, b, range(2)) for b in itertools.product(every, every))


def test_scores_are_those_of_the_metrics():
    counts = torch.randint(0, 50, (5, 5), generator=torch.Generator().manual_seed(0))
    counts[3], counts[:, 3] = 0, 0
    expected = scores(counts).iou.numpy()
    np.testing.assert_allclose(iou(counts.numpy()), expected, rtol=1e-15)


def gaussian(priors, seed, size=(120, 120), offset=0.0):
    """Bayes' logits for those priors, of classes at distances of 3 standard deviations."""
    rng = np.random.default_rng(seed)
    target = rng.choice(len(priors), size, p=priors)
    x = 3.0 * target + rng.normal(size=size)
    means = 3.0 * np.arange(len(priors))[:, None, None]
    logits = np.log(priors)[:, None, None] - (x - means) ** 2 / 2 + np.reshape(offset, (-1, 1, 1))
    return torch.from_numpy(logits), torch.from_numpy(target).byte()


def test_an_offset_that_was_planted_is_found_and_taken_back():
    priors, offset = np.array([0.8, 0.15, 0.05]), np.array([1.0, 0.0, -1.5])
    without = together(odds_of([gaussian(priors, s) for s in range(5)]))
    shifted = together(odds_of([gaussian(priors, s, offset=offset) for s in range(5)]))
    first, second = (search(o, range(3)) * STEP for o in (without, shifted))
    moved = (second - second.mean()) - (first - first.mean())
    assert moved == pytest.approx(-(offset - offset.mean()), abs=2 * STEP)
    gained = mean_iou(shifted, search(shifted, range(3)), range(3))
    assert gained == pytest.approx(mean_iou(without, search(without, range(3)), range(3)), abs=2e-3)


@pytest.mark.parametrize("c", range(5))
@pytest.mark.parametrize("nats", [-4.0, 4.0])
def test_an_offset_of_one_class_by_nearly_the_deepest_level_costs_nothing(c, nats):
    priors, offset = np.array([0.7, 0.1, 0.1, 0.05, 0.05]), np.eye(5)[c] * nats
    without = together(odds_of([gaussian(priors, s) for s in range(5)]))
    shifted = together(odds_of([gaussian(priors, s, offset=offset) for s in range(5)]))
    best, reached = (mean_iou(o, search(o, range(5)), range(5)) for o in (without, shifted))
    assert reached == pytest.approx(best, abs=1e-3)


def test_the_figure_after_is_of_images_whose_neighbours_the_biases_were_not_fitted_to():
    images = odds_of([picture(seed) for seed in range(7)])
    fit = cross_fitted(images)
    total = np.zeros((4, 4), np.int64)
    for run in ([0], [1], [2, 3], [4], [5, 6]):
        others = [image for i, image in enumerate(images) if i not in run]
        bias = np.rint(fit.share * search(together(others), range(4))).astype(np.int64)
        for i in run:
            total += confusion(images[i], bias)
    np.testing.assert_array_equal(fit.after, iou(total))
    merged = together(images)
    np.testing.assert_array_equal(fit.before, iou(confusion(merged, np.zeros(4, np.int64))))
    np.testing.assert_array_equal(fit.bias, np.rint(fit.share * search(merged, range(4))) * STEP)
    assert fit.gain == pytest.approx(fit.after.mean() - fit.before.mean())


def jackknife(counts, share, other):
    """How far one share is behind another, and the standard error, written out."""

    def gap(parts):
        return [np.nanmean(iou(counts[s][parts].sum(0))) for s in (other, share)]

    each = [np.subtract(*gap([k for k in range(5) if k != left])) for left in range(5)]
    spread = sum((e - np.mean(each)) ** 2 for e in each)
    return np.subtract(*gap(list(range(5)))), np.sqrt(4 / 5 * spread)


@pytest.mark.parametrize("seed", range(8))
def test_the_least_share_is_behind_the_best_by_its_standard_error_at_most(seed):
    rng = np.random.default_rng(seed)
    right = 500 + 40 * np.arange(len(SHARES)) ** 0.5  # gains that grow ever less
    right = right[:, None, None] + rng.normal(0, 15, (len(SHARES), 5, 3))
    counts = rng.integers(100, 150, (len(SHARES), 5, 3, 3))
    counts[..., range(3), range(3)] = right
    best = int(np.argmax([np.nanmean(iou(c.sum(0))) for c in counts]))
    within = [s for s in range(len(SHARES)) if np.less_equal(*jackknife(counts, s, best))]
    assert least_share(counts, range(3)) == within[0]


def test_a_class_that_one_part_alone_shows_decides_nothing():
    counts = np.zeros((len(SHARES), 5, 3, 3), np.int64)
    counts[:, :, 0, 0] = counts[:, :, 1, 1] = 100
    counts[:4, :, 0, 1] = 10
    counts[:, 2, 2, 2] = 700
    counts[4:, 1, 0, 2] = 1  # decided for where it is not
    assert least_share(counts, range(3)) == 4


def test_biases_that_gain_much_are_kept_whole():
    priors, offset = np.array([0.8, 0.15, 0.05]), np.array([1.0, 0.0, -1.5])
    images = odds_of([gaussian(priors, s, offset=offset) for s in range(10)])
    fit = cross_fitted(images)
    assert fit.share == 1
    assert fit.bias - fit.bias.mean() == pytest.approx(-offset + offset.mean(), abs=0.4)
    assert fit.gain > 10 * fit.error > 0


def test_images_of_which_all_show_every_class_are_taken_in_runs():
    assert parts_of(np.ones((12, 3), bool), 5).tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4]


def test_images_sorted_by_what_they_show_are_dealt_so_that_each_class_can_be_learnt():
    shown = np.zeros((100, 3), bool)
    shown[:, 0] = shown[:10, 1] = shown[10:20, 2] = True
    parts = parts_of(shown, 5)
    counts = np.stack([shown[parts == fold].sum(0) for fold in range(5)])
    assert (counts.max(0) <= shown.sum(0) / 2).all()
    assert 5 < 1 + np.count_nonzero(np.diff(parts)) < 100  # runs no shorter than that takes


@pytest.mark.parametrize("images", [1, 2, 4])
def test_a_class_that_hardly_any_image_shows_does_not_part_neighbours(images):
    shown = np.zeros((20, 2), bool)
    shown[:, 0] = shown[4 : 4 + images, 1] = True
    assert np.array_equal(parts_of(shown, 5), np.arange(20) // 4)


def test_of_biases_of_pure_noise_mostly_nothing_is_kept():
    def noise(seed):
        generator = torch.Generator().manual_seed(seed)
        target = torch.randint(0, 3, (30, 30), generator=generator).byte()
        return torch.randn(3, 30, 30, generator=generator), target

    fits = [
        cross_fitted(odds_of([noise(seed) for seed in range(k, k + 20)])) for k in range(0, 200, 20)
    ]
    assert sum(fit.share == 0 for fit in fits) > len(fits) / 2


def test_the_rarest_classes_are_those_that_occur():
    pixels = np.array([90, 5, 0, 7])
    assert rarest_classes(pixels, None) == [1, 3, 0]
    assert rarest_classes(pixels, 2) == [1, 3]
    for k in (0, 4):
        with pytest.raises(InputError, match=f"--rarest {k}: expected 1 to 3"):
            rarest_classes(pixels, k)


def test_the_rarest_are_favoured_when_they_alone_are_asked_for():
    images = odds_of([gaussian(np.array([0.9, 0.08, 0.02]), s) for s in range(5)])
    assert cross_fitted(images, 1).classes == [2]
    merged = together(images)
    everything, rarest = search(merged, range(3)), search(merged, [2])
    assert mean_iou(merged, rarest, [2]) >= mean_iou(merged, everything, [2])


def test_one_image_is_too_few():
    with pytest.raises(InputError, match="1 image to calibrate on"):
        cross_fitted(odds_of([picture(0)]))


def pixels_of(*pictures):
    return PixelSample.of([sample(*below_largest(*p, 255), ROOM) for p in pictures])


def test_a_temperature_by_which_the_logits_were_multiplied_is_found():
    logits, target = gaussian(np.array([0.5, 0.3, 0.2]), 0)
    plain = fit_temperature(pixels_of((logits, target)))
    assert plain == pytest.approx(1, abs=0.1)  # Bayes' logits are calibrated
    found = fit_temperature(pixels_of((2.5 * logits, target)))
    assert found == pytest.approx(2.5 * plain, rel=1e-3)


def test_the_likelihood_is_scikit_learns():
    pixels = pixels_of(picture(0))
    log_p = log_probabilities(pixels, 1.7)
    assert nll(log_p, pixels.labels) == pytest.approx(log_loss(pixels.labels, np.exp(log_p)))


def test_a_sample_is_evenly_spaced_over_the_pixels_that_count():
    logits, target = picture(0, size=(100, 100))
    found = pixels_of((logits, target))
    valid = target.numpy() != 255
    chosen = np.arange(PIXELS) * valid.sum() // PIXELS
    assert found.labels.tolist() == target.numpy()[valid][chosen].tolist()
    z = logits.numpy()[:, valid][:, chosen].T
    np.testing.assert_allclose(found.logits, z - z.max(1, keepdims=True), atol=1e-6)
    small = picture(1, size=(5, 5))
    assert len(pixels_of(small).labels) == int((small[1] != 255).sum())


def test_classwise_calibration_errors_are_those_of_the_definition():
    pixels = pixels_of(picture(3))
    p = torch.from_numpy(pixels.logits).double().softmax(1).numpy()
    for c, found in enumerate(calibration_errors(pixels)):
        expected = 0.0
        for low in np.arange(15) / 15:
            inside = (p[:, c] >= low) & (p[:, c] < low + 1 / 15)
            if low == 14 / 15:
                inside |= p[:, c] == 1
            if inside.any():
                gap = (pixels.labels[inside] == c).mean() - p[inside, c].mean()
                expected += inside.mean() * abs(gap)
        assert found == pytest.approx(expected, abs=1e-9)


def test_priors_of_the_target_shift_the_logits_by_the_logarithm_of_their_ratio():
    source, target = np.array([0.7, 0.2, 0.1]), np.array([0.2, 0.3, 0.5])
    pixels = pixels_of(*(gaussian(source, seed) for seed in range(8)))
    found = prior_bias(pixels, target)
    expected = np.log(target / source)
    assert found == pytest.approx(expected - expected.mean(), abs=0.06)


def test_offsets_of_training_are_taken_back_before_the_priors_are_put_in():
    source, offset = np.array([0.7, 0.2, 0.1]), np.array([0.0, 1.0, 2.0])
    pixels = pixels_of(*(gaussian(source, seed, offset=offset) for seed in range(8)))
    found = prior_bias(pixels, source)
    assert found == pytest.approx(-(offset - offset.mean()), abs=0.06)


def test_biases_by_priors_make_the_fewest_errors_in_the_target_domain():
    source, target = np.array([0.85, 0.1, 0.05]), np.array([0.1, 0.2, 0.7])
    bias = prior_bias(pixels_of(*(gaussian(source, seed) for seed in range(8))), target)
    rng_logits, truth = gaussian(target, 99)
    at_source = rng_logits + torch.tensor(np.log(source / target)).view(-1, 1, 1)

    def errors(logits):
        return (logits.argmax(0) != truth).double().mean().item()

    biased = at_source + torch.tensor(bias).view(-1, 1, 1)
    assert errors(biased) == pytest.approx(errors(rng_logits), abs=2e-3)  # Bayes' own rate
    assert errors(at_source) > 1.3 * errors(biased)


def test_the_biased_temperature_is_at_the_top_of_the_likelihood():
    pixels = pixels_of(gaussian(np.array([0.6, 0.3, 0.1]), 1))
    temperature, bias = fit_biased_temperature(pixels)
    best = nll(log_probabilities(pixels, temperature, bias), pixels.labels)
    for change in (0.98, 1.02):
        assert nll(log_probabilities(pixels, temperature * change, bias), pixels.labels) > best
    for c in range(3):
        moved = bias + 0.05 * np.eye(3)[c]
        assert nll(log_probabilities(pixels, temperature, moved), pixels.labels) > best


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ([0.5, 0.5], "2 numbers for 3 classes"),
        ([0.5, 0.5, 0.0], "above 0"),
        ([0.5, 0.5, 0.5], "add up to 1.5"),
    ],
)
def test_priors_that_are_none_are_refused(priors, message):
    with pytest.raises(InputError, match=message):
        prior_bias(pixels_of(gaussian(np.array([0.6, 0.3, 0.1]), 1)), np.array(priors))


def test_priors_of_a_class_that_the_split_never_shows_are_refused():
    logits, target = picture(0)
    target[target == 3] = 0
    with pytest.raises(InputError, match=r"no pixel of class \[3\]"):
        prior_bias(pixels_of((logits, target)), np.full(4, 0.25))
