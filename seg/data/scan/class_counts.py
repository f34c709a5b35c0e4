"""How often each class occurs in the training masks."""

from dataclasses import dataclass

from torch import Tensor


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
