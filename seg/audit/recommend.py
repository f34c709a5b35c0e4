"""From the numbers of an audit to settings, each with its reason; `seg fit -c` takes them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from seg.audit.notation import percent

_BALANCED = 3.0
"""Ratio of most to least pixels of a class up to which nothing is to be balanced."""

_SELDOM = 0.2
"""Share of the images below which drawing images uniformly shows a class too seldom."""

_SMALL = 32**2
"""Pixels under which an object is small (COCO; Lin et al., 2014)."""

_ENLARGED = 2.0
"""Most times that resized images are enlarged, as far as was measured: four times the work."""

_BEYOND = 4 / 3
"""Most times their own size that they are enlarged to, as far as was measured."""

_WORTH = 1.1
"""Times below which enlarging them is not worth a word."""

_TVERSKY = {"alpha": 0.3, "beta": 0.7, "gamma": 0.5}
_CROSS_ENTROPY = "seg.losses.CrossEntropyLoss"


class Recommendation(NamedTuple):
    """What to set, and why.

    Attributes:
        config: What `seg fit -c` takes.
        reasons: From what is set to one line of reason.
    """

    config: dict[str, Any]
    reasons: dict[str, str]


def recommend(
    facts: Mapping[str, Any], crop_size: tuple[int, int], resize: Sequence[int] | None = None
) -> Recommendation:
    """Loss, policy, γ, sampler, crop and monitor for a training split, and what to do afterwards.

    Args:
        facts: Of the training split, from `split_facts`.
        crop_size: Height and width of the crops as configured.
        resize: Height and width that images are resized to; left out, they keep their own.
    """
    config: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for part in (_loss(facts), _sampler(facts), _crop(facts, crop_size, resize), _monitor()):
        _merge(config, part.config)
        reasons |= part.reasons
    reasons["afterwards"] = "seg calibrate: what it gains on the validation split, it says first"
    return Recommendation(config, reasons)


def _loss(facts: Mapping[str, Any]) -> Recommendation:
    ratio = facts["imbalance_ratio"] or 1.0
    if ratio <= _BALANCED:
        return Recommendation(
            {"model": {"loss": {"class_path": _CROSS_ENTROPY}}},
            {
                "loss": f"cross-entropy: pixels of the classes differ {ratio:.1f} times only",
                "policy": "none, for the same reason",
                "gamma": "none, for the same reason",
            },
        )
    policy = "sqrt_inverse_frequency"
    parts = {
        "cross_entropy": {"class_path": _CROSS_ENTROPY, "init_args": {"weight": policy}},
        "tversky": {"class_path": "seg.losses.TverskyLoss", "init_args": dict(_TVERSKY)},
    }
    loss = {
        "class_path": "seg.losses.CompoundLoss",
        "init_args": {"parts": parts, "weights": {"cross_entropy": 1.0, "tversky": 1.0}},
    }
    rarest = _rarest(facts)
    return Recommendation(
        {"model": {"loss": loss}},
        {
            "loss": f"cross-entropy + Tversky: {rarest['name']} has {percent(rarest['share'])} of "
            f"the pixels, {ratio:,.0f} times fewer than the most frequent class; in Tversky each "
            "class counts alike, and what is missed counts more",
            "policy": f"{policy}: weights up to {ratio**0.5:,.0f} times apart; 1/f would put them "
            f"{ratio:,.0f} times apart, and the frequent classes would pay",
            "gamma": f"{_TVERSKY['gamma']} in Tversky: the worse a class overlaps, the more it "
            "leads; no focal loss, which lowers the frequent classes and gains less",
        },
    )


def _sampler(facts: Mapping[str, Any]) -> Recommendation:
    images = facts["images"]
    shown = [c for c in facts["classes"] if c["images"]]
    seldom = [c for c in shown if c["images"] < _SELDOM * images]
    if not seldom:
        least = min(shown, key=lambda c: c["images"], default=None)
        reason = "no class" if least is None else f"{least['name']}, the least shown, is in"
        share = "" if least is None else f" {percent(least['images'] / images)} of the images"
        return Recommendation({}, {"sampler": f"uniform: {reason}{share}"})
    worst = min(seldom, key=lambda c: c["images"])
    sampler = {
        "class_path": "seg.data.ClassFirstSampler",
        "init_args": {"tau": 0.0, "uniform_share": 0.5},
    }
    reason = (
        f"class first: {worst['name']} is in {worst['images']} of {images} images; "
        "half of the draws begin with a class, and all classes are alike"
    )
    return Recommendation({"data": {"sampler": sampler}}, {"sampler": reason})


def _crop(
    facts: Mapping[str, Any], crop_size: tuple[int, int], resize: Sequence[int] | None
) -> Recommendation:
    sizes = facts["sizes"]
    if not sizes:
        return Recommendation({}, {})
    larger = None if resize is None else _larger(facts, crop_size, resize)
    if larger is not None:
        return larger
    smaller = sizes["smaller_than_crop"]
    size = list(crop_size)
    if smaller <= facts["images"] / 2:
        reason = (
            f"{size[0]} × {size[1]}, as set: it covers {percent(sizes['crop_share'])} of an image"
        )
        return Recommendation({}, {"crop": reason})
    fitting = [min(c, _down(m)) for c, m in zip(crop_size, sizes["median"], strict=True)]
    reason = (
        f"{fitting[0]} × {fitting[1]}: {smaller} of {facts['images']} images are smaller than "
        f"{size[0]} × {size[1]}, and their crops would be padded"
    )
    return Recommendation({"data": {"crop_size": fitting}}, {"crop": reason})


def _larger(
    facts: Mapping[str, Any], crop_size: tuple[int, int], resize: Sequence[int]
) -> Recommendation | None:
    """Larger images, and crops of the same share of them, if the rarest class is made small."""
    own = facts["sizes"]["median"]
    factor = min(_ENLARGED, *(_BEYOND * side / r for side, r in zip(own, resize, strict=True)))
    if factor < _WORTH or (facts["imbalance_ratio"] or 1.0) <= _BALANCED:
        return None
    rarest = _rarest(facts)
    pixels = rarest["median_component"] * resize[0] * resize[1] / (own[0] * own[1])
    if pixels >= _SMALL:
        return None
    size = [round(factor * length) for length in resize]
    sides = zip(crop_size, size, strict=True)
    crop = [min(_near(factor * length), _down(side)) for length, side in sides]
    work = crop[0] * crop[1] / (crop_size[0] * crop_size[1])
    reason = (
        f"{crop[0]} × {crop[1]} of images of {size[0]} × {size[1]}: at {resize[0]} × {resize[1]} "
        f"half of {rarest['name']}'s components have {pixels:,.0f} pixels or fewer; a step takes "
        f"{work:.3g} times as long"
    )
    return Recommendation({"data": {"resize": size, "crop_size": crop}}, {"crop": reason})


def _down(length: float) -> int:
    """To a multiple of 32, which every encoder divides by, if there is one."""
    return int(length) // 32 * 32 or int(length)


def _near(length: float) -> int:
    """To the nearest multiple of 32, if that is one."""
    return round(length / 32) * 32 or round(length)


def _monitor() -> Recommendation:
    reason = "val/miou: each class counts alike; accuracy or loss would choose by the frequent ones"
    return Recommendation(
        {"checkpoint": {"monitor": "val/miou", "mode": "max"}}, {"monitor": reason}
    )


def _rarest(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    present = [c for c in facts["classes"] if c["pixels"]]
    rarest: Mapping[str, Any] = min(present, key=lambda c: c["pixels"])
    return rarest


def _merge(config: dict[str, Any], part: Mapping[str, Any]) -> None:
    for key, value in part.items():
        config[key] = {**config.get(key, {}), **value}
