"""Losses for imbalanced segmentation; `SegmentationLoss` states what all of them hold.

- `CrossEntropyLoss`: mild imbalance, and the baseline to beat; with `weight`, rare classes.
- `FocalLoss`: many easy pixels beside few hard ones; with `alpha`, of rare classes.
- `BinaryCrossEntropyLoss`: one foreground class; with `pos_weight`, a rare one.
- `BinaryFocalLoss`: one small foreground in a mass of easy background.
"""

from seg.losses.base import Reduction, SegmentationLoss
from seg.losses.binary import (
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    binary_cross_entropy,
    binary_focal_loss,
)
from seg.losses.cross_entropy import CrossEntropyLoss, cross_entropy
from seg.losses.focal import FocalLoss, focal_loss

__all__ = [
    "BinaryCrossEntropyLoss",
    "BinaryFocalLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "Reduction",
    "SegmentationLoss",
    "binary_cross_entropy",
    "binary_focal_loss",
    "cross_entropy",
    "focal_loss",
]
