"""per_image.csv: a row for each image and each class that occurs in it, to sort and to join."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seg.errors import InputError
from seg.evaluation.image_counts import ImageCounts
from seg.files import replacing
from seg.report.tables import no_formula

COLUMNS = ("image", "group", "class", "tp", "fp", "fn", "iou")


def write_per_image(
    folder: str | Path,
    counts: ImageCounts,
    groups: Sequence[str] | None,
    class_names: Sequence[str],
) -> None:
    """Writes per_image.csv into `folder`; it replaces an older one in one step.

    A class is left out where neither the truth nor the prediction of an image has it. A name that
    begins like a formula of a spreadsheet has a ' before it.

    Args:
        folder: Where to write; made if missing.
        counts: Of N images and C classes.
        groups: Group of each image; the column is empty if None.
        class_names: Their C names.
    """
    images = [no_formula(name) for name in counts.names]
    of_groups = [""] * len(images) if groups is None else [no_formula(name) for name in groups]
    classes = [no_formula(str(name)) for name in class_names]
    columns = counts.image.tolist(), counts.class_id.tolist(), counts.counts.tolist()
    with (
        replacing(Path(folder) / "per_image.csv") as path,
        path.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for image, class_id, found in zip(*columns, strict=True):
            names = images[image], of_groups[image], classes[class_id]
            writer.writerow((*names, *found, found[0] / sum(found)))


def read_per_image(
    folder: str | Path, class_names: Sequence[str]
) -> tuple[ImageCounts, list[str] | None]:
    """The counts that `write_per_image` wrote, and the group of each image; None if there is none.

    The rows may be in any order. Names are as they are written, with the ' before a formula.

    Args:
        folder: Where per_image.csv lies.
        class_names: The C names of the classes.

    Raises:
        InputError: If it was not written by `write_per_image` for these classes.
    """
    path = Path(folder) / "per_image.csv"
    ids = {no_formula(str(name)): class_id for class_id, name in enumerate(class_names)}
    images: dict[str, int] = {}
    groups: list[str] = []
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                if (image := row["image"]) not in images:
                    images[image] = len(images)
                    groups.append(row["group"])
                found = [int(row[kind]) for kind in ("tp", "fp", "fn")]
                if min(found) < 0:
                    raise ValueError(f"{min(found)} pixels")
                rows.append((images[image], ids[row["class"]], *found))
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise InputError(
                f"{path}, line {reader.line_num}: not as seg writes it for these classes "
                f"({type(error).__name__}: {error}); run seg test again."
            ) from error
    order = sorted(range(len(images)), key=[*images].__getitem__)
    table = np.array(rows, np.int64).reshape(-1, 5)
    table[:, 0] = np.argsort(order)[table[:, 0]]
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    twice = np.flatnonzero((np.diff(table[:, :2], axis=0) == 0).all(axis=1))
    if len(twice):
        name = sorted(images)[table[twice[0], 0]]
        raise InputError(f"{path}: a class of {name} has two rows; run seg test again.")
    counts = ImageCounts(tuple(sorted(images)), len(ids), table[:, 0], table[:, 1], table[:, 2:])
    return counts, [groups[i] for i in order] if any(groups) else None
