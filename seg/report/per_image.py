"""per_image.csv: a row for each image and each class that occurs in it, to sort and to join."""

import csv
from collections.abc import Sequence
from pathlib import Path

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
