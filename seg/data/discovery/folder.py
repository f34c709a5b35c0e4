"""A folder, looked at: layout, images, masks, splits, and what stops a training."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg.data.dataset import SegmentationDataset
from seg.data.discovery.annotated import find_annotated, told_of_coco
from seg.data.discovery.annotation_survey import survey_annotations
from seg.data.discovery.division import Division, divide
from seg.data.discovery.groups import divided_groups
from seg.data.discovery.images import survey_images
from seg.data.discovery.known_data_sets import known_data_set, with_priority
from seg.data.discovery.label_files import read_label_files
from seg.data.discovery.layouts import Layout, find_by_look, find_layout
from seg.data.discovery.masks import MaskSurvey, survey_masks
from seg.data.discovery.setting import KnownLabels, Setting
from seg.data.discovery.sizes import thinnest
from seg.data.discovery.splits import find_splits
from seg.data.files.labels import Labels, names_for
from seg.data.files.pairing import Pairs
from seg.data.files.templates import pictures
from seg.data.scan.cache import ScanMemory
from seg.data.scan.scan_masks import scan_masks
from seg.data.scan.table import Scan
from seg.errors import InputError

Progress = Callable[[str, int], Callable[[], Any]]
"""From what is read, and of how many files, to what is called after each of them."""

_VOLUMES = (".nii", ".nii.gz", ".dcm", ".mha", ".mhd", ".nrrd")
"""How the names of medical volumes end."""

_ARGUMENTS = {
    "label_map": "label_map",
    "class_colors": "class_colors",
    "ignore_colors": "ignore_colors",
    "mask_threshold": "threshold",
    "color_tolerance": "color_tolerance",
}
"""Argument of `Labels` that a setting is."""


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
    others = _other_files(root)
    layout = find_layout(paths) or find_annotated(root, paths, others) or find_by_look(root, paths)
    if layout is None:
        raise InputError(_no_pairs(root, paths))
    splits = find_splits(root, layout, others)
    images, masks = (
        [root / path for path in of]
        for of in zip(*((pair.image, pair.mask) for pair in layout.pairs.values()), strict=True)
    )
    known = with_priority(read_label_files(root, others), known_data_set(layout))
    of_masks = _survey(root, layout, masks, known, progress)
    scan, unread = _scan(root, layout, images, masks, of_masks, progress)
    names = of_masks.class_names
    pixels = np.ones((len(masks), len(names)), np.int64) if scan is None else scan.pixels
    division = divide(layout, splits, pixels)
    num_train, thin = len(division.keys["train"]), None if scan is None else thinnest(scan, names)
    of_images = survey_images(images, masks, num_train, thin, progress("sizes", len(images)))
    lonely, ignored = _lonely(root, layout, division)
    divided = divided_groups({role: [name for _, name in of] for role, of in division.keys.items()})
    absent, allowed = _absent(of_masks, known, layout, division, pixels)
    faults = [*lonely, *splits.faults, *of_images.faults, *of_masks.faults, *unread, *absent]
    return Found(
        (
            f"{len(images)} images with masks; images: {layout.images}, masks: {layout.masks}",
            *(f"fits the images as well and was not chosen: {text}" for text in layout.others),
            f"images: {of_images.found}",
            f"masks: {of_masks.kind}",
            f"splits: {division.found}",
        ),
        (
            Setting("root", str(root)),
            *_templates(layout, division),
            *of_masks.settings,
            *allowed,
            *of_images.settings,
        ),
        division.lists,
        of_masks.questions,
        tuple(dict.fromkeys(faults)),
        (*splits.remarks, *divided, *of_masks.remarks, *ignored),
    )


def _survey(
    root: Path, layout: Layout, masks: Sequence[Path], known: KnownLabels, progress: Progress
) -> MaskSurvey:
    if not layout.annotations:
        return survey_masks(masks, known, progress("masks", len(masks)))
    files = [root / path for path in layout.annotations]
    advance = progress("annotations", len(files))
    return survey_annotations(files, "{stem}" not in layout.masks, advance)


def _other_files(root: Path) -> list[PurePosixPath]:
    """Files that are no pictures, in order; hidden ones are left out."""
    found = []
    for top, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(top, name) for name in sorted(names) if not name.startswith(".")]
    return [PurePosixPath(path.relative_to(root).as_posix()) for path in found]


def _no_pairs(root: Path, paths: Sequence[PurePosixPath]) -> str:
    others = _other_files(root)
    volumes = [path for path in others if path.name.lower().endswith(_VOLUMES)]
    if volumes:
        return (
            f"{root}: {len(volumes)} volumes such as {volumes[0]}, which are not read; save each "
            "slice of image and mask as PNG or TIFF (in Python by nibabel or SimpleITK), such as "
            "images/case1_slice001.png and masks/case1_slice001.png."
        )
    if paths:
        return (
            f"{root}: {len(paths)} pictures, but no image and mask share a name, such as "
            "images/1.jpg and masks/1.png, or 1.jpg and 1_mask.png."
        )
    suffixes = sorted({"".join(path.suffixes[-2:]) for path in others} - {""})
    told = f"; its files end with {', '.join(suffixes[:8])}" if suffixes else ""
    return f"{root}: holds no pictures{told}. Save images and masks as PNG or TIFF."


def _templates(layout: Layout, division: Division) -> list[Setting]:
    same = (
        "{stem} is what the names of an image and its mask share"
        if "{stem}" in layout.images + layout.masks
        else "an image and its mask have the same name"
    )
    if layout.annotations and "{stem}" not in layout.masks:
        number = len(layout.annotations)
        same = "a COCO file lists the images" if number == 1 else f"{number} COCO files list them"
    look = "; they were told apart by their looks" if layout.by_look else ""
    reason = f"{len(layout.pairs)} pairs: {same}{look}."
    given = {setting.key for setting in division.settings}
    templates = Setting("images", layout.images, reason), Setting("masks", layout.masks)
    return [*(one for one in templates if one.key not in given), *division.settings]


def _lonely(root: Path, layout: Layout, division: Division) -> tuple[list[str], list[str]]:
    """Images without a mask and masks without an image: those that stop a training, and others.

    They do not where lists say what is read, nor in a split that no pair is in.
    """
    splits = {*layout.splits} or {""}
    by_list = bool(division.lists) or any(s.key == "split_files" for s in division.settings)
    if layout.annotations and "{stem}" not in layout.masks:
        unlisted, missing = told_of_coco(root, layout)
        if by_list:
            return [], unlisted + missing
        if "{split}" in layout.masks and "{split}" not in layout.images:
            return missing, unlisted  # the JSON alone says what is read
        remedy = "; move them away, or name the images that are meant in data.split_files"
        return [*missing, *(f"{text}{remedy}" for text in unlisted)], []
    found = [
        (split, f"{root / path}: {text}")
        for files, text in (
            (layout.lonely_images, "image without a mask"),
            (layout.lonely_masks, "mask without an image"),
        )
        for (split, _), path in files.items()
    ]
    if by_list:
        return [], [f"{text}; it is in no list" for _, text in found]
    return (
        [text for split, text in found if split in splits],
        [text for split, text in found if split not in splits],
    )


def _scan(
    root: Path,
    layout: Layout,
    images: Sequence[Path],
    masks: Sequence[Path],
    survey: MaskSurvey,
    progress: Progress,
) -> tuple[Scan | None, list[str]]:
    """What all masks hold, and what cannot be read.

    None as long as a question is open, or nothing is known of the masks.
    """
    if survey.questions or not survey.class_names:
        return None, []
    given = {one.key: one.value for one in survey.settings if one.key in _ARGUMENTS}
    arguments: dict[str, Any] = {_ARGUMENTS[key]: value for key, value in given.items()}
    arguments["names"] = names_for(layout.masks, survey.class_names)
    labels = Labels(len(survey.class_names), **arguments)
    names = tuple(map(str, images))
    dataset = SegmentationDataset(Pairs(names, tuple(images), tuple(masks)), labels)
    memory = ScanMemory(root, masks, labels.fingerprint, labels.num_classes)
    advance = progress("classes", len(masks))
    scan, faults = scan_masks(dataset, labels.num_classes, memory, advance)
    return scan, [str(faults[index]) for index in sorted(faults)]


def _absent(
    survey: MaskSurvey,
    known: KnownLabels,
    layout: Layout,
    division: Division,
    pixels: NDArray[np.int64],
) -> tuple[list[str], list[Setting]]:
    """Classes that no training image shows; the line that allows those of a file of names."""
    train = {*division.keys["train"]}
    chosen = np.array([key in train for key in layout.pairs])
    shown, somewhere = ((of > 0).any(0) for of in (pixels[chosen], pixels))
    names = np.array(survey.class_names)
    named = {*known.names.values(), *known.colors.values()}
    nowhere = [name for name in names[~somewhere].tolist() if name in named]
    faults = [
        f"{name}: in no training image, so it cannot be learnt"
        for name in names[~shown].tolist()
        if name not in nowhere
    ]
    reason = f"{known.source} names {', '.join(nowhere)}, which no mask shows."
    return faults, [Setting("allow_empty_classes", True, reason)] if nowhere else []
