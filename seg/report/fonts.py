"""Class names in pictures: in a font that has their letters, or as ids where there is none."""

import logging
import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from lightning.fabric.utilities.rank_zero import rank_zero_only

log = logging.getLogger(__name__)

_BRINGS_ITS_OWN = "DejaVu Sans"  # comes with matplotlib
_NO_LETTERS = re.compile("last ?resort|adobe ?(blank|notdef)", re.IGNORECASE)
"""Fonts that have a box for every letter."""


class ShownName(NamedTuple):
    """How the name of a class is drawn.

    Args:
        text: The name, or "class 3" of the class with id 3.
        font: File of its font; None is the default one.
    """

    text: str
    font: str | None = None


def shown_names(names: Sequence[str], shapes_text: bool) -> list[ShownName]:
    """How the names of all classes are drawn; that some are not is said once.

    Args:
        names: In the order of the ids, each in one line.
        shapes_text: Whether the program that draws puts letters in the order of Arabic, and joins
            them.
    """
    shown, not_drawn = [], []
    for class_id, name in enumerate(names):
        font = None if name.isascii() else font_of(name)
        missing = font is None and not name.isascii()
        if missing or (not shapes_text and _is_shaped(name)):
            not_drawn.append(name)
            shown.append(ShownName(f"class {class_id}"))
        else:
            shown.append(ShownName(name, font))
    if not_drawn:
        _say_once(tuple(not_drawn))
    return shown


@cache
def font_of(text: str) -> str | None:
    """File of a font of this system that has each letter of a text, if there is one."""
    from matplotlib.font_manager import fontManager, get_font  # 0.3 s, and rarely needed

    letters = {ord(letter) for letter in f"{text}lp" if not letter.isspace()}  # lp: a line's height
    plain = sorted(
        fontManager.ttflist,
        key=lambda font: (font.name != _BRINGS_ITS_OWN, font.style != "normal", font.weight != 400),
    )
    for font in plain:
        if _NO_LETTERS.search(font.name):
            continue
        try:
            has = get_font(font.fname).get_charmap()
        except (OSError, RuntimeError):  # a file that is gone, or no outline font
            continue
        if letters <= has.keys():
            return font.fname
    return None


def _is_shaped(name: str) -> bool:
    """Whether letters are written from the right, or change with those beside them."""
    return any(
        unicodedata.bidirectional(letter) in ("R", "AL")
        or unicodedata.category(letter) in ("Mn", "Mc")
        for letter in name
    )


@cache
def _say_once(names: tuple[str, ...]) -> None:
    rank_zero_only(log.info)(
        f"Pictures show ids in place of the names of {len(names)} classes, such as {names[0]}: no "
        "font here draws their letters. Install one, such as Noto Sans; tables have the names."
    )
