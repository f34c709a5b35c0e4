"""A training, a validation and a test split where a folder does not tell all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg.data.discovery.groups import Groups, find_groups
from seg.data.discovery.layouts import Layout, whole_templates
from seg.data.discovery.series import SampleKey
from seg.data.discovery.setting import Setting
from seg.data.discovery.splits import Splits
from seg.data.files.split_lists import random_share
from seg.data.splitting import Unmet, stratify
from seg.errors import InputError

FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}
_OF_FEW = {"train": 0.6, "val": 0.2, "test": 0.2}
_OF_TRAINING = {"train": 0.85, "val": 0.15}
_FEW = 30
"""Images below which a tenth is too few to judge by."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Division:
    """The splits of the YAML.

    Attributes:
        settings: Lines of the YAML, apart from the place of the lists.
        keys: Samples of each role.
        lists: Lines of each list that is to be written; none if the folder has what is needed.
        found: In words.
    """

    settings: tuple[Setting, ...]
    keys: Mapping[str, Sequence[SampleKey]]
    lists: Mapping[str, Sequence[str]]
    found: str


def divide(layout: Layout, splits: Splits, pixels: Ints) -> Division:
    """What the folder tells, completed; images that belong together stay so.

    Args:
        layout: Of the folder.
        splits: As far as it tells them.
        pixels: Pixels of each class in each of the layout's samples, (N, C).
    """
    if splits.are_complete and not (splits.need_lists or layout.nested):
        return Division((*splits.settings,), splits.keys, {}, splits.found)
    rows = {key: row for key, row in zip(layout.pairs, pixels, strict=True)}
    told = {role: keys for role, keys in splits.keys.items() if role != "train"}
    pool = [*splits.keys.get("train", layout.pairs)]
    if "val" in told:
        return _listed(layout, {"train": pool, **told}, splits.found)
    groups = find_groups([name for _, name in pool])
    if not told and groups is None and "train" not in splits.keys and not layout.nested:
        keys = _random(pool)
        if all(keys.values()) and _shows_all(keys["train"], rows):
            fractions = _fractions(len(pool))
            reason = f"No split was found; {len(pool)} images are divided at random."
            line = Setting("split_fractions", fractions, reason)
            return Division((line,), keys, {}, "none found; the images are divided at random")
    fractions = _OF_TRAINING if told else _fractions(len(pool))
    keys = {**_stratified(pool, groups, fractions, rows), **told}
    together = "" if groups is None else f"; groups stay together, such as {groups.example}"
    found = f"{splits.found}; divided so that each split shows every class if possible{together}"
    return _listed(layout, keys, found)


def _fractions(number: int) -> dict[str, float]:
    if number < len(FRACTIONS):
        return {"train": 0.5, "val": 0.5}
    return dict(FRACTIONS if number >= _FEW else _OF_FEW)


def _random(pool: Sequence[SampleKey]) -> dict[str, list[SampleKey]]:
    names = {name: (split, name) for split, name in pool}
    fractions = _fractions(len(pool))
    return {
        role: [names[name] for name in random_share(sorted(names), role, fractions, 0)]
        for role in fractions
    }


def _shows_all(keys: Sequence[SampleKey], rows: Mapping[SampleKey, Ints]) -> bool:
    """Whether some samples show every class that all samples show."""
    shown = np.any([rows[key] > 0 for key in keys], 0)
    return bool((shown | ~np.any([row > 0 for row in rows.values()], 0)).all())


def _stratified(
    pool: Sequence[SampleKey],
    groups: Groups | None,
    fractions: Mapping[str, float],
    rows: Mapping[SampleKey, Ints],
) -> dict[str, list[SampleKey]]:
    """Samples of each role, by `stratify`; every class that occurs is in training."""
    of = [name for _, name in pool] if groups is None else [*groups.of]
    if len({*of}) < len(fractions):
        raise InputError(
            f"{len(pool)} image{'s' * (len(pool) != 1)} of {len({*of})} groups cannot be divided "
            "into a training and a validation split; add images."
        )
    pixels = np.array([rows[key] for key in pool])
    try:
        place = stratify(pixels, of, [*fractions.values()])
    except Unmet:
        place = stratify(pixels, of, [*fractions.values()], min_images=0)
        place = _with_all_classes(place, of, pixels)
    place = _filled(place, of, len(fractions))
    return {
        role: [key for key, p in zip(pool, place, strict=True) if p == number]
        for number, role in enumerate(fractions)
    }


def _with_all_classes(place: Ints, of: Sequence[str], pixels: Ints) -> Ints:
    """Brings a group with each class that training lacks to it."""
    place, names = place.copy(), np.array(of)
    for class_id in np.argsort(pixels.sum(0)):
        carriers = np.flatnonzero(pixels[:, class_id])
        if len(carriers) and (place[carriers] != 0).all():
            place[names == names[carriers[0]]] = 0
    return place


def _filled(place: Ints, of: Sequence[str], splits: int) -> Ints:
    """Gives a group of the largest split to one that has none."""
    place, names = place.copy(), np.array(of)
    for number in range(1, splits):
        if not (place == number).any():
            largest = int(np.bincount(place, minlength=splits).argmax())
            place[names == names[np.flatnonzero(place == largest)[-1]]] = number
    return place


def _listed(layout: Layout, keys: Mapping[str, Sequence[SampleKey]], found: str) -> Division:
    """A division by lists: of names, or of both files where folders are splits."""
    settings: tuple[Setting, ...] = ()
    lists: dict[str, list[str]]
    if len(layout.splits) < 2 and not layout.nested:
        lists = {role: [name for _, name in of] for role, of in keys.items()}
    else:
        reason = "Lists name each image and its mask; what pairs is in folders of several names."
        images, masks = whole_templates(layout.pairs.values())
        settings = (Setting("images", images, reason), Setting("masks", masks))
        pairs = {role: [layout.pairs[key] for key in of] for role, of in keys.items()}
        lists = {role: [f"{p.image}\t{p.mask}" for p in of] for role, of in pairs.items()}
    return Division(settings, keys, {role: sorted(of) for role, of in lists.items()}, found)
