"""`seg compare` on folders as `seg test` leaves them."""

import csv
import json

import numpy as np
import pytest

from seg.cli import app as cli
from seg.report.per_image import write_per_image
from seg.report.tables import write_per_class
from tests.evaluation.test_comparison import improved
from tests.evaluation.test_intervals import counts_of, drawn

NAMES = ["road", "pole", "=cmd()"]


def run_of(folder, dense, names=NAMES, groups=None):
    """A folder with the counts of an evaluation."""
    scores = dict.fromkeys(("iou", "dice", "precision", "recall", "pixels"))
    totals = dict.fromkeys(("miou", "pixel_accuracy", "fwiou"))
    classes = [{"name": name, **scores} for name in names]
    record = {**totals, "images": len(dense), "rare_classes": names[-1:], "classes": classes}
    write_per_class(folder, record)
    write_per_image(folder, counts_of(dense), groups, names)
    return str(folder)


def found_in(folder):
    return json.loads((folder / "compare.json").read_text(encoding="utf-8"))


@pytest.fixture
def dense():
    return drawn(np.random.default_rng(0), 40, 3)


@pytest.fixture
def better(dense):
    return improved(dense, np.random.default_rng(1), 0.5)


def seg(tmp_path, *args):
    return cli.main(["compare", *args, "--output", str(tmp_path / "out")])


def test_a_better_run_is_told_with_its_change_in_table_json_and_csv(
    tmp_path, dense, better, capsys
):
    runs = [run_of(tmp_path / "a", dense), f"new={run_of(tmp_path / 'b', better)}"]
    assert seg(tmp_path, *runs) == 0
    printed = capsys.readouterr().out
    assert max(len(line) for line in printed.splitlines() if "road" in line) <= 80
    record = found_in(tmp_path / "out")
    assert record["compared_with"] == runs[0]
    assert (record["images"], record["groups"]) == (40, None)
    rows = record["differences"]["new"]
    assert [row["class"] for row in rows][:3] == NAMES
    iou = [data[..., 0].sum(0) / data.sum((0, 2)) for data in (dense, better)]
    for row, first, second in zip(rows, *iou, strict=False):
        assert row["difference"] == pytest.approx(second - first)
        assert 0 < row["low"] < row["difference"] < row["high"]
        assert row["p_value"] <= row["p_corrected"] < 0.05
        line = next(line for line in printed.splitlines() if line.split()[:1] == [row["class"]])
        assert line.split()[1:4] == [f"{first:.3f}", f"{second:.3f}", f"{second - first:+.3f}"]
    assert rows[3]["difference"] == pytest.approx(np.mean(iou[1] - iou[0]))
    assert rows[4]["difference"] == pytest.approx((iou[1] - iou[0])[2])
    with (tmp_path / "out" / "compare.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["class"] for row in table] == [row["class"] for row in rows[:2]] + [
        "'=cmd()",
        "mean IoU",
        "mean IoU of the rare classes",
    ]
    assert float(table[1]["low"]) == rows[1]["low"]


def test_seeds_of_a_recipe_are_one_recipe_and_their_order_and_that_of_rows_change_nothing(
    tmp_path, dense, better
):
    seeds = [improved(dense, np.random.default_rng(seed), 0.5) for seed in (2, 3)]
    folders = [
        run_of(tmp_path / name, data) for name, data in zip("abc", [dense, *seeds], strict=True)
    ]
    assert seg(tmp_path, folders[0], f"new={folders[1]},{folders[2]}", "--seed=1") == 0
    record = found_in(tmp_path / "out")
    assert record["recipes"]["new"] == folders[1:]
    means = [row["second"] for row in record["differences"]["new"][:3]]
    iou = np.mean([data[..., 0].sum(0) / data.sum((0, 2)) for data in seeds], axis=0)
    np.testing.assert_allclose(means, iou)
    path = tmp_path / "a" / "per_image.csv"
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, *reversed(lines)]))
    assert seg(tmp_path, folders[0], f"new={folders[1]},{folders[2]}", "--seed=1") == 0
    assert found_in(tmp_path / "out") == record


def test_groups_are_taken_from_the_files_and_told(tmp_path, dense, better, capsys):
    groups = [f"video{i // 4}" for i in range(40)]
    runs = [run_of(tmp_path / n, d, groups=groups) for n, d in (("a", dense), ("b", better))]
    assert seg(tmp_path, *runs) == 0
    assert found_in(tmp_path / "out")["groups"] == 10
    assert "40 images of 10 groups" in capsys.readouterr().out


def refused(tmp_path, capsys, *args):
    assert seg(tmp_path, *args) == 2
    error = capsys.readouterr().err
    assert error.startswith("seg: error: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    return error


def test_runs_over_other_images_or_masks_are_refused_and_named(tmp_path, dense, capsys):
    one = run_of(tmp_path / "a", dense)
    fewer = run_of(tmp_path / "b", dense[:38])
    error = refused(tmp_path, capsys, one, fewer)
    assert f"{fewer}: 2 images of {one} are missing: 00038, 00039; " in error
    assert f"{fewer}: 2 images" in refused(tmp_path, capsys, fewer, one)
    dense[7, 1, 2] += 1
    other = run_of(tmp_path / "c", dense)
    error = refused(tmp_path, capsys, one, other)
    assert f"{other}: 00007 has {dense[7, 1, [0, 2]].sum()} pixels of pole, but " in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["road", "sign", "=cmd()"]}, "compare runs of the same classes"),
        ({"groups": ["one"] * 40}, "judge both with the same data.group"),
    ],
)
def test_runs_of_other_classes_or_groups_are_refused(change, message, tmp_path, dense, capsys):
    runs = [run_of(tmp_path / "a", dense), run_of(tmp_path / "b", dense, **change)]
    assert message in refused(tmp_path, capsys, *runs)


def test_what_is_no_run_or_nothing_to_compare_is_refused(tmp_path, dense, capsys):
    one = run_of(tmp_path / "run" / "test" / "best", dense)
    assert "nothing to compare with" in refused(tmp_path, capsys, one)
    assert "is given twice" in refused(tmp_path, capsys, one, one)
    for above in ("run", "run/test"):
        error = refused(tmp_path, capsys, one, str(tmp_path / above))
        assert f"no per_image.csv with its per_class.json there; there is one in {one}." in error
    assert "run seg test first" in refused(tmp_path, capsys, one, str(tmp_path / "no"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (",road,", ",rood,"),
        ("tp,", "t,"),
        ("00001,,road,", "00001,,road,x"),
        ("00001,,road,", "00001,,road,-"),
    ],
)
def test_a_file_that_seg_did_not_write_so_is_refused_with_its_line(
    old, new, tmp_path, dense, capsys
):
    one, other = (run_of(tmp_path / name, dense) for name in "ab")
    path = tmp_path / "b" / "per_image.csv"
    path.write_text(path.read_text().replace(old, new))
    assert f"{path}, line " in refused(tmp_path, capsys, one, other)


def test_what_was_written_to_by_hand_is_told(tmp_path, dense, capsys):
    one, other = (run_of(tmp_path / name, dense) for name in "ab")
    path = tmp_path / "b" / "per_image.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[1])
    assert f"{path}: a class of 00000 has two rows" in refused(tmp_path, capsys, one, other)
    (tmp_path / "b" / "per_class.json").write_text("{")
    assert f"{other}/per_class.json: Expecting property" in refused(tmp_path, capsys, one, other)
