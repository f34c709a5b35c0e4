"""Scores by name, for loggers and for JSON."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from seg.evaluation.metrics import Scores

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


def per_class_records(scores: Scores, class_names: Sequence[str]) -> dict[str, Any]:
    """Writes scores as primitives that JSON can hold, NaN as None.

    Args:
        scores: Scores of C classes.
        class_names: Their C names.

    Returns:
        ``{"miou", "fwiou", "pixel_accuracy", "images", "classes"}``, where classes lists
        ``{"name", "iou", "dice", "precision", "recall", "pixels"}`` in the order of the ids.

    Raises:
        ValueError: If there are not C names.
    """
    if len(class_names) != len(scores.pixels):
        raise ValueError(
            f"{len(class_names)} class names for scores of {len(scores.pixels)} classes; give one "
            "name a class."
        )
    columns = {
        "iou": _primitives(scores.iou),
        "dice": _primitives(scores.dice),
        "precision": _primitives(scores.precision),
        "recall": _primitives(scores.recall),
        "pixels": scores.pixels.tolist(),
    }
    return {
        "miou": _primitive(scores.miou),
        "fwiou": _primitive(scores.fwiou),
        "pixel_accuracy": _primitive(scores.pixel_accuracy),
        "images": scores.images,
        "classes": [
            {"name": str(name), **{key: column[index] for key, column in columns.items()}}
            for index, name in enumerate(class_names)
        ],
    }


def _primitive(value: float) -> float | None:
    return None if value != value else value  # NaN is the only number unlike itself


def _primitives(values: Tensor) -> list[float | None]:
    return [_primitive(value) for value in values.tolist()]
