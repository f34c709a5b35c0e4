"""An audit as one HTML file that needs nothing else: what to set, sample images, all classes."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from seg.audit.notation import percent
from seg.prediction.palette import Colors
from seg.report.sample_pictures import SamplePicture

_MOST_NOTES = 20
_DECADES = 3
_NUMBERS = (
    ("pixels", "pixels"),
    ("components", "components"),
    ("median_component", "median component (px)"),
)


class Origin(NamedTuple):
    """What was audited, and how.

    Args:
        data: Path of the data, or what takes its place.
        date: Day and time.
        command: As it was typed.
    """

    data: str
    date: str
    command: str


class Bar(NamedTuple):
    """A share and the length of its bar in percent of a cell; None where the split has none."""

    text: str
    length: float
    detail: str


def audit_page(
    facts: Mapping[str, Any],
    remarks: Sequence[str],
    origin: Origin,
    colors: Colors,
    pictures: Sequence[SamplePicture],
) -> str:
    """The page of what `audit_data` found, with `recommendation`, reasons by what is set.

    Args:
        facts: What was found.
        remarks: What should not be as it is, one line each.
        origin: Said at the top.
        colors: One RGB colour a class.
        pictures: Of training images.
    """
    splits = facts["splits"]
    names = [c["name"] for c in next(iter(splits.values()))["classes"]]
    order = _by_share(splits)
    low = lowest_power(c["share"] for split in splits.values() for c in split["classes"])
    hidden = len(remarks) - _MOST_NOTES
    return _rendered(
        origin=origin,
        recommendation=facts["recommendation"],
        unsettled=facts["nothing_to_learn"],
        remarks=[*remarks[:_MOST_NOTES], *([f"… and {hidden} more"] if hidden > 0 else [])],
        pictures=pictures,
        swatches={name: "rgb({}, {}, {})".format(*colors[c]) for c, name in enumerate(names)},
        splits=list(splits),
        axis=f"{percent(10.0**low)} to 100 %",
        rows=[_row(c, names[c], splits, low) for c in order],
        numbers=[heading for _, heading in _NUMBERS],
        summaries=_summaries(splits),
    )


def lowest_power(shares: Any) -> int:
    """Where a logarithmic axis that ends at 1 begins: the power of ten below all that are not 0."""
    known = [share for share in shares if share > 0]
    least = math.ceil(math.log10(min(known))) - 1 if known else -_DECADES
    return min(least, -_DECADES)


@cache
def _template() -> Any:
    """A template in which every value is escaped."""
    loader = PackageLoader("seg.report")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return environment.get_template("audit.html")


def _rendered(**values: Any) -> str:
    text: str = _template().render(**values)
    return text + "\n"


def _by_share(splits: Mapping[str, Any]) -> list[int]:
    """Ids of the classes, by falling share of the pixels of the first split."""
    classes = next(iter(splits.values()))["classes"]
    return sorted(range(len(classes)), key=lambda c: -classes[c]["share"])


def _row(class_id: int, name: str, splits: Mapping[str, Any], low: int) -> dict[str, Any]:
    """What the page says of a class, split by split."""
    of_class = [split["classes"][class_id] for split in splits.values()]
    counts = [split["images"] for split in splits.values()]
    return {
        "id": class_id,
        "name": name,
        "shares": [
            Bar(
                percent(c["share"]),
                100 * (1 - math.log10(c["share"]) / low) if c["share"] > 0 else 0.0,
                f"{c['pixels']:,} pixels",
            )
            for c in of_class
        ],
        "images": [
            Bar(
                f"{c['images']:,}",
                100 * c["images"] / count if count else 0.0,
                f"{percent(c['images'] / count) if count else '–'} of {count:,} images",
            )
            for c, count in zip(of_class, counts, strict=True)
        ],
        "numbers": [[_number(c[key]) for key, _ in _NUMBERS] for c in of_class],
    }


def _summaries(splits: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Rows of what is said of splits as a whole: a heading, and a cell for each split."""
    cells = [_summary(split) for split in splits.values()]
    return [(heading, [cell[heading] for cell in cells]) for heading in cells[0]]


def _summary(split: Mapping[str, Any]) -> dict[str, str]:
    sizes, ratio = split["sizes"], split["imbalance_ratio"]
    return {
        "images": f"{split['images']:,}",
        "ignored pixels": percent(split["ignored_share"]),
        "imbalance ratio": "–" if ratio is None else f"{ratio:,.1f}",
        "smallest image": _size(sizes.get("least")),
        "largest image": _size(sizes.get("most")),
        "smaller than the crop": f"{sizes.get('smaller_than_crop', 0):,}",
        "masks of one class": f"{split['masks_of_one_class']:,}",
        "masks ignored throughout": f"{split['masks_all_ignored']:,}",
    }


def _size(size: Sequence[int] | None) -> str:
    return "–" if size is None else f"{size[0]:,} × {size[1]:,}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
