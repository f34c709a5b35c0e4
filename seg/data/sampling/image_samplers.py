"""Which images an epoch sees, by the classes in them: rare ones more often."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg.data.scan.table import Scan
from seg.errors import InputError

ANYWHERE = -1
"""The place of a draw whose crop lies anywhere."""


class Draws(NamedTuple):
    """Samples in the order in which they are trained on, int64 (L,)."""

    indices: NDArray[np.int64]
    places: NDArray[np.int64]  # pixel that the crop has to show, row · width + column, or ANYWHERE


class ImageSampler:
    """Draws the samples of an epoch from what a scan found in the training masks."""

    def draw(self, scan: Scan, length: int, generator: np.random.Generator) -> Draws:
        """The samples of one epoch.

        Args:
            scan: Of the training masks.
            length: Number of samples, L.
            generator: Where everything random is drawn from.
        """
        raise NotImplementedError


class ClassFirstSampler(ImageSampler):
    """Draws a class, then an image that shows it, then one of its pixels for the crop to show.

    The probability of a class is proportional to f^-τ, where f is its share of the training
    pixels. With τ = 0 all classes are equally likely. With τ = 1 a class with half the pixels is
    drawn twice as often. All images that show the class are equally likely, and so are those of
    its pixels that the scan kept. The pixel lies in the middle half of the crop, unless it is
    too near to the edge of the image.

    Args:
        tau: τ.
        uniform_share: Share of the draws that take any image, each once at most while there are
            any left, and a crop anywhere in it.

    Raises:
        InputError: If a value is out of range.
    """

    def __init__(self, tau: float = 0.0, uniform_share: float = 0.25) -> None:
        if not 0 <= tau < float("inf"):
            raise InputError(f"tau {tau} must be 0 (all classes alike) or more.")
        if not 0 <= uniform_share <= 1:
            raise InputError(f"uniform_share {uniform_share} must be from 0 to 1.")
        self.tau = tau
        self.uniform_share = uniform_share

    def __repr__(self) -> str:
        return f"ClassFirstSampler(tau={self.tau}, uniform_share={self.uniform_share})"

    def probabilities(self, scan: Scan) -> NDArray[np.float64]:
        """Probability of each class in draws that begin with one, (C,); 0 without a pixel.

        Raises:
            InputError: If no mask has a pixel of any class.
        """
        pixels = scan.pixels.sum(0)
        present = pixels > 0
        if not present.any():
            raise InputError("No training mask has a pixel of any class; check data.label_map.")
        weights = np.zeros(len(pixels))
        weights[present] = (pixels[present] / pixels.sum()) ** -self.tau
        return np.asarray(weights / weights.sum())

    def draw(self, scan: Scan, length: int, generator: np.random.Generator) -> Draws:
        """As `ImageSampler.draw`."""
        classes = generator.choice(scan.pixels.shape[1], length, p=self.probabilities(scan))
        classes[generator.random(length) < self.uniform_share] = ANYWHERE
        indices = np.empty(length, np.int64)
        places = np.full(length, ANYWHERE, np.int64)
        ends = scan.num_places.ravel().cumsum().reshape(scan.num_places.shape)
        for class_id in np.unique(classes):
            drawn = np.flatnonzero(classes == class_id)
            if class_id == ANYWHERE:
                indices[drawn] = _each_in_turn(len(scan), len(drawn), generator)
                continue
            images = generator.choice(np.flatnonzero(scan.pixels[:, class_id]), len(drawn))
            back = generator.integers(1, scan.num_places[images, class_id] + 1)
            indices[drawn] = images
            places[drawn] = scan.places[ends[images, class_id] - back]
        return Draws(indices, places)


class RepeatFactorSampler(ImageSampler):
    """Shows images with a rare class more often, and every image still in its turn.

    Image i has a repeat factor r_i = max over its classes of max(1, sqrt(t / f_c)), where f_c is
    the share of the images that show class c. An epoch keeps its length L: image i comes
    L r_i / Σ r times, rounded up or down at random so that the mean is exact.

    Args:
        threshold: t, the share of the images below which a class is repeated, in (0, 1].

    Raises:
        InputError: If the threshold is out of range.

    Reference:
        Gupta et al., LVIS: A Dataset for Large Vocabulary Instance Segmentation, 2019, appendix B.
    """

    def __init__(self, threshold: float = 0.5) -> None:
        if not 0 < threshold <= 1:
            raise InputError(f"threshold {threshold} must be a share of the images, in (0, 1].")
        self.threshold = threshold

    def __repr__(self) -> str:
        return f"RepeatFactorSampler(threshold={self.threshold})"

    def repeat_factors(self, scan: Scan) -> NDArray[np.float64]:
        """Repeat factor r_i of each image, (N,)."""
        shows = scan.pixels > 0
        share = shows.mean(0)
        factors = np.sqrt(self.threshold / np.where(share > 0, share, self.threshold)).clip(min=1)
        return np.asarray((shows * factors).max(axis=1, initial=1.0))

    def draw(self, scan: Scan, length: int, generator: np.random.Generator) -> Draws:
        """As `ImageSampler.draw`, by systematic sampling."""
        factors = self.repeat_factors(scan)
        order = generator.permutation(len(scan))  # so that no two images always come together
        ends = (factors[order] / factors.sum()).cumsum() * length
        ends[-1] = length  # whatever the rounding
        ticks = generator.random() + np.arange(length)
        indices = order[np.searchsorted(ends, ticks, side="right").clip(max=len(scan) - 1)]
        return Draws(generator.permutation(indices), np.full(length, ANYWHERE, np.int64))


def _each_in_turn(size: int, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Indices below `size`, each once before any comes again."""
    turns = [generator.permutation(size) for _ in range(-(-count // size))]
    return np.concatenate([*turns, np.zeros(0, np.int64)])[:count].astype(np.int64)
