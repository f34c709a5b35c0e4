"""A folder, looked at: layout, images, masks, splits, and what stops a training."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg.data.dataset import SegmentationDataset
from seg.data.discovery.division import Division, divide
from seg.data.discovery.images import survey_images
from seg.data.discovery.layouts import Layout, find_layout
from seg.data.discovery.masks import MaskSurvey, survey_masks
from seg.data.discovery.setting import KnownLabels, Setting
from seg.data.discovery.splits import find_splits
from seg.data.files.labels import Labels
from seg.data.files.pairing import Pairs
from seg.data.files.templates import pictures
from seg.data.scan.cache import ScanMemory
from seg.data.scan.scan_masks import scan_masks
from seg.errors import InputError

Progress = Callable[[str, int], Callable[[], Any]]
"""From what is read, and of how many files, to what is called after each of them."""


@dataclass(frozen=True)
class Found:
    """What a folder holds, and the lines that read it.

    Attributes:
        summary: What was found, one line each.
        settings: Lines of the YAML, below `data:`.
        lists: Lines of each list of a split that is to be written beside the YAML.
        questions: What the user has to fill in.
        faults: What stops a training, one line each.
        remarks: What does not.
    """

    summary: tuple[str, ...]
    settings: tuple[Setting, ...]
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)
    questions: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def look_at(root: Path, progress: Progress) -> Found:
    """Look at a folder; nothing in it is changed.

    Args:
        root: The folder.
        progress: Told what is read.

    Raises:
        InputError: If no image pairs with a mask.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder.")
    paths = [PurePosixPath(path.relative_to(root).as_posix()) for path in pictures(root)]
    layout = find_layout(root, paths)
    if layout is None:
        raise InputError(_no_pairs(root, paths))
    splits = find_splits(root, layout, _other_files(root))
    pairs = layout.pairs.values()
    images, masks = [root / pair.image for pair in pairs], [root / pair.mask for pair in pairs]
    of_masks = survey_masks(masks, KnownLabels(), progress("masks", len(pairs)))
    pixels, unread = _pixels(root, layout, of_masks, progress)
    division = divide(layout, splits, pixels)
    num_train = len(division.keys["train"])
    of_images = survey_images(images, masks, num_train, progress("sizes", len(pairs)))
    faults = [*_lonely(root, layout), *of_images.faults, *of_masks.faults]
    faults += [text for text in unread if text not in faults]
    absent = _absent(of_masks, layout, division, pixels)
    summary = (
        f"{len(pairs)} images with masks: {layout.images} and {layout.masks}",
        *(f"other masks that fit as well, and were not taken: {text}" for text in layout.others),
        f"images: {of_images.found}",
        f"masks: {of_masks.kind}",
        f"splits: {division.found}",
    )
    settings = (
        Setting("root", str(root)),
        *_templates(layout, division),
        *of_masks.settings,
        *of_images.settings,
    )
    return Found(
        summary,
        settings,
        division.lists,
        of_masks.questions,
        (*faults, *absent),
        (*splits.remarks, *of_masks.remarks),
    )


def _other_files(root: Path) -> list[PurePosixPath]:
    """Files that are no pictures, in order; hidden ones are left out."""
    found = []
    for top, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(top, name) for name in sorted(names) if not name.startswith(".")]
    return [PurePosixPath(path.relative_to(root).as_posix()) for path in found]


def _no_pairs(root: Path, paths: Sequence[PurePosixPath]) -> str:
    if not paths:
        return f"{root}: holds no pictures."
    return (
        f"{root}: {len(paths)} pictures, but no image and mask share a name, such as "
        "images/1.jpg and masks/1.png, or 1.jpg and 1_mask.png."
    )


def _templates(layout: Layout, division: Division) -> list[Setting]:
    look = " The masks were told from the images by their looks." if layout.by_look else ""
    reason = f"{len(layout.pairs)} images and masks share {{stem}} or their name.{look}"
    given = {setting.key for setting in division.settings}
    templates = Setting("images", layout.images, reason), Setting("masks", layout.masks)
    return [*(one for one in templates if one.key not in given), *division.settings]


def _lonely(root: Path, layout: Layout) -> list[str]:
    """Images without a mask and masks without an image, of the splits that have both."""
    splits = {*layout.splits} or {""}
    images = [p for (split, _), p in layout.lonely_images.items() if split in splits]
    masks = [p for (split, _), p in layout.lonely_masks.items() if split in splits]
    return [
        *(f"{root / path}: image without a mask" for path in images),
        *(f"{root / path}: mask without an image" for path in masks),
    ]


def _pixels(
    root: Path, layout: Layout, survey: MaskSurvey, progress: Progress
) -> tuple[NDArray[np.int64], list[str]]:
    """Pixels of each class in each mask, (N, C), and what cannot be read.

    As long as a question is open, all masks show all classes.
    """
    if survey.questions:
        return np.ones((len(layout.pairs), len(survey.class_names)), np.int64), []
    given = {setting.key: setting.value for setting in survey.settings}
    labels = Labels(
        len(survey.class_names),
        given.get("label_map"),
        given.get("class_colors"),
        given.get("ignore_colors"),
        given.get("mask_threshold"),
    )
    files = [root / pair.mask for pair in layout.pairs.values()]
    names = tuple(name for _, name in layout.pairs)
    images = tuple(root / pair.image for pair in layout.pairs.values())
    dataset = SegmentationDataset(Pairs(names, images, tuple(files)), labels)
    memory = ScanMemory(root, files, labels.fingerprint, labels.num_classes)
    advance = progress("classes", len(files))
    scan, faults = scan_masks(dataset, labels.num_classes, memory, advance)
    return scan.pixels, [str(faults[index]) for index in sorted(faults)]


def _absent(
    survey: MaskSurvey, layout: Layout, division: Division, pixels: NDArray[np.int64]
) -> list[str]:
    """Classes that no training image shows."""
    train = {*division.keys.get("train", ())}
    chosen = np.array([key in train for key in layout.pairs])
    shown = (pixels[chosen] > 0).any(0)
    return [
        f"{name}: in no training image, so it cannot be learnt"
        for name, is_shown in zip(survey.class_names, shown, strict=True)
        if not is_shown
    ]
