"""Colours as numbers, and palettes: which entries masks show, and whether masks agree on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Palette = NDArray[np.uint32]
"""The colour 0xRRGGBB of each index."""

BLACK_AND_WHITE: Palette = np.array([0, 0xFFFFFF], np.uint32)
"""That of grey files of 1 bit; it is told from the palettes of files by its identity."""

_COLOUR_BITS = 24
_GREY = 0x010101


def pack(rgb: NDArray[np.uint8]) -> Palette:
    """RGB in the last axis to one number 0xRRGGBB."""
    flat = np.ascontiguousarray(rgb).reshape(-1, 1, 3)
    if not flat.size:
        return np.zeros(rgb.shape[:-1], np.uint32)
    # bytes in the order of a number, and a fourth
    with_alpha = cv2.cvtColor(flat, cv2.COLOR_RGB2BGRA).view("<u4")
    return (with_alpha & 0xFFFFFF).astype(np.uint32, copy=False).reshape(rgb.shape[:-1])


def code_of(colour: Sequence[int]) -> int:
    """[red, green, blue] to one number 0xRRGGBB."""
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def unpack(code: int) -> list[int]:
    """A number 0xRRGGBB to [red, green, blue]."""
    return [int(code) >> shift & 255 for shift in (16, 8, 0)]


def grey(value: int) -> int:
    """0xRRGGBB of a grey level."""
    return int(value) * _GREY


def without_ramp(palette: Palette) -> Palette | None:
    """The palette, or None where index i is grey level i: such a file is a grey file."""
    ramp = len(palette) > 1 and (palette == np.arange(len(palette)) * _GREY).all()
    return None if ramp else palette


def entries(palette: Palette, used: NDArray[Any]) -> NDArray[np.int64]:
    """The `used` indices of a palette, each as index · 2²⁴ + 0xRRGGBB."""
    indices = used[used < len(palette)].astype(np.int64)
    return indices << _COLOUR_BITS | palette[indices]


def disagreement(
    files: Sequence[Path], num_entries: NDArray[np.int64], shown: NDArray[np.int64]
) -> str | None:
    """Says which two masks give one index two colours, and the remedy; None if all agree.

    Args:
        files: The N masks.
        num_entries: How many of the entries belong to each mask, (N,).
        shown: What `entries` found, of all masks in turn.
    """
    found, first = np.unique(shown, return_index=True)
    index = found >> _COLOUR_BITS
    differs = np.flatnonzero(index[1:] == index[:-1])
    if not len(differs):
        return None
    both = slice(differs[0], differs[0] + 2)
    owners = np.repeat(np.arange(len(files)), num_entries)[first[both]]
    (one, other), (colour, another) = owners, map(unpack, found[both])
    return (
        f"The palettes of the masks differ: index {index[both][0]} is {colour} in {files[one]} but "
        f"{another} in {files[other]}, and the index is what counts; if the colours are right, set "
        "data.class_colors to the colour of each class (and data.ignore_colors)."
    )
