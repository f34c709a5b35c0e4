"""Which pictures of a folder are images and masks, and how they pair.

All pairs of two series are compared: those whose names say that one is of masks, and, if none of
these fit, all others, by the looks of their pictures. The one with most samples is taken.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from os.path import splitext
from pathlib import Path, PurePosixPath

import numpy as np

from seg.data.discovery.series import Place, SampleKey, Series, find_series
from seg.data.files.decoding import decode_samples
from seg.data.files.headers import IMAGE_SUFFIXES, DataError

_MORE = 1.5
"""Times as many samples as by templates that lists have to find before they are needed."""
_NEAR = 0.5
"""Share of the most samples of a pair of series that another needs to be compared with it."""

_LOOKED_AT = 3


@dataclass(frozen=True)
class Pair:
    """Image and mask of a sample, below the root."""

    image: PurePosixPath
    mask: PurePosixPath


@dataclass(frozen=True)
class Layout:
    """Two series that pair.

    Attributes:
        images: What `data.images` is set to.
        masks: What `data.masks` is set to.
        pairs: The samples, in order; the split is "" where folders name none.
        lonely_images: Images without a mask.
        lonely_masks: Masks without an image.
        others: Templates of masks, or of images, that fit as well and were not taken.
        by_look: Whether the pictures' looks said which of them are masks.
        annotations: The JSON files that masks are in; none where these are pictures.
        nested: Whether the templates are of any picture, and only lists say what pairs.
    """

    images: str
    masks: str
    pairs: dict[SampleKey, Pair]
    lonely_images: dict[SampleKey, PurePosixPath]
    lonely_masks: dict[SampleKey, PurePosixPath]
    others: tuple[str, ...] = ()
    by_look: bool = False
    nested: bool = False
    annotations: tuple[PurePosixPath, ...] = ()

    @property
    def splits(self) -> list[str]:
        """Names of the splits with a pair, in order; empty where folders name none."""
        return sorted({split for split, _ in self.pairs if split})


@dataclass(frozen=True)
class Match:
    """Two series, and the samples that are in both."""

    images: Series
    masks: Series
    pairs: dict[SampleKey, Pair]

    @property
    def rank(self) -> tuple[object, ...]:
        """What is smaller is better."""
        images, masks = self.images, self.masks
        return (
            images.others + masks.others,
            not masks.are_training_ids,
            -len(self.pairs),
            images.kind != "image",
            images.given + masks.given,
            images.template,
            masks.template,
        )


def find_layout(paths: Sequence[PurePosixPath]) -> Layout | None:
    """The layout of pictures whose names say that some are masks, or None.

    Args:
        paths: The pictures, below the root.
    """
    found = _by_names(find_series(paths))
    nested = _by_names(find_series(paths, "nested")) if _may_be_nested(paths) else None
    if nested is not None and len(nested.pairs) > (
        0 if found is None else _MORE * len(found.pairs)
    ):
        images, masks = whole_templates(nested.pairs.values())
        return replace(nested, images=images, masks=masks, others=(), nested=True)
    if found is not None:
        return found
    return _by_names(find_series(paths, "whole"))


def _may_be_nested(paths: Sequence[PurePosixPath]) -> bool:
    """Whether a folder that says nothing is above one that says something."""
    folders = {path.parent for path in paths}
    return any(
        Place.of(folder / "x").folder != Place.of(folder / "x", "nested").folder
        for folder in folders
    )


def find_by_look(root: Path, paths: Sequence[PurePosixPath]) -> Layout | None:
    """The layout of two series of which the pictures look like images and masks.

    Args:
        root: The folder.
        paths: Its pictures, below it.
    """
    series = find_series(paths, "whole")
    matches = [match for i, m in permutations(series, 2) if (match := matched(i, m)).pairs]
    matches = [match for match in matches if _is_oriented(root, match)]
    return replace(best_layout(matches), by_look=True) if matches else None


def _by_names(series: Sequence[Series]) -> Layout | None:
    """The best match of series of which the names of one say that it is of masks."""
    masks = [one for one in series if one.kind == "mask"]
    images = [one for one in series if one.kind != "mask"]
    matches = [match for i in images for m in masks if (match := matched(i, m)).pairs]
    return best_layout(matches) if matches else None


def whole_templates(pairs: Collection[Pair]) -> tuple[str, str]:
    """Templates of any picture below the root, told apart by extension where that is possible."""
    images = {pair.image.suffix.lower() for pair in pairs}
    masks = {pair.mask.suffix.lower() for pair in pairs}
    if len(masks) == 1 and images.isdisjoint(masks):
        return "{stem}", f"{{stem}}{masks.pop()}"
    return ".", "{stem}"


def matched(images: Series, masks: Series) -> Match:
    """The samples of both; a mask may be called as its image with the extension."""
    pairs = {}
    for (split, name), mask in masks.files.items():
        image = images.files.get((split, name))
        if image is None and splitext(name)[1].lower() in IMAGE_SUFFIXES:
            name = splitext(name)[0]
            image = images.files.get((split, name))
        if image is not None and image != mask:
            pairs[split, name] = Pair(image, mask)
    return Match(images, masks, dict(sorted(pairs.items())))


def best_layout(matches: Iterable[Match]) -> Layout:
    """The best of some matches."""
    matches = sorted(matches, key=lambda match: match.rank)
    most = max(len(match.pairs) for match in matches)
    near = [match for match in matches if len(match.pairs) >= _NEAR * most]
    best = near[0]
    taken = {pair.mask for pair in best.pairs.values()}
    images_taken = {pair.image for pair in best.pairs.values()}
    others = dict.fromkeys(
        text for match in near[1:] for text in _other(match, best, images_taken | taken)
    )
    used = taken | images_taken | {*best.masks.files.values()}
    images = {k: p for k, p in best.images.files.items() if k not in best.pairs and p not in used}
    masks = {k: p for k, p in best.masks.files.items() if p not in taken}
    texts = best.images.template, best.masks.template
    splits = {split for split, _ in best.pairs}
    if len(splits) > 1:
        return Layout(*texts, best.pairs, images, masks, tuple(others))
    (split,) = splits  # a single one is a folder as any other
    one, other = (text.replace("{split}", split) for text in texts)
    pairs = {("", name): pair for (_, name), pair in best.pairs.items()}
    images = {("", name): path for (of, name), path in images.items() if of == split}
    masks = {("", name): path for (of, name), path in masks.items() if of == split}
    told = tuple(text.replace("{split}", split) for text in others)
    return Layout(one, other, pairs, images, masks, told)


def _other(match: Match, best: Match, taken: set[PurePosixPath]) -> list[str]:
    """The template of a match, if it has other masks or other images than the best and no other."""
    found = []
    if match.images.template == best.images.template:
        found = [(match.masks.template, {pair.mask for pair in match.pairs.values()})]
    elif match.masks.template == best.masks.template:
        found = [(match.images.template, {pair.image for pair in match.pairs.values()})]
    return [text for text, files in found if taken.isdisjoint(files)]


def _is_oriented(root: Path, match: Match) -> bool:
    """Whether the masks look more like masks than the images do."""
    pairs = [*match.pairs.values()][:: -(-len(match.pairs) // _LOOKED_AT)]
    flat = [_flatness(root / pair.mask) - _flatness(root / pair.image) for pair in pairs]
    return bool(np.mean(flat) > 0)


def _flatness(path: Path) -> float:
    """Share of the pixels of a picture that are equal to the next in their row."""
    try:
        samples = decode_samples(path)
    except DataError:
        return 0.0
    return float((samples[:, 1:] == samples[:, :-1]).all(-1).mean())
