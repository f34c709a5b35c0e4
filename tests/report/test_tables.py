import csv
import io
import json
import math

import pytest
from rich.console import Console

from seg.report.tables import print_per_class, write_per_class


def scores(name, iou=0.5, pixels=100):
    return {
        "name": name,
        "iou": iou,
        "dice": None if iou is None else 2 * iou / (1 + iou),
        "precision": 0.25,
        "recall": 1.0,
        "pixels": pixels,
    }


def record_of(*classes):
    return {
        "miou": 0.3125,
        "pixel_accuracy": 0.75,
        "fwiou": 0.625,
        "images": 12,
        "classes": list(classes),
    }


def with_intervals(record, of="images"):
    """The record of an evaluation whose last class is in four images."""
    for row in record["classes"]:
        row |= {"iou_interval": [0.4216, 0.5804], "dice_interval": None, of: 10}
    record["classes"][-1] |= {"iou_interval": None, of: 4}
    rare = {"miou_rare": 0.25, "miou_rare_interval": [0.2, 0.3], "rare_classes": ["a", "b"]}
    return record | {"miou_interval": [0.25, 0.375]} | rare


def printed(record, width=80, title="test split"):
    stream = io.StringIO()
    print_per_class(record, title, Console(file=stream, width=width))
    return stream.getvalue()


def row_of(text, name):
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [name])


def test_json_holds_the_record_with_null_for_what_is_not_defined(tmp_path):
    record = record_of(scores("Straße"), scores("pole", iou=math.nan, pixels=0))
    write_per_class(tmp_path / "run", record)
    text = (tmp_path / "run" / "per_class.json").read_text(encoding="utf-8")
    expected = json.loads(json.dumps(record).replace("NaN", "null"))
    assert json.loads(text) == expected
    assert text.startswith('{\n  "miou"')
    assert "NaN" not in text


def test_csv_has_a_line_a_class_and_reads_back_any_name(tmp_path):
    names = ['comma, "quote"', "new\nline", "1+1", "Straße"]
    write_per_class(tmp_path, record_of(*(scores(name) for name in names), scores("none", None)))
    with (tmp_path / "per_class.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [*names, "none"]
    assert [float(rows[0][key]) for key in ("iou", "precision", "recall", "pixels")] == [
        0.5,
        0.25,
        1.0,
        100,
    ]
    assert rows[-1]["iou"] == rows[-1]["dice"] == ""


def test_a_failed_write_leaves_the_older_files_whole_and_nothing_else(tmp_path):
    write_per_class(tmp_path, record_of(scores("old")))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UnicodeEncodeError):
        write_per_class(tmp_path, record_of(scores("lone surrogate \ud800")))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_table_shows_scores_shares_and_means():
    text = printed(record_of(scores("sky", 0.5, 9_999), scores("pole", 0.125, 1)))
    assert row_of(text, "sky") == ["sky", "0.500", "0.667", "0.250", "1.000", "99.99", "%"]
    assert row_of(text, "pole") == ["pole", "0.125", "0.222", "0.250", "1.000", "0.01", "%"]
    assert row_of(text, "mean") == ["mean", "0.312", "0.444", "0.250", "1.000"]
    assert "test split" in text
    assert "pixel accuracy 0.750, frequency-weighted IoU 0.625" in text


def test_a_class_without_a_score_is_a_dash_and_left_out_of_the_means():
    text = printed(record_of(scores("sky", 0.5), scores("pole", None, pixels=0)))
    assert row_of(text, "pole")[:3] == ["pole", "–", "–"]
    assert row_of(text, "mean")[2] == "0.667"


def test_a_share_that_rounds_to_nothing_is_not_shown_as_nothing():
    text = printed(record_of(scores("sky", pixels=10**6), scores("pole", pixels=1)))
    assert row_of(text, "pole")[-2:] == ["<0.01", "%"]


def test_a_split_without_any_valid_pixel_has_no_shares():
    text = printed(record_of(scores("sky", None, pixels=0)))
    assert row_of(text, "sky")[-1] == "–"


@pytest.mark.parametrize("name", ["[x]", "[bold]car[/bold]", ":smile:", "[/]", "a\\[b"])
def test_names_are_printed_letter_by_letter(name):
    text = printed(record_of(scores(name)), title=f"title {name}")
    assert f"title {name}" in text
    assert row_of(text, name)[1] == "0.500"


def test_nineteen_long_names_and_all_numbers_survive_any_width():
    names = [f"a_rather_long_class_name_that_would_not_fit_in_a_terminal_{i}" for i in range(19)]
    text = printed(record_of(*(scores(name) for name in names)), width=40)
    assert "…" not in text
    for name in names:
        assert row_of(text, name) == [name, "0.500", "0.667", "0.250", "1.000", "5.26", "%"]


def test_nineteen_ordinary_classes_fit_in_eighty_columns():
    names = ["traffic light", *(f"class {i}" for i in range(18))]
    text = printed(record_of(*(scores(name) for name in names)))
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("number", [11, 19])
def test_intervals_of_ordinary_classes_fit_in_eighty_columns(number):
    names = ["traffic light", *(f"class{i}" for i in range(number - 1))]
    text = printed(with_intervals(record_of(*(scores(name) for name in names))))
    assert max(map(len, text.splitlines())) <= 80
    assert row_of(text, "class0")[1:4] == ["0.500", "0.422–0.580", "0.667"]
    assert row_of(text, "mean")[1:4] == ["0.312", "0.250–0.375", "0.667"]
    assert "mean IoU of the 2 rarest classes 0.250 (0.200–0.300)" in text


@pytest.mark.parametrize("of", ["images", "groups"])
def test_where_an_interval_is_missing_there_is_the_number_that_is_too_small_for_it(of):
    record = with_intervals(record_of(scores("sky"), scores("pole")), of)
    assert row_of(printed(record), "pole")[1:5] == ["0.500", "4", of, "0.667"]
    record["classes"][-1][of] = 1
    assert row_of(printed(record), "pole")[2:4] == ["1", of[:-1]]
    record["classes"][-1]["iou"] = None
    assert row_of(printed(record), "pole")[1:3] == ["–", "–"]
    record |= {"miou_interval": None, "miou_rare_interval": None}
    assert row_of(printed(record), "mean")[1:5] == ["0.312", "too", "few", "0.667"]
    assert "rarest classes 0.250 (too few)" in printed(record)


def test_the_files_hold_the_intervals_and_null_or_nothing_where_there_is_none(tmp_path):
    record = with_intervals(record_of(scores("sky"), scores("pole")))
    write_per_class(tmp_path, record)
    written = json.loads((tmp_path / "per_class.json").read_text())
    assert written == record
    with (tmp_path / "per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [rows[0][key] for key in ("iou_low", "iou_high", "images")] == ["0.4216", "0.5804", "10"]
    assert [rows[1][key] for key in ("iou_low", "iou_high", "images")] == ["", "", "4"]


def test_without_a_console_the_table_goes_to_standard_output(capsys):
    print_per_class(record_of(scores("sky")), "test split")
    assert row_of(capsys.readouterr().out, "sky")[1] == "0.500"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_a_name_like_a_formula_is_text_in_the_csv_and_itself_in_the_json(name, tmp_path):
    write_per_class(tmp_path, record_of(scores(name), scores("a=b")))
    with (tmp_path / "per_class.csv").open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == [f"'{name}", "a=b"]
    written = json.loads((tmp_path / "per_class.json").read_text())
    assert [row["name"] for row in written["classes"]] == [name, "a=b"]
