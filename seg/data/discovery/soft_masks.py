"""Masks with labels between those of the classes: soft edges, or a lossy coding such as JPEG."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from seg.data.discovery.colour_masks import of_colours
from seg.data.discovery.contents import Contents, Tally, cell_centres
from seg.data.discovery.setting import KnownLabels, Setting
from seg.data.discovery.survey import MaskSurvey, names_setting, refused
from seg.data.files.palettes import code_of, grey, unpack

_FLAT = 0.1
"""Share of its pixels that lie in areas, from which a label is a class."""
_FEW_PIXELS = 16
"""Pixels in areas below which a label is none."""
_BETWEEN = 0.4
"""Share of the pixels that may lie between areas."""
_DARK = 64
"""Distance from black or white up to which a grey is near it."""
_NEARLY_ALL = 0.95
_LEVELS = 3
"""Grey levels between two that fill areas, from which edges are soft."""
_COLOURS = 8
"""Likewise of colours, or between more than two."""
_RADIUS = 40.0
"""Distance in RGB within which labels around a frequent one are its noise."""
_STEP = 5
"""Distances are rounded up to a multiple of it."""
_CELL_RADIUS = 7.0
"""From the middle of a cell of 8 x 8 x 8 colours to its corner, rounded up."""

Floats = NDArray[np.float64]


def survey_soft(contents: Contents, known: KnownLabels) -> MaskSurvey | None:
    """Lines for masks with labels between those of the classes; None for others.

    Args:
        contents: Of the masks.
        known: What is known of their labels.
    """
    if contents.with_palette or known.names:
        return None
    if not contents.in_colour:
        return _soft_greys(contents, known)
    shown = {**contents.greys, **contents.colours}
    peaks = _peaks(shown, {code_of(colour) for colour in known.colors}, bool(contents.lossy))
    if peaks is None:
        return None
    return _nearest(_kind(contents, "colours"), contents, shown, peaks, known)


def _soft_greys(contents: Contents, known: KnownLabels) -> MaskSurvey | None:
    values = {v: t for v, t in contents.values.items() if not math.isnan(v)}
    if any(value != int(value) for value in values):
        low, high = min(values), max(values)
        return _threshold(f"masks of numbers from {low:g} to {high:g}", low, high)
    codes = {grey(int(v)): tally for v, tally in values.items() if 0 <= v < 256}
    if len(codes) < len(values):
        return None
    named = {code_of(colour) for colour in known.colors}
    peaks = _peaks(codes, named, bool(contents.lossy))
    if peaks is None:
        return None
    kind = _kind(contents, "grey levels")
    levels = sorted(code & 255 for code in peaks)
    if len(levels) < 2 and _are_black_and_white(codes):
        return _threshold(kind, 0, 255)
    if len(levels) < 2:
        return refused(kind, "The values of the classes cannot be told apart; save masks as PNG.")
    if len(levels) > 2:
        return _nearest(kind, contents, codes, peaks, known)
    return _threshold(kind, *levels)


def _are_black_and_white(tallies: Mapping[int, Tally]) -> bool:
    """Whether nearly all greys are near black or near white, though what is white is too thin."""
    values = np.array([code & 255 for code in tallies])
    pixels = np.array([tally.pixels for tally in tallies.values()])
    near = (values < _DARK) | (values > 255 - _DARK)
    ends = values.min() < _DARK / 2 and values.max() > 255 - _DARK / 2
    return bool(ends and pixels[near].sum() >= _NEARLY_ALL * pixels.sum())


def _threshold(kind: str, low: float, high: float) -> MaskSurvey:
    middle = (low + high) / 2
    value = int(middle) if high > 2 else round(middle, 3)
    reason = f"{kind[0].upper()}{kind[1:]}: above {value:g} a pixel is the object."
    names = ["background", "object"]
    lines = names_setting(names, ""), Setting("mask_threshold", value, reason)
    return MaskSurvey(kind, (*names,), lines)


def _nearest(
    kind: str,
    contents: Contents,
    shown: Mapping[int, Tally],
    peaks: list[int],
    known: KnownLabels,
) -> MaskSurvey:
    """Lines by which each pixel takes the nearest colour of a class."""
    named = {code_of(colour): name for colour, name in known.colors.items()}
    centres = {code: shown.get(code, Tally()) for code in ([*named] or peaks)}
    found = of_colours(kind, centres, named, known)
    if found.faults:
        return found
    distance = _farthest(contents, shown, [*centres])
    value = math.ceil(distance / _STEP) * _STEP
    reason = f"{kind[0].upper()}{kind[1:]}: a pixel takes the nearest colour within this distance."
    line = Setting("color_tolerance", value, reason)
    return MaskSurvey(
        kind, found.class_names, (*found.settings, line), found.questions, (), found.remarks
    )


def _kind(contents: Contents, labels: str) -> str:
    if contents.lossy:
        return f"{' and '.join(contents.lossy)} masks, with noise around the {labels} of classes"
    return f"masks with soft edges, {labels} between those of classes"


def _peaks(tallies: Mapping[int, Tally], named: set[int], lossy: bool) -> list[int] | None:
    """The labels that fill areas, the most frequent first; None if all others do as well."""
    solid = [code for code, tally in tallies.items() if code in named or _fills(tally)]
    others = {*tallies} - {*solid}
    total = sum(tally.pixels for tally in tallies.values())
    between = sum(tallies[code].pixels for code in others)
    least = _LEVELS if len(solid) == 2 and _lie_between(others, solid) else _COLOURS
    noisy = len(others) >= least and between <= _BETWEEN * total
    if not (noisy or (lossy and len(tallies) > 2)):
        return None
    peaks: list[int] = []
    for code in sorted(solid, key=lambda code: -tallies[code].flat):
        if not peaks or _distances(_rgb([code]), _rgb(peaks)).min() > _RADIUS:
            peaks.append(code)
    return sorted(peaks)


def _fills(tally: Tally) -> bool:
    return tally.flat >= max(_FEW_PIXELS, _FLAT * tally.pixels)


def _lie_between(codes: set[int], ends: list[int]) -> bool:
    low, high = sorted(ends)
    greys = all(code % grey(1) == 0 for code in [*codes, *ends])
    return greys and all(low < code < high for code in codes)


def _farthest(contents: Contents, shown: Mapping[int, Tally], centres: list[int]) -> float:
    """The distance from the colours that occur to the nearest of the centres."""
    exact = _distances(_rgb([*shown]), _rgb(centres)).min(1).max()
    cells = cell_centres(contents.cells)
    if not len(cells):
        return float(exact)
    return max(float(exact), float(_distances(cells, _rgb(centres)).min(1).max()) + _CELL_RADIUS)


def _rgb(codes: list[int]) -> Floats:
    return np.array([unpack(code) for code in codes], np.float64)


def _distances(one: Floats, other: Floats) -> Floats:
    return np.asarray(np.linalg.norm(one[:, None] - other[None], axis=2))
