"""Class weights against their formulas."""

import math
from fractions import Fraction

import pytest
import torch

from seg.losses.class_weights import POLICIES, class_weights, log_priors, parse_policy

PIXELS = [7_000_000, 1_000_000, 50_000, 300]
IMAGE_PIXELS = [8_050_300, 6_000_000, 2_000_000, 10_000]
every_policy = pytest.mark.parametrize("policy", sorted(POLICIES))


def with_mean_one(values: list[float]) -> torch.Tensor:
    return torch.tensor([value * len(values) / sum(values) for value in values])


def test_inverse_frequency_is_one_over_the_count() -> None:
    expected = with_mean_one([1 / n for n in PIXELS])
    torch.testing.assert_close(class_weights("inverse_frequency", PIXELS), expected)


def test_sqrt_inverse_frequency_is_one_over_the_root_of_the_count() -> None:
    expected = with_mean_one([1 / math.sqrt(n) for n in PIXELS])
    torch.testing.assert_close(class_weights("sqrt_inverse_frequency", PIXELS), expected)
    weights = class_weights("sqrt_inverse_frequency", [100, 4, 1])
    torch.testing.assert_close(weights, torch.tensor([0.1, 0.5, 1.0]) * 3 / 1.6)


def test_log_frequency_is_one_over_the_logarithm_of_the_share() -> None:
    expected = with_mean_one([1 / math.log(1.02 + n / sum(PIXELS)) for n in PIXELS])
    torch.testing.assert_close(class_weights("log_frequency", PIXELS), expected)


def test_log_frequency_bounds_how_much_more_the_rarest_class_weighs() -> None:
    common, rare = class_weights("log_frequency", [10**12, 1]).double().tolist()
    assert rare / common == pytest.approx(math.log(2.02) / math.log(1.02), rel=1e-5)


def test_median_frequency_counts_only_the_images_that_show_the_class() -> None:
    frequency = [n / m for n, m in zip(PIXELS, IMAGE_PIXELS, strict=True)]
    expected = with_mean_one([1 / f for f in frequency])
    torch.testing.assert_close(class_weights("median_frequency", PIXELS, IMAGE_PIXELS), expected)


def test_median_frequency_without_image_counts_takes_the_share_of_all_pixels() -> None:
    inverse = class_weights("inverse_frequency", PIXELS)
    torch.testing.assert_close(class_weights("median_frequency", PIXELS), inverse)


def test_median_frequency_has_the_ratios_of_a_hand_made_case() -> None:
    # class 0 fills both images of 10, class 1 half of one image
    weights = class_weights("median_frequency", [15, 5], [20, 10])
    torch.testing.assert_close(weights, torch.tensor([0.8, 1.2]))


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 0.9999999])
def test_effective_number_equals_its_formula_in_exact_arithmetic(beta: float) -> None:
    pixels = [1000, 100, 10, 1]
    b = Fraction(beta)
    expected = with_mean_one([float((1 - b) / (1 - b**n)) for n in pixels])
    torch.testing.assert_close(class_weights("effective_number", pixels, beta=beta), expected)


def test_effective_number_takes_beta_from_the_number_of_pixels() -> None:
    total = sum(PIXELS)
    # (1 - 1/N)^n = exp(-n/N) but for terms in 1/N
    expected = with_mean_one([1 / -math.expm1(-n / total) for n in PIXELS])
    weights = class_weights("effective_number", PIXELS)
    torch.testing.assert_close(weights, expected, rtol=1e-5, atol=0)


def test_effective_number_does_not_cancel_for_huge_counts() -> None:
    weights = class_weights("effective_number", [10**15, 10**6, 1]).double()
    # for n far below N the effective number is n
    assert weights[1] / weights[2] == pytest.approx(1e-6, rel=1e-5)
    assert weights[0] > 0


def test_effective_number_of_a_single_pixel_is_defined() -> None:
    with pytest.warns(UserWarning, match="class 1"):
        assert class_weights("effective_number", [1, 0]).tolist() == [1.0, 0.0]


def test_the_name_of_a_policy_may_carry_its_beta() -> None:
    named = class_weights("effective_number(0.999)", PIXELS)
    assert torch.equal(named, class_weights("effective_number", PIXELS, beta=0.999))
    assert not torch.equal(named, class_weights("effective_number", PIXELS))
    assert parse_policy("effective_number(1e-3)", "weight") == ("effective_number", 0.001)
    assert parse_policy("effective_number", "weight") == ("effective_number", None)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("rarest", r"weight='rarest': unknown policy.*log_frequency.*a list of numbers"),
        ("rarest(0.9)", "unknown policy"),
        ("effective_number(0.9", "unknown policy"),
        ("effective_number()", "unknown policy"),
        ("", "weight='': unknown policy"),
        ("effective_number(1)", r"weight='effective_number\(1\)': β=1: expected.*\[0, 1\)"),
        ("effective_number(nan)", r"β=nan: expected.*\[0, 1\), such as 0.9999"),
        ("effective_number(much)", r"β=much: expected.*\[0, 1\), such as 0.9999"),
        ("median_frequency(0.9)", "β=0.9 does not apply to 'median_frequency'; leave it out"),
    ],
)
def test_what_is_no_policy_is_refused_with_the_option(policy: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_policy(policy, "weight")


def test_log_priors_are_the_logarithms_of_the_shares() -> None:
    priors = log_priors(PIXELS)
    expected = torch.tensor([math.log(n / sum(PIXELS)) for n in PIXELS])
    assert priors.dtype == torch.float32
    torch.testing.assert_close(priors, expected)
    torch.testing.assert_close(priors.exp().sum(), torch.tensor(1.0))


def test_a_class_without_a_pixel_has_the_prior_of_one_pixel_and_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"class pole: its prior is that of a single pixel"):
        priors = log_priors([8, 0, 1], ["sky", "pole", "tree"])
    torch.testing.assert_close(priors.exp(), torch.tensor([0.8, 0.1, 0.1]))


def test_log_priors_of_no_pixel_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no pixel of any class.*ignored"):
        log_priors([0, 0])


@every_policy
def test_weights_have_mean_one_over_the_classes_that_occur(policy: str) -> None:
    with pytest.warns(UserWarning, match=r"class pole, fence: its weight is 0"):
        weights = class_weights(
            policy, [40, 0, 7, 0], [50, 0, 9, 0], ["sky", "pole", "tree", "fence"]
        )
    assert weights.dtype == torch.float32
    assert weights[[1, 3]].tolist() == [0.0, 0.0]
    assert weights[[0, 2]].mean().item() == pytest.approx(1, rel=1e-6)


@every_policy
def test_rarer_classes_weigh_more_and_equal_ones_alike(policy: str) -> None:
    weights = class_weights(policy, PIXELS, [sum(PIXELS)] * 4)
    assert weights.tolist() == sorted(weights.tolist())
    torch.testing.assert_close(class_weights(policy, [9, 9, 9]), torch.ones(3))


@every_policy
def test_a_tensor_of_counts_gives_the_same_as_a_list(policy: str) -> None:
    counts, images = torch.tensor(PIXELS), torch.tensor(IMAGE_PIXELS)
    expected = class_weights(policy, PIXELS, IMAGE_PIXELS)
    assert torch.equal(class_weights(policy, counts, images), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rarest", [1, 2]), "'rarest'.*median_frequency"),
        (("inverse_frequency", [4, -3]), "class 1: -3 pixels"),
        (("inverse_frequency", [4, -3], None, ["sky", "car"]), "class car: -3 pixels"),
        (("inverse_frequency", [0, 0]), "no pixel of any class.*ignored"),
        (("inverse_frequency", []), "no pixel of any class"),
        (("inverse_frequency", [[1, 2]]), r"shape \(1, 2\).*\(C,\)"),
        (("inverse_frequency", [1, 2], None, ["sky"]), "1 class names for 2"),
        (("median_frequency", [1, 2], [3]), "1 image_pixels for 2"),
        (("median_frequency", [1, 5], [3, 4]), "class 1: 4 pixels.*5 of its own"),
        (("effective_number", [1, 2], None, None, 1.0), r"beta=1.0.*\[0, 1\)"),
        (("effective_number", [1, 2], None, None, -0.5), r"beta=-0.5.*\[0, 1\)"),
        (("inverse_frequency", [1, 2], None, None, 0.9), "beta=0.9 does not apply"),
        (("effective_number(0.9)", [1, 2], None, None, 0.9), "names its β; leave out beta=0.9"),
    ],
)
def test_what_cannot_give_weights_is_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_weights(*arguments)
