"""Labels of data sets that are told by their layout: Cityscapes, Pascal VOC, ADE20k, CamVid."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

from seg.data.discovery.layouts import Layout
from seg.data.discovery.setting import KnownLabels

_CITYSCAPES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle",
    "bicycle",
)  # fmt: skip
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)
"""Of these classes, among the 34 of `labelIds`; the others are not evaluated."""
_VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
_CAMVID = (
    "sky", "building", "pole", "road", "pavement", "tree", "signsymbol", "fence", "car",
    "pedestrian", "bicyclist",
)  # fmt: skip
_CAMVID_NAME = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD|0001_)")
_VOC_NAME = re.compile(r"20\d\d_\d{6}")


def known_data_set(layout: Layout) -> KnownLabels:
    """What is known of the labels of a layout; nothing for that of no known data set."""
    for is_it, labels in _KNOWN:
        if is_it(layout):
            return labels
    return KnownLabels()


def with_priority(first: KnownLabels, second: KnownLabels) -> KnownLabels:
    """Of two, the names and colours of the first that has any; what either ignores."""
    if not (first.names or first.colors):
        return replace(second, ignored=first.ignored | second.ignored)
    return replace(first, ignored=first.ignored | second.ignored)


def _names(layout: Layout) -> list[str]:
    return [PurePosixPath(name).name for _, name in layout.pairs]


def _is_cityscapes(kind: str) -> Callable[[Layout], bool]:
    return lambda layout: layout.masks.endswith(f"_{kind}") and "gt" in layout.masks


def _is_voc(layout: Layout) -> bool:
    names = _names(layout)
    return layout.masks.endswith("SegmentationClass") and all(map(_VOC_NAME.fullmatch, names))


def _is_ade20k(layout: Layout) -> bool:
    return all(name.startswith("ADE_") for name in _names(layout))


def _is_camvid(layout: Layout) -> bool:
    of_tutorial = layout.masks.endswith("annot")
    return of_tutorial and all(map(_CAMVID_NAME.match, _names(layout)))


_KNOWN: tuple[tuple[Callable[[Layout], bool], KnownLabels], ...] = (
    (
        _is_cityscapes("labelTrainIds"),
        KnownLabels(dict(enumerate(_CITYSCAPES)), ignored=frozenset({255}), source="Cityscapes"),
    ),
    (
        _is_cityscapes("labelIds"),
        KnownLabels(
            dict(zip(_CITYSCAPES_IDS, _CITYSCAPES, strict=True)),
            ignored=frozenset({*range(-1, 34), 255} - {*_CITYSCAPES_IDS}),
            source="Cityscapes",
        ),
    ),
    (
        _is_voc,
        KnownLabels(dict(enumerate(_VOC)), ignored=frozenset({255}), source="Pascal VOC"),
    ),
    (_is_ade20k, KnownLabels(ignored=frozenset({0}), source="ADE20k")),
    (
        _is_camvid,
        KnownLabels(dict(enumerate(_CAMVID)), ignored=frozenset({11}), source="CamVid"),
    ),
)
