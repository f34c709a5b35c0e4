"""Pictures of what a network sees: image, truth, prediction on the image, and its errors."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from seg.constants import IGNORE_INDEX
from seg.files import replacing
from seg.prediction.palette import Colors
from seg.report.fonts import ShownName, shown_names
from seg.report.panels import RIGHT, WRONG, errors, overlaid, painted, shown_image

_COMPRESSION = 2
"""Of 9: a third of the time of the usual 6, and files a tenth larger."""

_GAP = 8
_MARGIN = 6
_LINE = 22
_FONT_SIZE = 14
_PANEL_WIDTH = 256
_MOST_SIDE = 2048
_HEADING_WIDTH = 124
_BACKGROUND = (255, 255, 255)
_INK = (30, 30, 30)


class Panel(NamedTuple):
    """A picture, uint8 (H, W, 3), and what it is."""

    heading: str
    picture: np.ndarray


def panels(
    image: np.ndarray,
    truth: np.ndarray | None,
    prediction: np.ndarray,
    colors: Colors,
    channels: Sequence[int] | None = None,
    step: int = 1,
) -> list[Panel]:
    """The image, the truth, the prediction over the image, and where it is wrong.

    Args:
        image: Any numbers (H, W, C), shown as `shown_image` says.
        truth: Class ids (H, W); ignored pixels are hatched. Without it there are no errors.
        prediction: Class ids (H, W).
        colors: One RGB colour a class.
        channels: Which channels of the image are red, green and blue.
        step: Of rows and columns, every how manieth is shown.

    Raises:
        ValueError: If shapes do not pair or an id has no colour.
    """
    for ids in (prediction,) if truth is None else (truth, prediction):
        if image.ndim != 3 or ids.shape != image.shape[:2]:
            raise ValueError(
                f"image {image.shape} and class ids {ids.shape} do not pair; expected (H, W, "
                f"channels) and (H, W): resize the class ids to the image, or move channels last."
            )
    shown, is_stretched = shown_image(image[::step, ::step], channels)
    found = [Panel("image, stretched" if is_stretched else "image", shown)]
    if truth is not None:
        found.append(Panel("truth", painted(truth, colors, step)))
    found.append(Panel("prediction", overlaid(shown, painted(prediction, colors, step))))
    if truth is not None:
        wrong = errors(truth[::step, ::step], prediction[::step, ::step])
        found.append(Panel("errors", wrong))
    return found


def write_preview(
    path: str | Path,
    image: np.ndarray,
    truth: np.ndarray | None,
    prediction: np.ndarray,
    colors: Colors,
    class_names: Sequence[str],
    channels: Sequence[int] | None = None,
) -> None:
    """Writes `panels` as a PNG, two in a row, with headings and, below, a legend of what is in it.

    Small images are enlarged by a whole factor, so that headings and legend fit, and of large ones
    every k-th row and column is shown, so that no side of a panel exceeds 2048 pixels. The legend
    names all classes of the whole image.

    Args:
        path: The PNG file; its folder is made if missing.
        image: As in `panels`.
        truth: As in `panels`.
        prediction: As in `panels`.
        colors: As in `panels`.
        class_names: One name a class.
        channels: As in `panels`.

    Raises:
        ValueError: As `panels`.
    """
    height, width = image.shape[:2]
    step = -(-max(height, width) // _MOST_SIDE)
    scale = max(1, min(-(-_PANEL_WIDTH // width), _MOST_SIDE // max(height, width)))
    made = panels(image, truth, prediction, colors, channels, step)
    picture = _in_rows([_with_heading(panel, scale) for panel in made])
    entries = _legend_entries(truth, prediction, class_names, colors)
    places, width, height = _legend_places([name for _, name in entries], picture.width)
    top = picture.height + _MARGIN
    sheet = Image.new("RGB", (width, top + height), _BACKGROUND)
    sheet.paste(picture, (0, 0))
    for (swatch, name), (x, y) in zip(entries, places, strict=True):
        _draw_entry(sheet, swatch, name, x, top + y)
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG", compress_level=_COMPRESSION)


def _with_heading(panel: Panel, scale: int) -> Image.Image:
    """The panel enlarged, below its heading, and as wide as that at least."""
    large = panel.picture.repeat(scale, axis=0).repeat(scale, axis=1)
    height, width = large.shape[:2]
    sheet = Image.new("RGB", (max(width, _HEADING_WIDTH), _LINE + height), _BACKGROUND)
    ImageDraw.Draw(sheet).text((_MARGIN, 2), panel.heading, fill=_INK, font=_font())
    sheet.paste(Image.fromarray(large), (0, _LINE))
    return sheet


def _in_rows(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one height, two in a row."""
    width, height = max(p.width for p in pictures), pictures[0].height
    rows = -(-len(pictures) // 2)
    sheet = Image.new("RGB", (2 * width + _GAP, rows * height), _BACKGROUND)
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index % 2 * (width + _GAP), index // 2 * height))
    return sheet


def _font(file: str | None = None) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    if file is None:
        return ImageFont.load_default(_FONT_SIZE)
    return ImageFont.truetype(file, _FONT_SIZE)


def _draw_entry(sheet: Image.Image, swatch: np.ndarray, name: ShownName, x: int, y: int) -> None:
    draw = ImageDraw.Draw(sheet)
    sheet.paste(Image.fromarray(swatch), (x, y))
    draw.rectangle((x, y, x + _FONT_SIZE - 1, y + _FONT_SIZE - 1), outline=_INK)
    draw.text((x + _FONT_SIZE + _MARGIN, y - 1), name.text, fill=_INK, font=_font(name.font))


def _legend_entries(
    truth: np.ndarray | None, prediction: np.ndarray, class_names: Sequence[str], colors: Colors
) -> list[tuple[np.ndarray, ShownName]]:
    """A swatch and a name of each class that occurs, and of right and wrong pixels."""
    present = set(np.unique(prediction).tolist())
    if truth is not None:
        present |= set(np.unique(truth).tolist())
    names = shown_names(
        [" ".join(name.split()) for name in class_names], bool(features.check("raqm"))
    )
    ignored = ShownName("ignored")
    size = (_FONT_SIZE, _FONT_SIZE)
    entries = [
        (painted(np.full(size, i), colors), ignored if i == IGNORE_INDEX else names[i])
        for i in sorted(present)
    ]
    of_errors = () if truth is None else ((RIGHT, "right"), (WRONG, "wrong"))
    return entries + [
        (np.full((*size, 3), color, np.uint8), ShownName(name)) for color, name in of_errors
    ]


def _legend_places(
    names: Sequence[ShownName], width: int
) -> tuple[list[tuple[int, int]], int, int]:
    """Where each entry begins (x, y), and the width and height that hold them all, in pixels."""
    lengths = [
        2 * _MARGIN + _FONT_SIZE + round(_font(name.font).getlength(name.text)) + 2 * _MARGIN
        for name in names
    ]
    width = max([width, *(length + _MARGIN for length in lengths)])
    places, x, y = [], _MARGIN, 0
    for length in lengths:
        if x + length > width:
            x, y = _MARGIN, y + _LINE
        places.append((x, y))
        x += length
    return places, width, y + _LINE
