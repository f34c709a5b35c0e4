"""Scores per class, as files and as a table on the terminal."""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from seg.evaluation.primitives import without_nan
from seg.files import replacing, write_text
from seg.report.terminal import UNDEFINED, print_table

_SCORES = ("iou", "dice", "precision", "recall")
_COLUMNS = ("name", "iou", "iou_low", "iou_high", *_SCORES[1:], "pixels", "images")

Record = Mapping[str, Any]
"""Scores of one evaluation: floats in [0, 1], None or NaN where they are not defined.

Of the whole: `miou`, `pixel_accuracy`, `fwiou` (frequency-weighted IoU) and the number of `images`.
`classes` has a mapping a class, in the order of the ids: `name`, `iou`, `dice`, `precision`,
`recall` and its number of `pixels` in the truth. `iou_interval` and the like, `[low, high]`, may be
there, and the number of `images` that show a class.
"""


def write_per_class(folder: str | Path, record: Record) -> None:
    """Writes per_class.json (all of it) and per_class.csv (a line a class) into `folder`.

    What is not defined is null in the one and an empty cell in the other. A name that begins like
    a formula of a spreadsheet has a ' before it in the CSV. Both replace older files
    in one step, so that a reader never meets half a file.

    Args:
        folder: Where to write; made if missing.
        record: The scores.
    """
    record = without_nan(record)
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(Path(folder) / "per_class.json", text + "\n")
    with (
        replacing(Path(folder) / "per_class.csv") as path,
        path.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for row in record["classes"]:
            low, high = row.get("iou_interval") or (None, None)
            ends = {"iou_low": low, "iou_high": high, "name": no_formula(row["name"])}
            writer.writerow({**row, **ends})


def no_formula(name: str) -> str:
    """The name, behind a ' where a spreadsheet would take it for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name


def read_per_class(folder: str | Path) -> dict[str, Any] | None:
    """The scores that `write_per_class` wrote into `folder`; None if it has not."""
    path = Path(folder) / "per_class.json"
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def print_per_class(record: Record, title: str, console: Console | None = None) -> None:
    """Prints the scores: a row a class, then their means, which leave out classes without a score.

    Where an interval is missing, there is the number of images that are too few for one.

    Args:
        record: The scores.
        title: Printed above.
        console: Where to print; standard output if None.
    """
    classes = record["classes"]
    total = sum(_known(row["pixels"]) or 0 for row in classes)
    means = [_mean(row[key] for row in classes) for key in _SCORES[1:]]
    known = "miou_interval" in record
    ends = [_interval(record, "miou")] if known else []
    print_table(
        title,
        ("IoU", *(["IoU 95 %"] if known else []), "Dice", "precision", "recall", "pixels"),
        (_row(row, total) for row in classes),
        ("mean", _score(record["miou"]), *ends, *map(_score, means), ""),
        _caption(record),
        console,
    )


def _row(row: Record, total: float) -> tuple[str, ...]:
    iou, *others = (_score(row[key]) for key in _SCORES)
    ends = [_interval(row, "iou")] if "iou_interval" in row else []
    return row["name"], iou, *ends, *others, _share(row["pixels"], total)


def _interval(row: Record, kind: str) -> str:
    """Low and high end, or of how many images there is none."""
    if ends := row.get(f"{kind}_interval"):
        return f"{ends[0]:.3f}–{ends[1]:.3f}"
    if _known(row[kind]) is None:
        return UNDEFINED
    if "classes" in row:  # a mean, by classes of too few images
        return "too few"
    of = "groups" if "groups" in row else "images"
    return f"{row[of]} {of if row[of] != 1 else of[:-1]}"


def _caption(record: Record) -> str:
    lines = [
        f"pixel accuracy {_score(record['pixel_accuracy'])}, "
        f"frequency-weighted IoU {_score(record['fwiou'])}"
    ]
    if "rare_classes" in record:
        rare = f"mean IoU of the {len(record['rare_classes'])} rarest classes"
        ends = f" ({_interval(record, 'miou_rare')})" if "miou_rare_interval" in record else ""
        lines.append(f"{rare} {_score(record['miou_rare'])}{ends}")
    return "\n".join(lines)


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in map(_known, values) if value is not None]
    return sum(known) / len(known) if known else None


def _score(value: float | None) -> str:
    known = _known(value)
    return UNDEFINED if known is None else f"{known:.3f}"


def _share(pixels: float | None, total: float) -> str:
    known = _known(pixels)
    if known is None or total <= 0:
        return UNDEFINED
    percent = 100 * known / total
    return "<0.01 %" if 0 < percent < 0.01 else f"{percent:.2f} %"
