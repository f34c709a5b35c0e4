"""per_image.csv read back, whatever the names are."""

import csv

import numpy as np
import pytest

from seg.evaluation.image_counts import ImageCounts
from seg.report.per_image import COLUMNS, write_per_image

HOSTILE = ["=1+1", "@SUM(A1)", 'comma, "quote"', "new\nline", "Straße/ä 1", "-2"]


def counts_of(names, rows, classes=3):
    rows = np.array(rows)
    return ImageCounts(tuple(names), classes, rows[:, 0], rows[:, 1], rows[:, 2:])


def rows_of(folder):
    with (folder / "per_image.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_there_is_a_row_for_each_image_and_class_that_occurs_in_it(tmp_path):
    counts = counts_of(["a", "b"], [[0, 0, 6, 2, 0], [0, 2, 0, 0, 5], [1, 1, 1, 1, 1]])
    write_per_image(tmp_path / "run", counts, ["x", "y"], ["sky", "car", "pole"])
    assert [list(row.values()) for row in rows_of(tmp_path / "run")] == [
        ["a", "x", "sky", "6", "2", "0", "0.75"],
        ["a", "x", "pole", "0", "0", "5", "0.0"],
        ["b", "y", "car", "1", "1", "1", repr(1 / 3)],
    ]
    assert list(rows_of(tmp_path / "run")[0]) == list(COLUMNS)


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_reads_back_and_none_is_a_formula(name, tmp_path):
    write_per_image(tmp_path, counts_of([name], [[0, 0, 1, 0, 0]]), [name], [name, "b", "c"])
    (row,) = rows_of(tmp_path)
    shown = f"'{name}" if name[0] in "=+-@" else name
    assert [row["image"], row["group"], row["class"]] == [shown] * 3


def test_without_groups_the_column_is_empty(tmp_path):
    write_per_image(tmp_path, counts_of(["a"], [[0, 0, 1, 0, 0]]), None, ["sky"])
    assert rows_of(tmp_path)[0]["group"] == ""
