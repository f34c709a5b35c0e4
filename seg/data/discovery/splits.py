"""Which samples train, validate and test: by folders, by lists, or by a division of our own."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from seg.data.discovery.layouts import Layout
from seg.data.discovery.series import SampleKey
from seg.data.discovery.setting import Setting
from seg.data.discovery.words import ROLE_OF, Part
from seg.data.files.headers import DataError
from seg.data.files.split_lists import SplitList
from seg.data.files.templates import Files, Template

_ENOUGH = 0.9
"""Share of a list's lines that are images, from which it is a list of a split."""
_MOST_LISTS = 200
_LARGEST_FILE = 2**22
_LIST_SUFFIXES = frozenset({".txt", ".csv", ".lst", ".tsv"})
_MAPPING_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


@dataclass(frozen=True)
class Splits:
    """What the folder says of splits.

    Attributes:
        found: In words.
        settings: Lines of the YAML, if these are all that is needed.
        keys: The samples of each role that is told: train, val, test. What is in no role is free.
        remarks: What a user should know of them.
        need_lists: Whether the data module cannot read them as they are.
        faults: Lines of lists that name no pair, one line a list.
    """

    found: str
    settings: tuple[Setting, ...] = ()
    keys: Mapping[str, list[SampleKey]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    need_lists: bool = False
    faults: tuple[str, ...] = ()

    @property
    def are_complete(self) -> bool:
        """Whether a training and a validation split are told."""
        return {"train", "val"} <= {*self.keys}


def find_splits(root: Path, layout: Layout, others: Sequence[PurePosixPath]) -> Splits:
    """The splits that folders name, else those of the first lists that fit.

    Args:
        root: The folder.
        layout: Its layout.
        others: Its files that are no pictures, below it.
    """
    if layout.splits:
        return _of_folders(layout)
    groups = [] if layout.nested else _groups(others)
    files = _files(root, layout) if groups else ()
    lists = [_of_lists(root, layout, group, *files) for group in groups]
    found = [splits for splits in lists if splits is not None]
    mappings = [path for path in others if path.suffix.lower() in _MAPPING_SUFFIXES]
    if not found:
        of_mappings = [_of_mapping(root, layout, path) for path in mappings[:_MOST_LISTS]]
        found = [splits for splits in of_mappings if splits is not None]
    complete = [splits for splits in found if splits.are_complete]
    return (complete or found or [Splits("none found")])[0]


def _of_folders(layout: Layout) -> Splits:
    texts: dict[str, str] = {}
    for split in layout.splits:
        texts.setdefault(ROLE_OF.get(split.lower(), "test"), split)
    keys: dict[str, list[SampleKey]] = {
        role: [key for key in layout.pairs if key[0] == texts[role]]
        for role in ("train", "val", "test")
        if role in texts
    }
    counts = ", ".join(f"{texts[role]} has {len(keys[role])}" for role in keys)
    return Splits(f"folders are splits: {counts}", _names(texts), keys)


def _names(texts: Mapping[str, str]) -> tuple[Setting, ...]:
    return tuple(
        Setting(f"{role}_split", text, f"The name of the {role} split.")
        for role, text in texts.items()
        if text != role
    )


def _groups(others: Sequence[PurePosixPath]) -> list[dict[str, PurePosixPath]]:
    """Text files that are named by a split, by what their names share, in order."""
    groups: dict[tuple[int, str], dict[str, PurePosixPath]] = defaultdict(dict)
    for path in others:
        part = Part.of(path.stem)
        if path.suffix.lower() in _LIST_SUFFIXES and part.split:
            template = (path.parent / f"{part.text}{path.suffix}").as_posix()
            rank = "segmentation" not in template.lower()
            groups[rank, template][part.split] = path
    return [groups[key] for key in sorted(groups)[:_MOST_LISTS]]


def _of_lists(
    root: Path, layout: Layout, files: Mapping[str, PurePosixPath], images: Files, masks: Files
) -> Splits | None:
    """The splits of lists, if their lines are images of the layout."""
    mask_of = {name: name for name in images.by_name}
    keys: dict[str, list[SampleKey]] = {}
    texts: dict[str, str] = {}
    wrong = []
    for split, path in files.items():
        role = ROLE_OF[split.lower()]
        try:
            samples, faults = SplitList(root / path).samples(images, masks, mask_of)
        except DataError:
            continue
        listed = [("", name) for name in samples if ("", name) in layout.pairs]
        missing = len(samples) + len(faults) - len(listed)
        if role in keys or len(listed) < _ENOUGH * (len(listed) + missing):
            continue
        keys[role], texts[role] = listed, split
        if missing:
            wrong.append(f"{root / path}: {missing} of its lines name no image with a mask")
    if "train" not in keys:
        return None
    first = files[texts["train"]]
    template = (first.parent / f"{Part.of(first.stem).text}{first.suffix}").as_posix()
    line = Setting("split_files", template, "Lists of the images of each split.")
    counts = ", ".join(f"{texts[role]} names {len(keys[role])}" for role in keys)
    settings = line, *_names(texts)
    splits = Splits(f"{template}: {counts}", settings, keys, faults=tuple(wrong))
    return _apart(splits, template)


def _files(root: Path, layout: Layout) -> tuple[Files, Files]:
    """The files of a layout without splits, as the data module finds them."""
    images = Template.of("data.images", layout.images, root, "")
    masks = Template.of("data.masks", layout.masks, root, "")
    return Files.of(images, masks), Files.of(masks, images)


def _of_mapping(root: Path, layout: Layout, path: PurePosixPath) -> Splits | None:
    """The splits of a YAML or JSON of lists, such as `train: [2, 5]`, of names or numbers."""
    try:
        if (root / path).stat().st_size > _LARGEST_FILE:
            return None
        text = (root / path).read_text(encoding="utf-8-sig")
        content = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    numbers = _numbers(layout)
    names = {PurePosixPath(name).name: ("", name) for _, name in layout.pairs}
    keys: dict[str, list[SampleKey]] = {}
    for word, listed in content.items():
        role = ROLE_OF.get(str(word).lower())
        if role is None or not isinstance(listed, list) or not listed:
            continue
        found = [numbers.get(i) if isinstance(i, int) else _by_text(names, i) for i in listed]
        known = [key for key in found if key is not None]
        if len(known) < _ENOUGH * len(listed):
            return None
        keys[role] = sorted({*known})
    if "train" not in keys:
        return None
    counts = ", ".join(f"{role} names {len(keys[role])}" for role in keys)
    splits = Splits(f"{path}: {counts}", (), keys, need_lists=True)
    return _apart(splits, path.as_posix())


def _by_text(names: Mapping[str, SampleKey], listed: Any) -> SampleKey | None:
    path = PurePosixPath(str(listed).replace("\\", "/"))
    return names.get(path.name) or names.get(path.stem)


def _numbers(layout: Layout) -> dict[int, SampleKey]:
    """The samples whose name is a number, or ends with one that no other has."""
    found: dict[int, list[SampleKey]] = defaultdict(list)
    for key in layout.pairs:
        digits = "".join(c if c.isdigit() else " " for c in key[1]).split()
        if digits:
            found[int(digits[-1])].append(key)
    return {number: keys[0] for number, keys in found.items() if len(keys) == 1}


def _apart(splits: Splits, path: str) -> Splits:
    """Without the samples in training that are in another split as well."""
    held = {key for role, of in splits.keys.items() if role != "train" for key in of}
    twice = [key[1] for key in splits.keys["train"] if key in held]
    if not twice:
        return splits
    keys = {**splits.keys, "train": [key for key in splits.keys["train"] if key not in held]}
    shown = ", ".join(twice[:5]) + (f" and {len(twice) - 5} more" if len(twice) > 5 else "")
    remark = f"{path} has {shown} in train and in another split: left out of train."
    return Splits(splits.found, (), keys, (remark,), need_lists=True)  # ours name pairs only
