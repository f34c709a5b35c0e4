"""The page of an audit: its figures, its pictures, and names that it shows and does not obey."""

import html.parser
import math

import pytest

from seg.audit.notation import percent
from seg.report.audit_page import Origin, audit_page
from seg.report.sample_pictures import SamplePicture

HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"
ORIGIN = Origin(f"/data/{HOSTILE}", "2026-01-02 03:04 UTC", f"seg audit --data.root '{HOSTILE}'")
VOID = ("meta", "br", "img", "input")


class Page(html.parser.HTMLParser):
    """The tables of a page by class, as rows of texts, the lengths of bars, and the pictures."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.tables, self.lengths, self.pictures = [], [], {}, [], []
        self.feed(text)
        assert self.open == []  # each tag is closed

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        assert not {name for name in given if name.startswith("on")} and tag != "script"
        if tag == "table":
            self.rows = self.tables[given["class"]] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "i":
            self.lengths.append(float(given["style"].removeprefix("width:").removesuffix("%")))
        elif tag == "img":
            self.pictures.append(given)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if {"td", "th"} & {*self.open}:
            self.rows[-1][-1] += data


def of_class(name, pixels, total, images):
    share = {"share": pixels / total, "components": images, "median_component": 2.5}
    return {"name": name, "pixels": pixels, "images": images, **share}


def of_split(images, *classes):
    total = sum(pixels for _, pixels, _ in classes)
    return {
        **{"images": images, "ignored_share": 0.25, "imbalance_ratio": 99.0, "sizes": {}},
        **{"classes": [of_class(name, p, total, shown) for name, p, shown in classes]},
        **{"masks_of_one_class": 1, "masks_all_ignored": 0, "unreadable": []},
    }


SPLITS = {
    "train": of_split(8, ("a", 5, 2), (HOSTILE, 9_990, 8), ("c", 5, 0)),
    "val": of_split(4, ("a", 100, 4), (HOSTILE, 899_900, 1), ("c", 0, 0)),
}
COLORS = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def page(unsettled=(), remarks=(), pictures=(), splits=SPLITS):
    facts = {"splits": splits, "nothing_to_learn": list(unsettled)}
    facts["recommendation"] = {"loss": HOSTILE}
    return audit_page(facts, remarks, ORIGIN, COLORS, pictures)


@pytest.mark.parametrize("unsettled", [[], [HOSTILE]], ids=["settled", "unsettled"])
def test_names_are_escaped_wherever_they_stand(unsettled):
    picture = SamplePicture(HOSTILE, [HOSTILE], [HOSTILE], 1, "data:image/jpeg;,", "data:,")
    text = page(unsettled, [HOSTILE], [picture, picture._replace(image="", fault=HOSTILE)])
    assert "49" not in text  # what a template would make of the braces
    assert text.count("&lt;script&gt;") >= 9
    assert "http" not in text and "url(" not in text  # it works without a network
    Page(text)


def test_the_page_says_what_was_audited_when_and_by_which_command():
    assert {*ORIGIN} <= {*Page(page()).texts}


def test_splits_stand_side_by_side_with_the_share_and_the_images_of_each_class():
    tables = Page(page()).tables
    top, splits, *rows = tables["classes"]
    assert top == ["class", "id", "share of the pixels", "images with the class"]
    assert splits == ["train", "val"] * 2
    train, val = (percent(899_900 / 900_000), percent(100 / 900_000))
    assert rows == [  # by falling share in the first split
        [HOSTILE, "1", percent(9_990 / 10_000), train, "8", "1"],
        ["a", "0", percent(5 / 10_000), val, "2", "4"],
        ["c", "2", percent(5 / 10_000), "0 %", "0", "0"],
    ]
    assert tables["numbers"][2] == [HOSTILE, "9,990", "8", "2.5", "899,900", "1", "2.5"]
    summary = {row[0]: row[1:] for row in tables["splits"]}
    assert summary["ignored pixels"] == ["25.0 %"] * 2
    assert summary["imbalance ratio"] == ["99.0"] * 2


def test_bars_of_shares_are_logarithmic_between_the_ends_that_are_said_and_those_of_images_linear():
    found = Page(page())
    assert "from 0.010 % to 100 %" in "".join(found.texts)  # the least share is 0.011 %
    shares = [0.999, 899_900 / 900_000, 5 / 10_000, 100 / 900_000, 5 / 10_000, 0]
    images = [8 / 8, 1 / 4, 2 / 8, 4 / 4, 0, 0]
    expected = []
    for row in range(3):
        expected += [100 * (math.log10(s) + 4) / 4 if s else 0 for s in shares[2 * row :][:2]]
        expected += [100 * s for s in images[2 * row :][:2]]
    assert found.lengths == pytest.approx(expected, abs=0.06)


def test_a_thousand_remarks_do_not_fill_the_page():
    texts = Page(page(remarks=[f"remark {i}" for i in range(1000)])).texts
    assert sum(text.startswith("remark") for text in texts) == 20
    assert "… and 980 more" in texts


def test_hundreds_of_classes_are_a_row_each():
    names = [f"class {i}" for i in range(250)]
    classes = [(name, 2**20 >> (i % 18), 1 + i % 4) for i, name in enumerate(names)]
    splits = {"train": of_split(4, *classes), "val": of_split(4, *classes)}
    colors = [[i, 0, 0] for i in range(250)]
    facts = {"splits": splits, "nothing_to_learn": [], "recommendation": {}}
    text = audit_page(facts, [], ORIGIN, colors, [])
    assert sorted(row[0] for row in Page(text).tables["classes"][2:]) == sorted(names)
    assert len(text) < 400_000
