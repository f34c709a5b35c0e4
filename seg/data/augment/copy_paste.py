"""Components of rare classes, cut out of training images and pasted into others."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg.data.augment.cropping import resize_image, resize_mask
from seg.data.scan.table import Scan
from seg.errors import InputError

MIN_AREA = 32
"""Least pixels of a component that is pasted: smaller ones are seldom whole."""

Array = NDArray[Any]
Size = tuple[int, int]


class Piece(NamedTuple):
    """What is pasted: pixels (h, w, C), which of them (h, w), their class and their place."""

    image: Array
    alpha: NDArray[np.bool_]
    class_id: int
    top: int = 0
    left: int = 0


class Components:
    """Components of some classes, and how to read the images that they are in.

    Args:
        classes: Class of each of the K components, (K,).
        images: Index of the image of each, (K,).
        areas: Their pixels, (K,).
        boxes: Their top, left, bottom and right in that image, the last two exclusive, (K, 4).
        read: From the index to the image (H, W, C) and the class ids (H, W), both uint8.
        resize: Height and width that images are resized to; None leaves their own.
    """

    # no dataclass, of which albumentations would make a dictionary
    def __init__(
        self,
        classes: NDArray[Any],
        images: NDArray[Any],
        areas: NDArray[Any],
        boxes: NDArray[Any],
        read: Callable[[int], tuple[Array, Array]],
        resize: Size | None = None,
    ) -> None:
        self.classes = classes
        self.images = images
        self.areas = areas
        self.boxes = boxes
        self.read = read
        self.resize = resize

    @classmethod
    def of(
        cls,
        scan: Scan,
        class_ids: Sequence[int] | None,
        read: Callable[[int], tuple[Array, Array]],
        resize: Size | None = None,
    ) -> "Components":
        """Those of `MIN_AREA` pixels or more that a scan found.

        Args:
            scan: Of the images.
            class_ids: Of which classes; None for the rarest half of those that occur, rounded
                down, by pixels.
            read: As in the attributes.
            resize: As in the attributes.

        Raises:
            InputError: If a class has no such component.
        """
        chosen = rarest_half(scan) if class_ids is None else list(class_ids)
        kept = np.isin(scan.classes, chosen) & (scan.areas >= MIN_AREA)
        images = np.repeat(np.arange(len(scan)), scan.num_components)[kept]
        missing = sorted(set(chosen) - set(scan.classes[kept].tolist()))
        if (missing and class_ids is not None) or not kept.any():
            raise InputError(
                f"CopyPaste: no component of {MIN_AREA} pixels or more of class {missing} in the "
                "training masks; leave it out of `classes`."
            )
        return cls(scan.classes[kept], images, scan.areas[kept], scan.boxes[kept], read, resize)

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Up to `count` components of one image, of which the first is drawn by class.

        Its class is drawn with equal probabilities, then a component of it; the others are any of
        the same image.
        """
        class_id = generator.choice(np.unique(self.classes))
        first = int(generator.choice(np.flatnonzero(self.classes == class_id)))
        beside = np.flatnonzero(self.images == self.images[first])
        beside = generator.permutation(beside[beside != first])
        return np.array([first, *beside[: int(generator.integers(count))]])

    def cut(self, chosen: NDArray[np.int64]) -> list[Piece]:
        """Pieces of one image, in the size that they have when it is resized."""
        image, mask = self.read(int(self.images[chosen[0]]))
        size = image.shape[0], image.shape[1]
        base = self.resize or size
        factors = base[0] / size[0], base[1] / size[1]
        pieces = (
            cut(image, mask, self.boxes[k], int(self.classes[k]), int(self.areas[k]))
            for k in chosen
        )
        return [scaled(piece, *factors) for piece in pieces]


def rarest_half(scan: Scan) -> list[int]:
    """Ids of the classes with fewest pixels, half of those that occur but one at least."""
    pixels = scan.pixels.sum(0)
    occurring = np.flatnonzero(pixels)
    order = occurring[np.argsort(pixels[occurring], kind="stable")]
    return [int(c) for c in order[: max(1, len(order) // 2)]]


def cut(image: Array, mask: Array, box: Sequence[int], class_id: int, area: int) -> Piece:
    """One component alone: others of its class that reach into its box are left out.

    Args:
        image: Image (H, W, C).
        mask: Class ids (H, W).
        box: Its top, left, bottom and right, the last two exclusive.
        class_id: Its class.
        area: Its pixels.
    """
    top, left, bottom, right = (int(side) for side in box)
    own = (mask[top:bottom, left:right] == class_id).astype(np.uint8)
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(own, connectivity=8)
    wanted = [0, 0, right - left, bottom - top, area]
    number = int(np.flatnonzero((stats[1:] == wanted).all(1))[0]) + 1
    return Piece(image[top:bottom, left:right], numbers == number, class_id)


def scaled(piece: Piece, rows: float, columns: float) -> Piece:
    """The piece with so many times the height and the width."""
    height, width = piece.alpha.shape
    size = max(1, round(height * rows)), max(1, round(width * columns))
    alpha = resize_mask(piece.alpha.astype(np.uint8), size).astype(bool)
    return piece._replace(image=resize_image(piece.image, size), alpha=alpha)


def placed(
    piece: Piece, size: Size, scale: tuple[float, float], generator: np.random.Generator
) -> Piece:
    """The piece scaled and flipped at random, its centre anywhere in a picture of that size."""
    factor = generator.uniform(*scale)
    piece = scaled(piece, factor, factor)
    if generator.random() < 0.5:
        piece = piece._replace(image=piece.image[:, ::-1], alpha=piece.alpha[:, ::-1])
    height, width = piece.alpha.shape
    top = int(generator.integers(size[0])) - height // 2
    return piece._replace(top=top, left=int(generator.integers(size[1])) - width // 2)


def paste_image(image: Array, pieces: Sequence[Piece]) -> Array:
    """A copy of an image (H, W, C) with the pieces on it, the last one on top."""
    image = image.copy()
    for piece in pieces:
        window, part = _overlap(image.shape[0], image.shape[1], piece)
        image[window][piece.alpha[part]] = piece.image[part][piece.alpha[part]]
    return image


def paste_mask(mask: Array, pieces: Sequence[Piece]) -> Array:
    """A copy of class ids (H, W) with those of the pieces."""
    mask = mask.copy()
    for piece in pieces:
        window, part = _overlap(mask.shape[0], mask.shape[1], piece)
        mask[window][piece.alpha[part]] = piece.class_id
    return mask


def _overlap(height: int, width: int, piece: Piece) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where the piece lies in the picture, and which part of it."""
    places = ((piece.top, height), (piece.left, width))
    spans = [
        (max(0, start), min(length, start + side), start)
        for (start, length), side in zip(places, piece.alpha.shape, strict=True)
    ]
    window = tuple(slice(low, max(low, high)) for low, high, _ in spans)
    part = tuple(slice(low - start, max(low, high) - start) for low, high, start in spans)
    return window, part
