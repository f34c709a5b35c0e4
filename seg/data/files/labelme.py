"""labelme's JSON of one image: labelled polygons, rectangles, circles and masks."""

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seg.data.files.headers import DataError
from seg.data.files.shapes import Shape

_NO_AREA = frozenset({"point", "points", "line", "linestrip"})


class _Fault(ValueError):
    """What is wrong with a shape."""


def read_labelme(path: Path) -> tuple[int, int, list[tuple[str, Shape]]]:
    """Height, width, and the label and the shape of each annotation.

    Raises:
        DataError: If the file is none of labelme's, or a shape has no area.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        height, width = int(content["imageHeight"]), int(content["imageWidth"])
        shapes = content["shapes"]
        labels = [str(shape["label"]) for shape in shapes]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: not a file of labelme ({type(error).__name__}: {error}); expected "
            "imageHeight, imageWidth and shapes, each with a label."
        ) from error
    found = []
    for number, (label, shape) in enumerate(zip(labels, shapes, strict=True)):
        try:
            found.append((label, _shape(shape, height, width)))
        except (_Fault, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: shape {number} ({label!r}): {_told(error)}") from error
    return height, width, found


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, _Fault) else f"{type(error).__name__}: {error}"


def _shape(shape: dict[str, Any], height: int, width: int) -> Shape:
    kind = shape.get("shape_type") or "polygon"
    if kind in _NO_AREA:
        raise _Fault(f"a {kind} has no area; delete it, or draw it as a polygon.")
    make = _MAKERS.get(kind)
    if make is None:
        raise _Fault(f"{kind} is none of {', '.join(_MAKERS)}.")
    points = np.asarray(shape["points"], np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise _Fault("a point is no number.")
    if ((points < 0).all(0) | (points >= (width, height)).all(0)).any() and kind != "circle":
        raise _Fault(f"it lies outside the image of {height} x {width} pixels.")
    return make(points, shape, height, width)


def _polygon(points: NDArray[Any], shape: dict[str, Any], height: int, width: int) -> Shape:
    _count(points, range(3, 10**9), "a polygon needs 3 or more")
    return Shape(polygons=[points.ravel()])


def _rectangle(points: NDArray[Any], shape: dict[str, Any], height: int, width: int) -> Shape:
    _count(points, [2], "a rectangle has two corners")
    (x0, y0), (x1, y1) = points
    return Shape(polygons=[np.array([x0, y0, x1, y0, x1, y1, x0, y1])])


def _circle(points: NDArray[Any], shape: dict[str, Any], height: int, width: int) -> Shape:
    """Pixels whose middle is no farther from the first point than the second one is."""
    _count(points, [2], "a circle has a centre and a point on it")
    radius = np.linalg.norm(points[1] - points[0])
    x, y = np.arange(width) + 0.5 - points[0, 0], np.arange(height) + 0.5 - points[0, 1]
    return Shape(pixels=x[None] ** 2 + y[:, None] ** 2 <= radius**2)


def _mask(points: NDArray[Any], shape: dict[str, Any], height: int, width: int) -> Shape:
    """A PNG in base64, whose first pixel lies at the first point."""
    data = np.frombuffer(base64.b64decode(shape["mask"]), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 2:
        raise _Fault("its mask is no picture of one channel.")
    pixels = np.zeros((height, width), bool)
    left, top = (round(value) for value in points[0])
    target = pixels[top : top + picture.shape[0], left : left + picture.shape[1]]
    if left < 0 or top < 0 or target.shape != picture.shape:
        raise _Fault(f"its mask reaches over the image of {height} x {width} pixels.")
    target[:] = picture > 0
    return Shape(pixels=pixels)


def _count(points: NDArray[Any], wanted: Sequence[int], text: str) -> None:
    if len(points) not in wanted:
        raise _Fault(f"{len(points)} points; {text}.")


_MAKERS: dict[str, Callable[[NDArray[Any], dict[str, Any], int, int], Shape]] = {
    "polygon": _polygon,
    "rectangle": _rectangle,
    "circle": _circle,
    "mask": _mask,
}
