"""Names and colours of classes in the files that annotation programs and data sets come with.

CVAT's labelmap.txt, Roboflow's _classes.csv, CamVid's label_colors.txt, class_dict.csv, lists of
names, nnU-Net's dataset.json, Supervisely's meta.json and the config.json of Mapillary Vistas.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from seg.data.discovery.setting import Colour, KnownLabels

_LARGEST = 2**20
"""Bytes of a file that is looked into."""
_NAME = frozenset({"name", "class", "classes", "label", "class_name", "class_names", "category"})
_VALUE = frozenset({"pixel value", "value", "id", "index", "class_id", "idx", "label_id"})
_RGB = (frozenset({"r", "red"}), frozenset({"g", "green"}), frozenset({"b", "blue"}))
_COLOUR_LINE = re.compile(r"(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\S.*)")
_NUMBERED_LINE = re.compile(r"(\d+)\s*[:,;\s]\s*(\S.*)")
_LISTS = frozenset({"classes", "class_names", "classnames", "labels", "label_names", "codes"})
_IGNORE_FIRST = "__ignore__"


def read_label_files(root: Path, others: Sequence[PurePosixPath]) -> KnownLabels:
    """What the first file says that names classes; nothing if there is none.

    Args:
        root: Folder of the data.
        others: Paths below it of the files that are no pictures.
    """
    for wanted, read in _READERS:
        for path in sorted(others, key=lambda path: (len(path.parts), path)):
            if not wanted(path):
                continue
            try:
                found = read(_text(root / path))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue  # another file of that name
            if found.names or found.colors:
                return replace(found, source=path.as_posix())
    return KnownLabels()


def _text(path: Path) -> str:
    if path.stat().st_size > _LARGEST:
        return ""
    return path.read_text(encoding="utf-8-sig")


def _lines(text: str) -> Iterator[str]:
    stripped = (line.strip() for line in text.splitlines())
    return (line for line in stripped if line and not line.startswith(("#", "//")))


def _cvat(text: str) -> KnownLabels:
    """Lines `name:r,g,b:parts:actions`."""
    colors = {}
    for line in _lines(text):
        name, colour, *_ = line.split(":")
        colors[_colour(colour.split(","))] = name.strip()
    return KnownLabels(colors=colors)


def _colour_lines(text: str) -> KnownLabels:
    """Lines `r g b name`."""
    rows = [_COLOUR_LINE.fullmatch(line) for line in _lines(text)]
    return KnownLabels(
        colors={_colour(row.groups()[:3]): row[4].strip() for row in rows if row is not None}
    )


def _table(text: str) -> KnownLabels:
    """A CSV with headings, among them a name and a value or a colour."""
    lines = [*_lines(text)]
    if not lines:
        return KnownLabels()
    separator = max(",;\t", key=lines[0].count)
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    headings = [cell.lower() for cell in rows[0]]
    name, value, *rgb = (_column(headings, words) for words in (_NAME, _VALUE, *_RGB))
    if name is None:
        return KnownLabels()
    has_colour = all(column is not None for column in rgb)
    return KnownLabels(
        names={} if value is None else {int(row[value]): row[name] for row in rows[1:]},
        colors={_colour([row[c] for c in rgb if c is not None]): row[name] for row in rows[1:]}
        if has_colour
        else {},
    )


def _column(headings: Sequence[str], words: frozenset[str]) -> int | None:
    return next((i for i, heading in enumerate(headings) if heading in words), None)


def _list(text: str) -> KnownLabels:
    """A name a line, in the order of the values, or lines `value name` or `r g b name`."""
    lines = [*_lines(text)]
    if lines and all(_COLOUR_LINE.fullmatch(line) for line in lines):
        return _colour_lines(text)
    numbered = [_NUMBERED_LINE.fullmatch(line) for line in lines]
    if lines and all(numbered):
        return KnownLabels(names={int(row[1]): row[2] for row in numbered if row is not None})
    start = -1 if lines[:1] == [_IGNORE_FIRST] else 0  # as the converters of labelme count
    return KnownLabels(names=dict(enumerate(lines, start)))


def _nnunet(text: str) -> KnownLabels:
    """`labels` of a dataset.json: names by value, or values by name."""
    labels = json.loads(text)["labels"]
    names = {}
    for key, value in labels.items():
        number, name = (int(key), value) if str(key).isdigit() else (value, key)
        if isinstance(number, int):  # a region is a list of values
            names[number] = str(name)
    return KnownLabels(names=names)


def _supervisely(text: str) -> KnownLabels:
    """`classes` of a meta.json, with a title and a colour such as #00FF12."""
    classes = json.loads(text)["classes"]
    return KnownLabels(
        colors={_colour([*bytes.fromhex(c["color"].lstrip("#"))]): c["title"] for c in classes}
    )


def _mapillary(text: str) -> KnownLabels:
    """`labels` of a config.json, in the order of the values."""
    labels: list[Mapping[str, Any]] = json.loads(text)["labels"]
    void = [i for i, label in enumerate(labels) if not label.get("evaluate", True)]
    return KnownLabels(
        names={i: label["readable"] for i, label in enumerate(labels)},
        colors={_colour(label["color"]): label["readable"] for label in labels},
        ignored=frozenset([*void, *(_colour(labels[i]["color"]) for i in void)]),
    )


def _colour(parts: Sequence[Any]) -> Colour:
    red, green, blue = (int(part) for part in parts)
    if not all(0 <= channel <= 255 for channel in (red, green, blue)):
        raise ValueError(f"{parts} is no colour")
    return red, green, blue


def _named(pattern: str) -> Callable[[PurePosixPath], bool]:
    return lambda path: re.fullmatch(pattern, path.name.lower()) is not None


_READERS: tuple[tuple[Callable[[PurePosixPath], bool], Callable[[str], KnownLabels]], ...] = (
    (_named(r"labelmap\.txt"), _cvat),
    (_named(r"_classes\.csv"), _table),
    (_named(r"label_?colors?\.txt"), _colour_lines),
    (_named(r"objectinfo\d*\.(txt|csv)"), _table),
    (_named(r".*(class|label|color|palette|category).*\.(csv|tsv)"), _table),
    (_named(r"dataset\.json"), _nnunet),
    (_named(r"meta\.json"), _supervisely),
    (_named(r"config.*\.json"), _mapillary),
    (lambda path: path.suffix.lower() in (".txt", ".names") and path.stem.lower() in _LISTS, _list),
)
