"""A small set of pictures made on the fly, to try everything without a download.

Rare and thin objects lie on a mottled ground. Every region draws its colours from the whole RGB
cube, anew in every image, so that the colour of a pixel says almost nothing: a class shows in
texture, shape and size.

`CLASS_NAMES` gives each class's share of the pixels that count, in 512 training images.
"""

from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from seg.constants import IGNORE_INDEX
from seg.data.augment.transforms import TrainingTransform
from seg.data.dataset import Key, Sample, make_sample, parse_key
from seg.data.files.labels import MaskValues
from seg.errors import InputError

CLASS_NAMES = ("background", "plate", "disc", "bolt", "crack")
"""Mottled ground (90 %), striped rectangles (6.5 %), chequered discs (2.4 %), small rimmed squares
(0.7 %) and thin lines (0.26 %)."""

CLASS_COLORS = ((128, 128, 128), (0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0))
"""Colours for pictures, from a palette that the colour-blind can tell apart (Okabe and Ito)."""

Split = Literal["train", "val", "test"]
Array = NDArray[Any]

_SPLITS = ("train", "val", "test")
_REFERENCE = 128  # side in pixels of the picture that the sizes below are for
_TINT = 40  # grey levels by which the two shades of the ground differ at most
_CONTRAST = 100.0  # least distance of the two colours of a texture
_GRAIN = 14  # grey levels that the noise of a pixel reaches


class SyntheticDataset(Dataset[Sample]):
    """Procedural samples in the format of `SegmentationDataset`, a function of seed and index.

    Args:
        split: Splits draw from different streams and share no picture.
        length: Number of samples.
        size: Height and width in pixels.
        seed: Seed of pictures and augmentation.
        transform: Training augmentation; left out, whole images.
        resize: Height and width of whole images; left out, `size`.

    Raises:
        InputError: If the split is unknown, or the pictures would be too small for the objects.
    """

    def __init__(
        self,
        split: Split,
        length: int = 256,
        size: Sequence[int] = (128, 128),
        seed: int = 0,
        transform: TrainingTransform | None = None,
        resize: Sequence[int] | None = None,
    ) -> None:
        if split not in _SPLITS:
            raise InputError(f"Split {split!r} is none of {', '.join(_SPLITS)}.")
        if len(size) != 2 or min(size) < _REFERENCE // 2:
            raise InputError(
                f"data.synthetic_size {list(size)} must be [height, width] of at least "
                f"{_REFERENCE // 2} pixels."
            )
        self.split = split
        self.length = length
        self.size = (size[0], size[1])
        self.seed = seed
        self.transform = transform
        self.resize = resize

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: int | Key) -> Sample:
        """One sample; a key of more than an index seeds the augmentation."""
        index, seed, place = parse_key(key)
        image, mask = self.draw(index)
        seed = (self.seed, *seed)
        name = f"{self.split}/{index:05d}"
        return make_sample(image, mask, name, self.transform, self.resize, seed, place)

    def mask(self, index: int) -> Array:
        """Class ids (H, W) of one sample before any augmentation."""
        return self.draw(index)[1]

    def mask_values(self, index: int) -> MaskValues:
        """As `SegmentationDataset.mask_values`; the values are ids."""
        return MaskValues(self.mask(index), lambda ids: ids)

    @property
    def groups(self) -> Sequence[tuple[int, int]]:
        """Size of each image; all are the same."""
        return [self.size] * self.length

    def draw(self, index: int) -> tuple[Array, Array]:
        """Image (H, W, 3) and mask (H, W), uint8.

        Raises:
            IndexError: If there is no such sample.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"sample {index} of {self.length}")
        generator = np.random.default_rng([self.seed, _SPLITS.index(self.split), index])
        return draw_picture(self.size, generator)


def draw_picture(size: tuple[int, int], generator: np.random.Generator) -> tuple[Array, Array]:
    """One image (H, W, 3) and its mask (H, W), uint8, a function of the generator's state."""
    canvas = _Canvas(size, generator)
    if generator.random() < 0.9:
        canvas.plate()
    for _ in range(generator.integers(0, 3)):
        canvas.disc()
    for _ in range(generator.integers(0, 4)):
        canvas.bolt()
    if generator.random() < 0.25:
        canvas.crack()
    return canvas.finish(), canvas.mask


class _Canvas:
    """A picture in the making: objects are put on it one after the other.

    Sizes are in pixels of a picture of 128, and grow with the picture.
    """

    def __init__(self, size: tuple[int, int], generator: np.random.Generator) -> None:
        self.size = size
        self.generator = generator
        self.scale = min(size) / _REFERENCE
        self.mask = np.zeros(size, np.uint8)
        rows, columns = np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)
        self.rows, self.columns = rows[:, None] / self.scale, columns[None, :] / self.scale
        coarse = generator.standard_normal((size[0] // 6, size[1] // 6), np.float32)
        blobs = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
        self.paint = (blobs > 0).astype(np.uint8)  # (h, w), index of each pixel's colour
        base, tint = generator.uniform(0, 256, 3), generator.uniform(-_TINT, _TINT, 3)
        self.colours = [base, (base + tint).clip(0, 255)]

    def plate(self) -> None:
        """A large rectangle of stripes, at any angle."""
        sides = self.generator.uniform(26, 44, 2) * self.scale
        angle = self.generator.uniform(0, 180)
        corners = cv2.boxPoints((self._place(20), sides.tolist(), angle))
        stripes = self._wave(self.generator.uniform(0, np.pi), period=7) > 0
        self._put(1, self._filled(corners), stripes)

    def disc(self) -> None:
        """A circle of chequers."""
        centre, radius = self._place(12), self.generator.uniform(9, 13) * self.scale
        angle = self.generator.uniform(0, np.pi)
        chequers = self._wave(angle, period=8) * self._wave(angle + np.pi / 2, period=8) > 0
        turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        outline = np.stack([np.cos(turns), np.sin(turns)], axis=1) * radius + centre
        self._put(2, self._filled(outline), chequers)

    def bolt(self) -> None:
        """A small square with a rim of its other colour."""
        centre, side = self._place(6), self.generator.uniform(6, 9) * self.scale
        angle = self.generator.uniform(0, 90)
        outer = self._filled(cv2.boxPoints((centre, (side, side), angle)))
        inner = self._filled(cv2.boxPoints((centre, (side / 2, side / 2), angle)))
        self._put(3, outer, inner > 0)

    def crack(self) -> None:
        """A thin crooked line of one colour, which is none of the ground's."""
        steps = self.generator.uniform(8, 14) * self.scale
        angle = self.generator.uniform(0, 2 * np.pi) + np.cumsum(self.generator.normal(0, 0.4, 6))
        path = np.stack([np.cos(angle), np.sin(angle)], axis=1).cumsum(axis=0) * steps
        path += np.asarray(self._place(30)) - path.mean(axis=0)
        line = np.zeros(self.size, np.uint8)
        points = np.rint(path).astype(np.int32)
        cv2.polylines(line, [points], False, 1, max(2, round(2 * self.scale)))
        self._put(4, line, np.zeros(self.size, bool), apart_from=self.colours[:2])

    def finish(self) -> Array:
        """The image with uneven light and grain."""
        tilt = self.generator.uniform(-0.25, 0.25, 2)
        light = (
            1
            + tilt[0] * (self.rows / self.rows.max() - 0.5)
            + tilt[1] * (self.columns / self.columns.max() - 0.5)
        )
        lit: Array = np.asarray(self.colours, np.float32)[self.paint] * light[..., None].astype(
            np.float32
        )
        lit += self.generator.integers(-_GRAIN, _GRAIN + 1, lit.shape, np.int8)
        return np.asarray(lit.clip(0, 255), np.uint8)

    def _place(self, margin: float) -> tuple[float, float]:
        """A random centre, (column, row)."""
        height, width = self.size
        edge = margin * self.scale
        return (
            float(self.generator.uniform(edge, width - edge)),
            float(self.generator.uniform(edge, height - edge)),
        )

    def _wave(self, angle: float, period: float) -> Array:
        phase = self.generator.uniform(0, 2 * np.pi)
        along = np.float32(np.cos(angle)) * self.columns + np.float32(np.sin(angle)) * self.rows
        return np.asarray(np.sin(along * np.float32(2 * np.pi / period) + np.float32(phase)))

    def _filled(self, corners: Array) -> Array:
        area = np.zeros(self.size, np.uint8)
        cv2.fillPoly(area, [np.rint(corners).astype(np.int32)], 1)
        return area

    def _put(
        self, label: int, area: Array, texture: Array, apart_from: Sequence[Array] = ()
    ) -> None:
        """Paint an object in two new colours and label it; pixels around it are ignored."""
        inside = area > 0
        self.paint[inside] = len(self.colours) + texture[inside]
        self.colours += self._two_colours(apart_from)
        self.mask[cv2.dilate(area, np.ones((3, 3), np.uint8)) > 0] = IGNORE_INDEX
        self.mask[inside] = label

    def _two_colours(self, apart_from: Sequence[Array] = ()) -> list[Array]:
        """Two random colours that can be told apart, the first also from those given."""
        while True:
            first, second = self.generator.uniform(0, 256, (2, 3))
            if all(np.linalg.norm(first - c) >= _CONTRAST for c in (second, *apart_from)):
                return [first, second]
