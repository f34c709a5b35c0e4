"""Annotated shapes to masks, as pycocotools draws them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg.data.files.headers import DataError
from seg.errors import InputError

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """An area, in one of three ways.

    Attributes:
        polygons: Corners x0, y0, x1, y1, … of each part; a pixel i reaches from i to i + 1.
        counts: Run lengths as COCO compresses them.
        pixels: A mask (H, W) of bools.
    """

    polygons: Sequence[Points] = ()
    counts: bytes = b""
    pixels: NDArray[np.bool_] | None = None


def coco_masks() -> Any:
    """The module `pycocotools.mask`.

    Raises:
        InputError: If it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise InputError(
            f"Annotations in JSON need pycocotools ({error}): pip install pycocotools."
        ) from None
    return mask


def draw(path: Path, height: int, width: int, shapes: Sequence[tuple[int, Shape]]) -> NDArray[Any]:
    """Draw shapes by their values: a smaller area above a larger one, else the later above.

    Args:
        path: Of the mask, for the message.
        height: In pixels.
        width: In pixels.
        shapes: Value and shape of each; 0 is where none is.

    Raises:
        DataError: If a shape cannot be drawn.
    """
    most = max((value for value, _ in shapes), default=0)
    # columns first, as in run lengths
    drawn = np.zeros((width, height), np.uint8 if most < 256 else np.uint16)
    if not shapes:
        return drawn.T.copy()
    masks = coco_masks()
    try:
        runs = [_runs(masks, shape, height, width) for _, shape in shapes]
        order = np.argsort(-masks.area(runs).astype(np.int64), kind="stable")
        # neighbours in that order with one value are one area
        for value, group in groupby(order.tolist(), lambda place: shapes[place][0]):
            together = masks.merge([runs[place] for place in group])
            drawn[masks.decode(together).T.view(np.bool_)] = value  # of 0 and 1
    except (ValueError, TypeError, IndexError) as error:
        raise DataError(f"{path}: an annotation cannot be drawn ({error}).") from error
    return np.ascontiguousarray(drawn.T)


def _runs(masks: Any, shape: Shape, height: int, width: int) -> dict[str, Any]:
    if shape.pixels is not None:
        found: dict[str, Any] = masks.encode(np.asfortranarray(shape.pixels, np.uint8))
        return found
    if shape.counts:
        total = _total(shape.counts)
        if total != height * width:  # pycocotools would not end
            raise InputError(f"run lengths of {total} pixels, not {height} x {width}")
        return {"size": [height, width], "counts": shape.counts}
    parts = masks.frPyObjects([part.tolist() for part in shape.polygons], height, width)
    merged: dict[str, Any] = masks.merge(parts)
    return merged


def _total(packed: bytes) -> int:
    """Pixels of compressed run lengths, -1 if one is below 0.

    They are numbers of 5 bits a character, each less the last but one (rleFrString in the COCO
    API).
    """
    counts: list[int] = []
    value, shift = 0, 0
    for character in packed:
        bits = character - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, shift = 0, 0
    return sum(counts) if min(counts, default=0) >= 0 and not shift else -1
