"""How often each class occurs in the training masks."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_THREADS = 4


class HasMasks(Protocol):
    """A dataset whose masks can be read alone."""

    def __len__(self) -> int: ...

    def mask(self, index: int) -> NDArray[Any]:
        """Class ids (H, W) of one sample."""
        ...


@dataclass(frozen=True)
class ClassCounts:
    """Counts of a split, ignored pixels left out; int64 tensors of one entry a class.

    Attributes:
        pixels: Pixels of the class.
        image_pixels: Counted pixels of all images in which the class occurs (Eigen & Fergus,
            Predicting Depth, Surface Normals and Semantic Labels, 2015, section 6.3.2).
        images: Images in which the class occurs.
    """

    pixels: Tensor
    image_pixels: Tensor
    images: Tensor


def count_classes(dataset: HasMasks, num_classes: int) -> ClassCounts:
    """Read every mask once, in threads, as stored and not as augmented.

    Raises:
        DataError: If a mask cannot be read, or holds a label without a class.
    """

    def one(index: int) -> NDArray[np.int64]:
        counts = np.bincount(dataset.mask(index).ravel(), minlength=256)
        return counts[:num_classes].astype(np.int64)

    total = np.zeros((3, num_classes), np.int64)
    with ThreadPoolExecutor(_THREADS) as pool:
        for counts in pool.map(one, range(len(dataset))):
            total += np.stack([counts, (counts > 0) * counts.sum(), counts > 0])
    return ClassCounts(*torch.from_numpy(total))
