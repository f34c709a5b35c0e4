"""`seg compare`: whether a recipe is better than another on the images that both were judged on."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seg.cli.parsers import CommandParser
from seg.errors import InputError
from seg.evaluation.comparison import Difference, difference, holm
from seg.evaluation.image_counts import ImageCounts
from seg.evaluation.primitives import without_nan
from seg.files import refuse_overwriting, replacing, write_text
from seg.report.per_image import read_per_image
from seg.report.tables import no_formula, read_per_class
from seg.report.terminal import UNDEFINED, print_lines, print_table

_SHOWN = 5
_KINDS = ("first", "second", "difference", "low", "high", "p_value", "p_corrected", "images_needed")
_MEANS = ("mean IoU", "mean IoU of the rare classes")


class _Run(NamedTuple):
    """What was read of one folder."""

    folder: Path
    classes: list[str]
    rare: list[str]
    counts: ImageCounts
    groups: list[str] | None


def main(args: list[str]) -> int:
    """Compare every recipe with the first one; returns the exit status.

    Raises:
        InputError: If the folders are not of runs that were judged on the same images.
    """
    parser = CommandParser(
        prog="seg compare",
        description="Compare the IoU of runs, image by image; the first one is compared with.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="Folder with per_image.csv, as seg test and seg fit leave it; or NAME=FOLDER,FOLDER "
        "for the runs of one recipe with several seeds.",
    )
    parser.add_argument("--output", default="compare", help="Folder of compare.json and .csv.")
    parser.add_argument("--seed", type=int, default=0, help="Of the images that are drawn again.")
    config = parser.parse_args(args)
    recipes = _recipes(config.runs)
    runs = {name: [_read(folder) for folder in folders] for name, folders in recipes.items()}
    first, *_ = _check(runs)
    rare = [first.classes.index(name) for name in first.rare]
    written = [Path(config.output) / name for name in ("compare.json", "compare.csv")]
    refuse_overwriting(written, [])
    base, *others = runs
    counts = {name: [run.counts for run in found] for name, found in runs.items()}
    found = {
        name: difference(counts[base], counts[name], rare, first.groups, seed=config.seed)
        for name in others
    }
    rows = _rows(found, first.classes)
    number = {"images": len(first.counts), "groups": _number(first.groups)}
    record: dict[str, Any] = {"compared_with": base}
    record |= {"recipes": {name: [*map(str, folders)] for name, folders in recipes.items()}}
    record |= {**number, "rare_classes": first.rare, "differences": rows}
    _write(written, without_nan(record))
    for name in others:
        _print(base, name, rows[name], number, len(first.classes))
    print_lines([f"Written: {config.output}/compare.json, compare.csv"])
    return 0


def _recipes(given: Sequence[str]) -> dict[str, list[Path]]:
    """Folders of each recipe by its name; a folder without a name is one by itself."""
    recipes: dict[str, list[Path]] = {}
    for text in given:
        name, equals, folders = text.partition("=")
        if not equals or Path(text).is_dir():
            name, folders = text, text
        if name in recipes:
            raise InputError(f"{text}: {name} is given twice; expected one name a recipe.")
        recipes[name] = [Path(folder) for folder in folders.split(",")] if equals else [Path(text)]
    if len(recipes) < 2:
        raise InputError(
            f"{', '.join(given)}: nothing to compare with; give two runs or more, several seeds of "
            "a recipe as NAME=FOLDER,FOLDER."
        )
    return recipes


def _read(folder: Path) -> _Run:
    try:
        record = read_per_class(folder)
    except ValueError as error:
        raise InputError(f"{folder}/per_class.json: {error}; run seg test again.") from error
    if record is None or not (folder / "per_image.csv").is_file():
        below = sorted(str(path.parent) for path in folder.rglob("per_image.csv"))
        hint = f"there is one in {', '.join(below[:_SHOWN])}" if below else "run seg test first"
        raise InputError(f"{folder}: no per_image.csv with its per_class.json there; {hint}.")
    classes = [row["name"] for row in record["classes"]]
    counts, groups = read_per_image(folder, classes)
    if len(counts) == 0:
        raise InputError(f"{folder}/per_image.csv: it has no image; expected one row or more.")
    return _Run(folder, classes, record.get("rare_classes", []), counts, groups)


def _check(runs: Mapping[str, Sequence[_Run]]) -> list[_Run]:
    """All runs, once they are known to be of the same classes, images, masks and groups."""
    first, *others = (run for found in runs.values() for run in found)
    for run in others:
        if run.classes != first.classes:
            raise InputError(
                f"{run.folder}: classes {run.classes}, but {first.folder} has {first.classes}; "
                "compare runs of the same classes."
            )
        for one, other in ((first, run), (run, first)):
            missing = sorted(set(one.counts.names) - set(other.counts.names))
            if missing:
                more = ", …" if len(missing) > _SHOWN else ""
                raise InputError(
                    f"{other.folder}: {len(missing)} images of {one.folder} are missing: "
                    f"{', '.join(missing[:_SHOWN])}{more}; judge both on the same images."
                )
        _check_truth(first, run)
        if run.groups != first.groups:
            raise InputError(
                f"{run.folder}: other groups than {first.folder}; judge both with the same "
                "data.group."
            )
    return [first, *others]


def _check_truth(first: _Run, run: _Run) -> None:
    """Refuse counts of other masks: the true pixels are what is found and what is missed."""
    for start in range(0, len(first.counts), 1000):
        one, other = (
            found.counts.dense(start, start + 1000)[..., [0, 2]].sum(2) for found in (first, run)
        )
        if len(different := np.argwhere(one != other)):
            image, class_id = different[0]
            raise InputError(
                f"{run.folder}: {first.counts.names[start + image]} has "
                f"{other[image, class_id]} pixels of {first.classes[class_id]}, but "
                f"{one[image, class_id]} in {first.folder}; judge both on the same masks."
            )


def _number(groups: Sequence[str] | None) -> int | None:
    return None if groups is None else len(set(groups))


def _rows(found: Mapping[str, Difference], classes: Sequence[str]) -> dict[str, list[Any]]:
    """A row for each class and mean of each recipe; p-values are corrected over the recipes."""
    p_values = np.stack([of.p_value for of in found.values()])
    families = np.split(p_values, [len(classes)], axis=1)  # classes, and means
    corrected = np.concatenate([holm(f.ravel()).reshape(f.shape) for f in families], axis=1)
    rows = {}
    for (name, of), p_corrected in zip(found.items(), corrected, strict=True):
        columns = of.first, of.second, of.difference, *of.ends.T, of.p_value, p_corrected, of.images
        table = zip([*classes, *_MEANS], *(column.tolist() for column in columns), strict=True)
        rows[name] = [dict(zip(("class", *_KINDS), row, strict=True)) for row in table]
    return rows


def _write(paths: Sequence[Path], record: Mapping[str, Any]) -> None:
    write_text(paths[0], json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    with replacing(paths[1]) as path, path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ("recipe", "class", *_KINDS), lineterminator="\n")
        writer.writeheader()
        for name, rows in record["differences"].items():
            for row in rows:
                names = {"recipe": no_formula(name), "class": no_formula(row["class"])}
                writer.writerow({**row, **names})


def _print(
    base: str, name: str, rows: Sequence[Any], number: Mapping[str, Any], classes: int
) -> None:
    mean, rare = rows[classes:]
    of = f"{number['images']} images"
    if number["groups"] is not None:
        of += f" of {number['groups']} groups"
    print_table(
        f"{name} less {base}: IoU, {of}",
        ("first", "second", "change", "95 %", "p", "needs"),
        (_cells(row) for row in rows[:classes]),
        ("mean", *_cells(mean)[1:]),
        f"mean of the rare classes: {_signed(rare['difference'])} ({_ends(rare)}), "
        f"p {_p(rare['p_corrected'])}\n"
        "p: corrected by Holm; needs: images that show a change half as large",
    )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    scores = (UNDEFINED if np.isnan(row[k]) else f"{row[k]:.3f}" for k in ("first", "second"))
    needed = row["images_needed"]
    images = UNDEFINED if np.isnan(needed) else f"{needed:,.0f}" if needed < 1e6 else ">1 million"
    p = _p(row["p_corrected"])
    return row["class"], *scores, _signed(row["difference"]), _ends(row), p, images


def _signed(value: float) -> str:
    return UNDEFINED if np.isnan(value) else f"{value:+.3f}"


def _ends(row: Mapping[str, Any]) -> str:
    if np.isnan(row["low"]):
        return "too few"
    return f"{_signed(row['low'])} {_signed(row['high'])}"


def _p(value: float) -> str:
    return UNDEFINED if np.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"
