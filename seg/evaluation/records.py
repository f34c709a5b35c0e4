"""Scores by name, for loggers and for JSON."""

from collections.abc import Sequence
from typing import Any

from seg.evaluation.image_scores import image_scores
from seg.evaluation.intervals import Intervals
from seg.evaluation.metrics import Scores
from seg.evaluation.primitives import without_nan

_OF_ALL = ("miou", "worst_class_iou", "fwiou", "pixel_accuracy")
_OF_CLASSES = ("iou", "dice", "recall", "precision")


def score_names(class_names: Sequence[str]) -> list[str]:
    """What `named_scores` names."""
    of_classes = (f"{kind}/{name}" for kind in _OF_CLASSES for name in class_names)
    return ["miou_rare", *_OF_ALL, *of_classes]


def named_scores(scores: Scores, class_names: Sequence[str], num_rare: int) -> dict[str, float]:
    """Every score by a name that can be logged, such as iou/crack.

    Args:
        scores: Scores of C classes.
        class_names: Their C names.
        num_rare: Number of rarest classes that miou_rare is the mean of.
    """
    values = [getattr(scores, name) for name in _OF_ALL]
    for kind in _OF_CLASSES:
        values += getattr(scores, kind).tolist()
    return dict(zip(score_names(class_names), [scores.rare_miou(num_rare), *values], strict=True))


def per_class_records(
    scores: Scores,
    class_names: Sequence[str],
    num_rare: int | None = None,
    intervals: Intervals | None = None,
) -> dict[str, Any]:
    """Writes scores as primitives that JSON can hold, NaN as None.

    Args:
        scores: Scores of C classes.
        class_names: Their C names.
        num_rare: Number of rarest classes that miou_rare is the mean of; None leaves it out.
        intervals: Of these scores; None leaves them out.

    Returns:
        ``{"miou", "fwiou", "pixel_accuracy", "images", "classes"}``, where classes lists
        ``{"name", "iou", "dice", "precision", "recall", "pixels"}`` in the order of the ids. With
        intervals there is ``iou_interval`` after ``iou``, ``[low, high]`` or None, and so on;
        ``images`` of a class, those that show it; and ``groups`` where the intervals are of these.

    Raises:
        ValueError: If there are not C names.
    """
    if len(class_names) != len(scores.pixels):
        raise ValueError(
            f"{len(class_names)} class names for scores of {len(scores.pixels)} classes; give one "
            "name a class."
        )
    names = [str(name) for name in class_names]
    whole = {"miou": scores.miou, **_interval_of("miou", intervals)}
    if num_rare is not None:
        rare = [names[class_id] for class_id in scores.rare_classes(num_rare)]
        whole |= {"miou_rare": scores.rare_miou(num_rare)}
        whole |= {**_interval_of("miou_rare", intervals), "rare_classes": rare}
    whole |= {"fwiou": scores.fwiou, "pixel_accuracy": scores.pixel_accuracy}
    if scores.by_image is not None:
        whole |= image_scores(scores.by_image)
    whole |= {"images": scores.images}
    columns: dict[str, list[Any]] = {"name": names}
    for kind in ("iou", "dice", "precision", "recall"):
        columns[kind] = getattr(scores, kind).tolist()
        columns |= _interval_of(kind, intervals)
    columns["pixels"] = scores.pixels.tolist()
    if intervals is not None:
        columns["images"] = intervals.images.tolist()
        if intervals.grouped:
            whole |= {"groups": intervals.drawn}
            columns["groups"] = intervals.groups.tolist()
    rows = zip(*columns.values(), strict=True)
    whole["classes"] = [dict(zip(columns, row, strict=True)) for row in rows]
    found: dict[str, Any] = without_nan(whole)
    return found


def _interval_of(kind: str, intervals: Intervals | None) -> dict[str, Any]:
    return {} if intervals is None else {f"{kind}_interval": intervals.ends[kind].tolist()}
