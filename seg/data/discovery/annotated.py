"""Layouts whose masks are annotations in JSON, of COCO or of labelme."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from seg.data.discovery.layouts import Layout, Pair, best_layout, matched
from seg.data.discovery.series import Place, find_series
from seg.data.discovery.words import Part
from seg.data.files.annotations import coco_file
from seg.data.files.headers import DataError

_SNIFFED = 2**16
_MOST_FILES = 50
_EXAMPLES = 3
_LEFT_OUT = ("caption", "keypoint", "panoptic", "image_info")
"""In the names of COCO's files without areas of classes."""


def find_annotated(
    root: Path, paths: Sequence[PurePosixPath], others: Sequence[PurePosixPath]
) -> Layout | None:
    """The layout of images with annotations, or None.

    Args:
        root: The folder.
        paths: Its pictures, below it.
        others: Its other files.
    """
    files = [path for path in others if path.suffix.lower() == ".json"]
    return _labelme(root, paths, files) or _coco(root, paths, files)


def _labelme(
    root: Path, paths: Sequence[PurePosixPath], files: Sequence[PurePosixPath]
) -> Layout | None:
    annotations = find_series(files)
    matches = [matched(i, a) for i in find_series(paths) for a in annotations]
    matches = [
        m for m in matches if m.pairs and _is_labelme(root, next(iter(m.pairs.values())).mask)
    ]
    if not matches:
        return None
    layout = best_layout(matches)
    stem = "" if "{stem}" in layout.masks else "/{stem}"
    masks = f"{layout.masks}{stem}.json"
    used = tuple(pair.mask for pair in layout.pairs.values())
    return replace(layout, masks=masks, annotations=used, others=())


def _is_labelme(root: Path, path: PurePosixPath) -> bool:
    try:
        content = json.loads((root / path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "shapes" in content


@dataclass(frozen=True)
class _CocoSplit:
    """A file of COCO, the folder in which most of its images are, and those that are not there."""

    file: PurePosixPath
    folder: PurePosixPath
    pairs: Mapping[str, Pair]
    missing: tuple[str, ...]


def _coco(
    root: Path, paths: Sequence[PurePosixPath], files: Sequence[PurePosixPath]
) -> Layout | None:
    by_name: dict[str, list[PurePosixPath]] = defaultdict(list)
    for path in paths:
        by_name[path.name].append(path)
    groups: dict[str, dict[str, _CocoSplit]] = defaultdict(dict)
    for file in files[:_MOST_FILES]:
        found = _coco_split(root, file, by_name)
        if found is not None:
            template, split = _template(file)
            groups[template][split] = found
    if not groups:
        return None
    counts = {text: sum(len(one.pairs) for one in groups[text].values()) for text in groups}
    template = max(sorted(groups), key=lambda text: counts[text])
    others = tuple(text for text in sorted(groups) if text != template)
    return _of_coco(template, groups[template], others, paths)


def _coco_split(
    root: Path, file: PurePosixPath, by_name: Mapping[str, Sequence[PurePosixPath]]
) -> _CocoSplit | None:
    if any(word in file.name.lower() for word in _LEFT_OUT) or not _may_be_coco(root / file):
        return None
    try:
        names = [*coco_file(root / file).rows]
    except DataError:
        return None
    folders: Counter[PurePosixPath] = Counter()
    for name in names:
        depth = len(PurePosixPath(name).parts)
        for path in by_name.get(PurePosixPath(name).name, ()):
            whole = f"/{path.as_posix()}".endswith(f"/{name}")
            folders[PurePosixPath(*path.parts[:-depth]) if whole else path.parent] += 1
    if not folders:
        return None
    split = _template(file)[1]
    folder = max(
        sorted(folders), key=lambda f: (folders[f], split in f.as_posix(), f == file.parent)
    )
    known = {path for of in by_name.values() for path in of}
    pairs, missing = {}, []
    for name in names:
        places = folder / name, folder / PurePosixPath(name).name
        image = next((place for place in places if place in known), None)
        if image is None:
            missing.append(name)
        else:
            key = image.relative_to(folder).with_suffix("").as_posix()
            pairs[key] = Pair(image, file / name)
    return _CocoSplit(file, folder, pairs, tuple(missing))


def _may_be_coco(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            text = stream.read(_SNIFFED)
    except OSError:
        return False
    return any(word in text for word in (b'"images"', b'"annotations"', b'"categories"'))


def _template(file: PurePosixPath) -> tuple[str, str]:
    """A path with `{split}`, and what stands for it; a folder's counts if the name has none."""
    place, part = Place.of(file / "x"), Part.of(file.stem)
    if part.split:
        return (file.parent / f"{part.text}{file.suffix}").as_posix(), part.split
    folder = Place.of(file)
    path = PurePosixPath(folder.folder, folder.below, file.name)
    return path.as_posix(), place.split


def _of_coco(
    template: str,
    splits: Mapping[str, _CocoSplit],
    others: tuple[str, ...],
    paths: Sequence[PurePosixPath],
) -> Layout | None:
    images = {split: _images(one.folder, split) for split, one in splits.items()}
    texts = {*images.values()}
    if len(splits) == 1 or len(texts) > 1:
        one = max(splits.values(), key=lambda split: len(split.pairs))
        splits, texts, template = {"": one}, {one.folder.as_posix()}, one.file.as_posix()
    pairs = {
        (split, name): pair for split, one in splits.items() for name, pair in one.pairs.items()
    }
    files = tuple(one.file for one in splits.values())
    used = {pair.image for pair in pairs.values()}
    unlisted = {
        (split, path.as_posix()): path
        for split, one in splits.items()
        for path in paths
        if path not in used and path.is_relative_to(one.folder)
    }
    missing = {
        (split, name): one.file / name for split, one in splits.items() for name in one.missing
    }
    return Layout(texts.pop(), template, pairs, unlisted, missing, others, annotations=files)


def told_of_coco(root: Path, layout: Layout) -> tuple[list[str], list[str]]:
    """Images that no file of COCO lists, and those that one lists and that are not there."""
    unlisted = [*dict.fromkeys(root / path for path in layout.lonely_images.values())]
    missing = []
    for file in layout.annotations:
        names = [p.relative_to(file) for p in layout.lonely_masks.values() if file in p.parents]
        if names:
            text = f"{root / file}: {_number(names)} listed that the folder lacks: {_some(names)}"
            missing.append(text)
    if not unlisted:
        return [], missing
    files = " or ".join(map(str, layout.annotations))
    return [f"{_number(unlisted)} not listed in {files}: {_some(unlisted)}"], missing


def _number(of: Sequence[object]) -> str:
    return "1 image is" if len(of) == 1 else f"{len(of)} images are"


def _some(of: Sequence[object]) -> str:
    shown = ", ".join(map(str, of[:_EXAMPLES]))
    return f"such as {shown}" if len(of) > _EXAMPLES else shown


def _images(folder: PurePosixPath, split: str) -> str:
    """A folder with `{split}` in the place of the same split as that of the annotations."""
    place = Place.of(folder / "x", "whole")
    return place.folder if split and place.split == split else folder.as_posix()
