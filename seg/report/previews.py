"""Pictures of what a network sees: image, truth and prediction side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from seg.constants import IGNORE_INDEX
from seg.files import replacing
from seg.prediction.palette import Colors, mask_palette
from seg.report.fonts import ShownName, shown_names

_GAP = 8
_MARGIN = 6
_LINE = 22
_FONT_SIZE = 14
_PANEL_WIDTH = 256
_MOST_SIDE = 2048
_HEADING_WIDTH = 88
_HATCH_SHADE = 190
_BACKGROUND = (255, 255, 255)
_INK = (30, 30, 30)


def preview(
    image: np.ndarray, truth: np.ndarray | None, prediction: np.ndarray, colors: Colors
) -> np.ndarray:
    """The image, the truth and the prediction in class colours, from left to right.

    Args:
        image: uint8 (H, W, channels); one or two channels are shown as grey (the first), of more
            than three the first three.
        truth: Class ids (H, W); ignored pixels are hatched. Left out if None.
        prediction: Class ids (H, W).
        colors: One RGB colour a class.

    Returns:
        uint8 (H, W of all panels and the white gaps between them, 3).

    Raises:
        ValueError: If shapes do not pair or an id has no colour.
    """
    return _side_by_side(_panels(image, truth, prediction, colors))


def write_preview(
    path: str | Path,
    image: np.ndarray,
    truth: np.ndarray | None,
    prediction: np.ndarray,
    colors: Colors,
    class_names: Sequence[str],
) -> None:
    """Writes `preview` as a PNG with headings above and, below, a legend of the classes in it.

    Small images are enlarged by a whole factor, so that headings and legend fit, and of large ones
    every k-th row and column is shown, so that no side of a panel exceeds 2048 pixels. The legend
    names all classes of the whole image.

    Args:
        path: The PNG file; its folder is made if missing.
        image: As in `preview`.
        truth: As in `preview`.
        prediction: As in `preview`.
        colors: As in `preview`.
        class_names: One name a class.

    Raises:
        ValueError: As `preview`.
    """
    height, width = image.shape[:2]
    step = -(-max(height, width) // _MOST_SIDE)
    scale = max(1, min(-(-_PANEL_WIDTH // width), _MOST_SIDE // max(height, width)))
    shown = _panels(image, truth, prediction, colors, step)
    panels = [_with_room(p.repeat(scale, axis=0).repeat(scale, axis=1)) for p in shown]
    picture = _side_by_side(panels)
    headings = ["image", "prediction"] if truth is None else ["image", "truth", "prediction"]
    entries = _legend_entries(truth, prediction, class_names)
    places, width, height = _legend_places([name for _, name in entries], picture.shape[1])
    top = _LINE + picture.shape[0] + _MARGIN
    sheet = Image.new("RGB", (width, top + height), _BACKGROUND)
    sheet.paste(Image.fromarray(picture), (0, _LINE))
    for index, heading in enumerate(headings):
        x = index * (panels[0].shape[1] + _GAP) + _MARGIN
        ImageDraw.Draw(sheet).text((x, 2), heading, fill=_INK, font=_font())
    for (class_id, name), (x, y) in zip(entries, places, strict=True):
        swatch = _painted(np.full((_FONT_SIZE, _FONT_SIZE), class_id), colors)
        _draw_entry(sheet, swatch, name, x, top + y)
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")


def _panels(
    image: np.ndarray,
    truth: np.ndarray | None,
    prediction: np.ndarray,
    colors: Colors,
    step: int = 1,
) -> list[np.ndarray]:
    """Every `step`-th row and column of the image and of the maps, painted; uint8 (h, w, 3)."""
    maps = [prediction] if truth is None else [truth, prediction]
    for ids in maps:
        if image.ndim != 3 or ids.shape != image.shape[:2]:
            raise ValueError(
                f"image {image.shape} and class ids {ids.shape} do not pair; expected (H, W, "
                f"channels) and (H, W): resize the class ids to the image, or move channels last."
            )
    return [_rgb(image[::step, ::step]), *(_painted(ids, colors, step) for ids in maps)]


def _side_by_side(panels: Sequence[np.ndarray]) -> np.ndarray:
    gap = np.full((panels[0].shape[0], _GAP, 3), _BACKGROUND, dtype=np.uint8)
    parts = [part for panel in panels for part in (gap, panel)]
    return np.concatenate(parts[1:], axis=1)


def _with_room(panel: np.ndarray) -> np.ndarray:
    """The panel, as wide as its heading at least."""
    missing = max(0, _HEADING_WIDTH - panel.shape[1])
    return np.pad(panel, ((0, 0), (0, missing), (0, 0)), constant_values=_BACKGROUND[0])


def _painted(ids: np.ndarray, colors: Colors, step: int = 1) -> np.ndarray:
    palette = mask_palette(ids, colors)
    ids = ids[::step, ::step]
    painted: np.ndarray = palette[ids]  # (h, w, 3)
    height, width = ids.shape
    diagonal = np.arange(height)[:, None] + np.arange(width)
    painted[(ids == IGNORE_INDEX) & (diagonal % 8 < 2)] = _HATCH_SHADE
    return painted


def _rgb(image: np.ndarray) -> np.ndarray:
    return image[..., :3] if image.shape[2] >= 3 else image[..., :1].repeat(3, axis=2)


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
    truth: np.ndarray | None, prediction: np.ndarray, class_names: Sequence[str]
) -> list[tuple[int, ShownName]]:
    present = set(np.unique(prediction).tolist())
    if truth is not None:
        present |= set(np.unique(truth).tolist())
    names = shown_names(
        [" ".join(name.split()) for name in class_names], bool(features.check("raqm"))
    )
    ignored = ShownName("ignored")
    return [(i, ignored if i == IGNORE_INDEX else names[i]) for i in sorted(present)]


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
