"""COCO's JSON: images, categories, and areas of both as polygons or run lengths.

Millions of numbers become a few arrays while the text is parsed, so that worker processes share
them and no list of Python numbers is kept.
"""

import json
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg.data.files.headers import DataError
from seg.data.files.shapes import Shape, coco_masks

_NO_POLYGON = -1
Ints = NDArray[np.int64]


class CocoFile(NamedTuple):
    """The N images and A annotations of a COCO file.

    Attributes:
        rows: Row of each image by its file name, with / between folders.
        sizes: Height and width of each image, (N, 2).
        names: Of the categories, in the order of their ids.
        faults: What is wrong with annotations of an image, by its row.
        lost: What is wrong with annotations of no image, one line each.
        starts: Where the annotations of each image begin in `order`, and A, (N + 1,).
        order: Annotations by the row of their image, (A,).
        categories: Index of the name of each annotation, (A,).
        parts: First part of each annotation, and the number of parts, (A + 1,).
        ends: Where each part begins in `points`, and where the last ends.
        points: Corners x, y of all polygons in turn.
        run_starts: Where the run lengths of each annotation begin in `runs`, (A + 1,).
        runs: All run lengths as COCO compresses them.
    """

    rows: Mapping[str, int]
    sizes: Ints
    names: tuple[str, ...]
    faults: Mapping[int, str]
    lost: tuple[str, ...]
    starts: Ints
    order: Ints
    categories: Ints
    parts: Ints
    ends: Ints
    points: NDArray[np.float64]
    run_starts: Ints
    runs: bytes

    def shapes(self, row: int) -> Iterator[tuple[int, Shape]]:
        """Index of the category, and shape, of each annotation of an image."""
        for place in self.order[self.starts[row] : self.starts[row + 1]].tolist():
            first, last = self.parts[place : place + 2].tolist()
            polygons = [self.points[self.ends[p] : self.ends[p + 1]] for p in range(first, last)]
            runs = self.runs[self.run_starts[place] : self.run_starts[place + 1]]
            yield int(self.categories[place]), Shape(polygons, runs)


def read_coco(path: Path) -> CocoFile:
    """Read a file.

    Raises:
        DataError: If it is no COCO file.
    """
    coco_masks()
    reader = _Reader()
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text, object_hook=reader.take)
        content["annotations"], content["images"]  # missing ones are no empty ones
        names = {int(c["id"]): str(c["name"]) for c in content["categories"]}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(
            f"{path}: not a file of COCO annotations ({type(error).__name__}: {error}); expected "
            "images, categories and annotations."
        ) from error
    if any(content["annotations"]):
        raise DataError(
            f"{path}: its annotations have no image_id and category_id, so they are none of COCO's "
            "instances; panoptic annotations come with pictures: give these."
        )
    if not reader.files or not names:
        raise DataError(f"{path}: has {len(reader.files)} images and {len(names)} categories.")
    return reader.made(path, names)


class _Reader:
    """Takes images and annotations out of a text while it is parsed."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.image_ids: list[int] = []
        self.sizes = array("q")
        self.of_image, self.of_category, self.ids = array("q"), array("q"), array("q")
        self.points, self.ends = array("d"), array("q", [0])
        self.parts = array("q", [0])
        self.runs, self.run_starts, self.run_sizes = bytearray(), array("q", [0]), array("q")
        self.wrong: dict[int, str] = {}

    def take(self, found: dict[str, Any]) -> Any:
        if "image_id" in found and "category_id" in found:
            self._annotation(found)
            return None
        if "file_name" in found and "height" in found:
            self.files.append(_plain(str(found["file_name"])))
            self.image_ids.append(int(found["id"]))
            self.sizes.extend((int(found["height"]), int(found["width"])))
            return None
        return found

    def _annotation(self, found: dict[str, Any]) -> None:
        number, area, size = len(self.of_image), found.get("segmentation"), (0, 0)
        self.of_image.append(int(found["image_id"]))
        self.of_category.append(int(found["category_id"]))
        self.ids.append(int(found.get("id", number)))
        try:
            if isinstance(area, dict):
                size = self._add_runs(area)
            elif area:
                self._add_polygons(area)
            else:
                self.wrong[number] = "has no segmentation; a box alone is no mask"
        except (ValueError, KeyError, TypeError) as error:
            self.wrong[number] = f"{type(error).__name__}: {error}"
            del self.points[self.ends[-1] :]
        self.parts.append(len(self.ends) - 1)
        self.run_starts.append(len(self.runs))
        self.run_sizes.extend(size)

    def _add_polygons(self, polygons: list[Any]) -> None:
        for polygon in polygons:
            if len(polygon) % 2 or len(polygon) < 6:
                raise ValueError(f"a polygon of {len(polygon) / 2:g} points; it needs 3 or more")
            self.points.extend(polygon)
            self.ends.append(len(self.points))

    def _add_runs(self, area: dict[str, Any]) -> tuple[int, int]:
        height, width = (int(side) for side in area["size"])
        counts = area["counts"]
        if isinstance(counts, list):
            if sum(counts) != height * width or min(counts) < 0:
                raise ValueError(f"run lengths of {sum(counts)} pixels, not {height} x {width}")
            packed = coco_masks().frPyObjects(area, height, width)["counts"]
        else:
            packed = counts.encode("ascii")
            if not packed:
                raise ValueError("no run lengths")
        self.runs += packed
        return height, width

    def made(self, path: Path, names: Mapping[int, str]) -> CocoFile:
        sizes = np.frombuffer(self.sizes, np.int64).reshape(-1, 2)
        row_of = {image_id: row for row, image_id in enumerate(self.image_ids)}
        category_of = {category: place for place, category in enumerate(sorted(names))}
        rows = np.array([row_of.get(i, -1) for i in self.of_image], np.int64)
        categories = np.array([category_of.get(c, -1) for c in self.of_category], np.int64)
        points, ends = np.frombuffer(self.points, np.float64), np.array(self.ends, np.int64)
        parts = np.array(self.parts, np.int64)
        wrong = {**self.wrong, **self._unfit(rows, sizes)}
        wrong |= self._outside(points, ends, parts, rows, sizes)
        for number in np.flatnonzero(categories < 0).tolist():
            wrong[number] = f"category id {self.of_category[number]} is none of {sorted(names)}"
        faults: dict[int, str] = {}
        for number in sorted(wrong):
            faults.setdefault(int(rows[number]), f"annotation {self.ids[number]}: {wrong[number]}")
        faults.pop(-1, None)
        return CocoFile(
            rows={name: row for row, name in enumerate(self.files)},
            sizes=sizes,
            names=tuple(names[category] for category in sorted(names)),
            faults=faults,
            lost=(*self._lost(path, rows),),
            starts=np.searchsorted(np.sort(rows), np.arange(len(sizes) + 1)),
            order=np.argsort(rows, kind="stable"),
            categories=categories,
            parts=parts,
            ends=ends,
            points=points,
            run_starts=np.array(self.run_starts, np.int64),
            runs=bytes(self.runs),
        )

    def _unfit(self, rows: Ints, sizes: Ints) -> dict[int, str]:
        """Run lengths of another size than the image's."""
        own = np.frombuffer(self.run_sizes, np.int64).reshape(-1, 2)
        unfit = (own[:, 0] > 0) & (rows >= 0) & (own != sizes[rows]).any(1)
        return {
            number: "run lengths of {} x {} pixels, the image has {} x {}".format(
                *own[number], *sizes[rows[number]]
            )
            for number in np.flatnonzero(unfit).tolist()
        }

    def _outside(
        self, points: NDArray[Any], ends: Ints, parts: Ints, rows: Ints, sizes: Ints
    ) -> dict[int, str]:
        """Polygons with a corner that is no number, and those that lie outside their image."""
        if len(ends) < 2:
            return {}
        owners = np.repeat(np.arange(len(rows)), np.diff(parts))
        corners = points.reshape(-1, 2)
        low, high = (of.reduceat(corners, ends[:-1] // 2) for of in (np.minimum, np.maximum))
        limits = sizes[rows[owners], ::-1]
        lost = ~np.isfinite(low + high).all(1)
        outside = (high < 0).any(1) | (low >= limits).any(1)
        text = "a polygon lies outside the image of {1} x {0} pixels"
        found = {
            int(owners[part]): text.format(*limits[part])
            for part in np.flatnonzero(outside & ~lost)
        }
        return found | {int(owners[part]): "a corner is no number" for part in np.flatnonzero(lost)}

    def _lost(self, path: Path, rows: Ints) -> list[str]:
        found = []
        strangers = np.flatnonzero(rows < 0)
        if len(strangers):
            first = strangers[0]
            found.append(
                f"{path}: {len(strangers)} annotations are of images that are not in it, such as "
                f"annotation {self.ids[first]} of image id {self.of_image[first]}"
            )
        twice = len(self.files) - len({*self.files})
        if twice:
            found.append(f"{path}: {twice} images have the file_name of another; keep one")
        return found


def _plain(name: str) -> str:
    """A file name with / between folders, and none before the first."""
    return PurePosixPath(name.replace("\\", "/")).as_posix().lstrip("/")
