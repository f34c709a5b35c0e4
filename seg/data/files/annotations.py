"""Masks that are drawn from annotations in JSON: all images of a COCO file, or one of labelme.

A mask that is an entry of a COCO file has a path below that file, such as
`annotations/train.json/0001.jpg`: it pairs, is named and is remembered as other masks are.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg.data.files import headers
from seg.data.files.coco import CocoFile, read_coco
from seg.data.files.headers import DataError
from seg.data.files.labelme import read_labelme
from seg.data.files.shapes import draw
from seg.data.files.templates import JSON, STEM, Files, Template


class AnnotatedMask(NamedTuple):
    """A mask of an image that was annotated.

    Attributes:
        values: 0 where nothing is annotated, and 1 + the index of a name, (H, W).
        names: Of the labels.
    """

    values: NDArray[np.uint16]
    names: Sequence[str]


def are_annotations(masks: str) -> bool:
    """Whether a template of masks is of annotations in JSON."""
    return masks.lower().endswith(JSON)


def are_coco(masks: str) -> bool:
    """Whether a template of masks is a COCO file: a JSON for many images."""
    return are_annotations(masks) and STEM not in masks


def file_of(path: Path) -> Path | None:
    """The JSON that a mask is in; None for a mask that is a picture."""
    if path.suffix.lower() == JSON:
        return path
    folder = next((above for above in path.parents if above.suffix.lower() == JSON), None)
    return folder if folder is not None and folder.is_file() else None


def size(path: Path) -> tuple[int, int]:
    """Height and width in pixels of a mask, a picture or an annotation.

    Raises:
        DataError: If it cannot be read.
    """
    file = file_of(path)
    if file is None:
        return headers.size(path)
    if file == path:
        height, width, _ = read_labelme(path)
        return height, width
    coco = coco_file(file)
    height, width = coco.sizes[_row(coco, path, file)]
    return int(height), int(width)


def read_annotated(path: Path) -> AnnotatedMask:
    """The mask that annotations make: a smaller area lies above a larger one.

    Args:
        path: Of the mask.

    Raises:
        DataError: If the JSON, or an annotation of the image, cannot be read.
    """
    file = file_of(path)
    if file is None:
        raise DataError(f"{path}: in no JSON; data.masks are annotations in JSON.")
    if file == path:
        height, width, found = read_labelme(path)
        names = sorted({label for label, _ in found})
        shapes = [(names.index(label) + 1, shape) for label, shape in found]
        return AnnotatedMask(draw(path, height, width, shapes), names)
    coco = coco_file(file)
    row = _row(coco, path, file)
    height, width = coco.sizes[row].tolist()
    shapes = [(int(category) + 1, shape) for category, shape in coco.shapes(row)]
    return AnnotatedMask(draw(path, height, width, shapes), coco.names)


def coco_file(path: Path) -> CocoFile:
    """A COCO file, read once a process as long as it does not change.

    Raises:
        DataError: If it is none.
    """
    try:
        status = path.stat()
    except OSError:
        raise DataError(f"{path}: no such file (data.masks).") from None
    return _coco_file(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _coco_file(path: Path, size: int, time: int) -> CocoFile:
    return read_coco(path)


def _row(coco: CocoFile, path: Path, file: Path) -> int:
    name = path.relative_to(file).as_posix()
    row = coco.rows.get(name)
    if row is None:
        raise DataError(f"{file}: no image in it is called {name}.")
    if row in coco.faults:
        raise DataError(f"{path}: {coco.faults[row]}")
    return row


def entries(template: Template, images: Files) -> Files:
    """The masks in a COCO file, by the names of their images.

    An image is that of the same path, or else the only one of that name in any folder.

    Args:
        template: Of the masks: its folder is the file.
        images: All images.
    """
    try:
        coco = coco_file(template.folder)
    except DataError as error:
        return Files(template, {}, (str(error),))
    by_path = {f"{name}{path.suffix}": name for name, path in images.by_name.items()}
    of_last: dict[str, list[str]] = {}
    for path, name in by_path.items():
        of_last.setdefault(PurePosixPath(path).name, []).append(name)
    found: dict[str, Path] = {}
    faults = [*coco.lost]
    for text in coco.rows:
        last = of_last.get(PurePosixPath(text).name, [])
        name = by_path.get(text) or images.named(text) or (last[0] if len(last) == 1 else "")
        name = name or PurePosixPath(text).with_suffix("").as_posix()
        if name in found:
            faults.append(f"{template.folder / text} and {found[name]} are of one image; keep one")
        else:
            found[name] = template.folder / text
    return Files(template, dict(sorted(found.items())), tuple(faults))
