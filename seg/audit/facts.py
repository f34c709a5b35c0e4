"""Every number of an audit, as primitives that JSON can hold."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

import numpy as np

from seg.data import DataError, SegmentationDataModule, SegmentationDataset
from seg.data.files.palettes import disagreement
from seg.data.scan.chosen_images import images_of_rare_classes
from seg.data.scan.empty_classes import nothing_to_learn
from seg.data.scan.table import Scan

ROLES = ("train", "val", "test")

Facts = dict[str, Any]

_File = tuple[str, Path]  # a split, and an image in it

_SAMPLES = 8
"""Training images to look at, and of how many of the rarest classes."""

_PART = 4096  # bytes; what a disk reads at a time


def audit_data(
    data: SegmentationDataModule, progress: Callable[[str, int], Callable[[], Any]]
) -> Facts:
    """Scan all splits of a data set.

    Args:
        data: Where the splits are.
        progress: From the name and the number of masks of a split to what is called for each.

    Returns:
        `{"splits": {name: facts}, "not_found": {name: message}, "duplicates": [[name, name]],
        "palettes": [message], "nothing_to_learn": [message], "samples": [sample]}`, of which the
        facts are those of `split_facts`, and the messages say where palettes differ, if they do,
        and why nothing, or nothing of a class, can be learnt from the training masks. Samples are
        training images that show the rarest classes: `index`, `image` (its name), and the names of
        the classes that it is the `best_of`.

    Raises:
        DataError: If the training split cannot be found, or files of a split have other faults
            than labels without a class.
    """
    splits: Facts = {}
    not_found: dict[str, str] = {}
    images: dict[str, Sequence[Path]] = {}
    masks: list[tuple[Sequence[Path], Scan]] = []
    unsettled: list[str] = []
    samples: list[Facts] = []
    for role in ROLES:
        name = data.splits[role]
        try:
            dataset = data.dataset(role)
        except DataError as error:
            if role == "train":
                raise
            not_found[name] = str(error)
            continue
        scan, faults = data.try_scan(role, progress(name, len(dataset)))
        splits[name] = split_facts(
            scan, data.class_names, data.crop_in_image, [str(fault) for fault in faults.values()]
        )
        if role == "train":
            samples = _samples(dataset, scan, data.class_names)
        if role == "train" and not faults and not data.allow_empty_classes:
            unsettled = nothing_to_learn(dataset, scan, data.class_names)
        elif role == "train" and len(faults) == len(dataset):
            unsettled = [f"None of the {len(dataset)} training masks can be read."]
        if isinstance(dataset, SegmentationDataset):
            images[name] = dataset.pairs.images
            masks.append((dataset.pairs.masks, scan))
    return {
        "splits": splits,
        "not_found": not_found,
        "duplicates": _duplicates(images),
        "palettes": _palettes(masks),
        "nothing_to_learn": unsettled,
        "samples": samples,
    }


def split_facts(
    scan: Scan,
    class_names: Sequence[str],
    crop_size: Callable[[tuple[int, int]], tuple[int, int]],
    faults: Sequence[str] = (),
) -> Facts:
    """The numbers of one split.

    Args:
        scan: Of its masks.
        class_names: One name a class.
        crop_size: From an image's size to that of the crop in its pixels.
        faults: What is wrong with masks that could not be read, one message each.

    Returns:
        `images`; `classes`, a mapping each of `name`, `pixels`, `share` (of the pixels that count),
        `images`, `components` and `median_component` (pixels; None without a component);
        `ignored_pixels` and `ignored_share` (of all); `imbalance_ratio` (most pixels of a class
        over least, of those that occur); `missing_classes`; `masks_of_one_class`;
        `masks_all_ignored`; `sizes` with `least`, `median` and `most` [height, width],
        `smaller_than_crop` (images that a crop must pad) and `crop_share` (median share of an
        image that a crop covers); `unreadable`, the faults.
    """
    pixels = scan.pixels.sum(0)
    total, ignored = int(pixels.sum()), int(scan.ignored.sum())
    present = pixels[pixels > 0]
    shown = (scan.pixels > 0).sum(1)
    read = scan.sizes[:, 0] > 0
    return {
        "images": len(scan),
        "classes": [
            {
                "name": name,
                "pixels": int(pixels[c]),
                "share": float(pixels[c] / total) if total else 0.0,
                "images": int((scan.pixels[:, c] > 0).sum()),
                "components": int((scan.classes == c).sum()),
                "median_component": _median(scan.areas[scan.classes == c]),
            }
            for c, name in enumerate(class_names)
        ],
        "ignored_pixels": ignored,
        "ignored_share": ignored / (total + ignored) if total + ignored else 0.0,
        "imbalance_ratio": float(present.max() / present.min()) if len(present) else None,
        "missing_classes": [n for n, p in zip(class_names, pixels, strict=True) if p == 0],
        "masks_of_one_class": int((read & (shown == 1)).sum()),
        "masks_all_ignored": int((read & (shown == 0)).sum()),
        "sizes": _size_facts(scan.sizes[read], crop_size),
        "unreadable": list(faults),
    }


def _samples(dataset: Any, scan: Scan, class_names: Sequence[str]) -> list[Facts]:
    """Images in which each of the rarest classes that occur can be seen."""
    total = scan.pixels.sum(0)
    rare = [c for c in np.argsort(total, kind="stable") if total[c]][:_SAMPLES]
    pixels = scan.pixels[:, rare]
    shows = np.flatnonzero(pixels.any(1)).tolist()
    chosen = images_of_rare_classes(replace(scan, pixels=pixels), shows, _SAMPLES)
    shares = pixels[chosen] / scan.sizes[chosen].prod(1, dtype=np.int64, keepdims=True)
    best_of: dict[int, list[str]] = {index: [] for index in chosen}
    for c, place in zip(rare, shares.argmax(0) if chosen else (), strict=True):
        best_of[chosen[place]].append(class_names[c])
    return [
        {"index": index, "image": str(dataset.pairs.names[index]), "best_of": best_of[index]}
        if isinstance(dataset, SegmentationDataset)
        else {"index": index, "image": f"sample {index}", "best_of": best_of[index]}
        for index in chosen
    ]


def _size_facts(sizes: Any, crop_size: Callable[[tuple[int, int]], tuple[int, int]]) -> Facts:
    if not len(sizes):
        return {}
    crops = np.array([crop_size((height, width)) for height, width in sizes.tolist()])
    covered = np.minimum(crops, sizes).prod(1) / sizes.prod(1)
    return {
        "least": sizes.min(0).tolist(),
        "median": np.median(sizes, axis=0).tolist(),
        "most": sizes.max(0).tolist(),
        "smaller_than_crop": int((crops > sizes).any(1).sum()),
        "crop_share": float(np.median(covered)),
    }


def _median(values: Any) -> float | None:
    return float(np.median(values)) if len(values) else None


def _palettes(masks: Sequence[tuple[Sequence[Path], Scan]]) -> list[str]:
    if not masks:
        return []
    files = [path for paths, _ in masks for path in paths]
    num_entries, shown = (
        np.concatenate([getattr(scan, name) for _, scan in masks])
        for name in ("num_entries", "entries")
    )
    found = disagreement(files, num_entries, shown)
    return [] if found is None else [found]


def _duplicates(images: Mapping[str, Sequence[Path]]) -> list[list[str]]:
    """Image files of different splits with the same bytes.

    Files without compression have one size. So of files of one size some bytes are compared, and
    of those that agree in them all.
    """
    candidates = [[(split, path) for split, paths in images.items() for path in paths]]
    for trait in (_length, _some_bytes, _all_bytes):
        candidates = [alike for files in candidates for alike in _alike(files, trait)]
    return sorted([str(path) for _, path in files] for files in candidates)


def _alike(files: Sequence[_File], trait: Callable[[Path], Any]) -> list[list[_File]]:
    """Files that share a trait, of more than one split."""
    found: dict[Any, list[_File]] = defaultdict(list)
    for split, path in files:
        found[trait(path)].append((split, path))
    return [alike for alike in found.values() if len({split for split, _ in alike}) > 1]


def _length(path: Path) -> int:
    return path.stat().st_size


def _some_bytes(path: Path) -> bytes:
    """Of the start, the middle and the end: beginnings may be the same header or sky."""
    length = _length(path)
    with path.open("rb") as file:
        parts = []
        for start in (0, length // 2, length - _PART):
            file.seek(max(0, start))
            parts.append(file.read(_PART))
    return b"".join(parts)


def _all_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file_digest(file, blake2b).digest()
