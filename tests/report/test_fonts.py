"""Letters that the default font lacks: another font has them, or the class's id is drawn."""

import logging
import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from PIL import Image

from seg.report import fonts
from seg.report.curves import plot_curves
from seg.report.previews import write_preview

CAT = "\u732b"


@pytest.fixture(autouse=True)
def own_fonts(monkeypatch):
    """The system's fonts are only those that matplotlib brings."""
    brought = [font for font in fontManager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(fontManager, "ttflist", brought)
    for function in (fonts.font_of, fonts._say_once):
        function.cache_clear()
    yield
    fonts.font_of.cache_clear()


def install(folder):
    """A font of few letters, each a black square."""
    pen = TTGlyphPen(None)
    for place, draw in zip(
        ((0, 0), (0, 900), (900, 900), (900, 0)), (pen.moveTo, *[pen.lineTo] * 3), strict=True
    ):
        draw(place)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "cat", "space"])
    builder.setupCharacterMap(dict.fromkeys(map(ord, f"{CAT}lp"), "cat") | {32: "space"})
    empty = TTGlyphPen(None).glyph()
    builder.setupGlyf({".notdef": empty, "cat": pen.glyph(), "space": empty})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "cat": (1000, 0), "space": (500, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Cat", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900)
    builder.setupPost()
    builder.save(folder / "cat.ttf")
    fontManager.addfont(folder / "cat.ttf")
    return str(folder / "cat.ttf")


def test_a_font_that_has_the_letters_is_taken(tmp_path):
    own = install(tmp_path)
    shown = fonts.shown_names(["plain", CAT, "\u0441\u0442\u0430\u043b\u044c"], True)
    assert [name.text for name in shown] == ["plain", CAT, "\u0441\u0442\u0430\u043b\u044c"]
    assert shown[0].font is None
    assert shown[1].font == own
    assert str(shown[2].font).endswith("DejaVuSans.ttf")


def test_without_such_a_font_the_id_is_shown_and_that_is_said_once(caplog):
    names = ["plain", CAT, f"{CAT}{CAT}"]
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            shown = fonts.shown_names(names, True)
    assert [name.text for name in shown] == ["plain", "class 1", "class 2"]
    assert [name.font for name in shown] == [None] * 3
    (record,) = caplog.records
    assert f"2 classes, such as {CAT}" in record.getMessage()


@pytest.mark.parametrize("name", ["\u0642\u0637\u0629", "\u05d7\u05ea\u05d5\u05dc"])
def test_names_from_the_right_are_ids_where_letters_would_stand_in_the_wrong_order(name):
    assert fonts.shown_names([name], True)[0].text == name
    assert fonts.shown_names([name], False)[0].text == "class 0"


def draw(folder, name):
    """The picture of a preview, and of curves, of a class of that name."""
    ids = np.zeros((8, 8), np.uint8)
    write_preview(folder / "a.png", np.zeros((8, 8, 3), np.uint8), None, ids, [[0, 0, 0]], [name])
    log = folder / "metrics.csv"
    log.write_text(f"epoch,step,val/miou,val/iou/{name}\n0,0,0.5,0.5\n", encoding="utf-8")
    plot_curves(log, folder / "b.png")
    return [np.asarray(Image.open(folder / f"{picture}.png").convert("L")) for picture in "ab"]


@pytest.mark.slow
def test_pictures_have_the_letters_or_the_id_and_never_boxes(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_id = draw(tmp_path, "class 0")
        without = draw(tmp_path, CAT)
        install(tmp_path)
        fonts.font_of.cache_clear()
        with_font = draw(tmp_path, CAT)
    for expected, same, other in zip(as_id, without, with_font, strict=True):
        np.testing.assert_array_equal(same, expected)
        assert not (other.shape == expected.shape and (other == expected).all())
    legend = with_font[0][-22:, 26:60] < 100
    assert legend.sum(axis=0).max() >= 9  # the square is as high as a letter
