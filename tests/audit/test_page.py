"""Whatever names say, the page shows them and does not obey them."""

from xml.etree import ElementTree

import pytest

from seg.audit.page import audit_page, bars

HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"


@pytest.fixture(params=[[], [HOSTILE]], ids=["settled", "unsettled"])
def page(request):
    row = {"name": HOSTILE, "pixels": 3, "share": 1.0, "images": 1, "components": 1}
    split = {
        **{"images": 1, "ignored_share": 0.0, "imbalance_ratio": None, "sizes": {}},
        **{"classes": [{**row, "median_component": None}], "missing_classes": [HOSTILE]},
        **{"masks_of_one_class": 1, "masks_all_ignored": 0, "unreadable": [HOSTILE]},
    }
    return audit_page(
        {
            **{"splits": {HOSTILE: split}, "not_found": {"test": HOSTILE}},
            **{"palettes": [HOSTILE], "duplicates": [[HOSTILE, "b.png"]]},
            "recommendation": {"loss": HOSTILE},
            "nothing_to_learn": request.param,
        }
    )


def test_names_are_escaped_wherever_they_stand(page):
    assert "<script" not in page
    assert "49" not in page  # what a template would make of the braces
    assert page.count("&lt;script&gt;") >= 8


def test_a_figure_is_well_formed_and_says_each_name_and_value():
    figure = ElementTree.fromstring(bars(HOSTILE, ["a", HOSTILE], [0.5, None]))
    assert figure.findtext("figcaption") == HOSTILE
    titles = [title.text for title in figure.iter("title")]
    assert titles == ["a: 0.5", f"{HOSTILE}: –"]
    widths = [float(bar.get("width")) for bar in figure.iter("rect")]
    assert widths[0] > 0 and widths[1] == 0
