"""Losses for imbalanced segmentation; `SegmentationLoss` states what all of them hold.

Over pixels:

- `CrossEntropyLoss`: mild imbalance, and the baseline to beat; with `weight`, rare classes.
- `FocalLoss`: many easy pixels beside few hard ones; with `alpha`, of rare classes.
- `OhemCrossEntropyLoss`: a mass of easy pixels that may be left out altogether.
- `LogitAdjustedCrossEntropyLoss`: a long tail of classes, by their priors instead of weights.
- `RecallLoss`: classes that the network misses now, whether rare or not.
- `BinaryCrossEntropyLoss`: one foreground class; with `pos_weight`, a rare one.
- `BinaryFocalLoss`: one small foreground in a mass of easy background.

Over regions, where each class counts alike whatever its pixels:

- `DiceLoss`: rare classes, scored by overlap; steadier beside cross-entropy, in a `CompoundLoss`.
- `JaccardLoss`: the same for those who are judged by IoU.
- `TverskyLoss`: rare classes that are missed more than invented.
- `LovaszLoss`: the IoU itself, for the last points of a network that has learnt already.
- `BoundaryLoss`: thin or small classes whose outline matters; beside a loss over pixels.

`CompoundLoss` adds any of them up; `check_loss` tells what a loss, ours or not, breaks. Weights of
the classes are lists, tuples, arrays or tensors. `seg/losses/base.py` says how to write a loss.
"""

from seg.losses.base import SegmentationLoss
from seg.losses.binary import (
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    binary_cross_entropy,
    binary_focal_loss,
)
from seg.losses.boundary import BoundaryLoss, boundary_loss, signed_distances
from seg.losses.compound import CompoundLoss
from seg.losses.contract import check_loss
from seg.losses.cross_entropy import CrossEntropyLoss, cross_entropy
from seg.losses.focal import FocalLoss, focal_loss
from seg.losses.logit_adjusted import LogitAdjustedCrossEntropyLoss, logit_adjusted_cross_entropy
from seg.losses.lovasz import LovaszLoss, lovasz_softmax_loss
from seg.losses.ohem import OhemCrossEntropyLoss, ohem_cross_entropy
from seg.losses.recall import RecallLoss, recall_loss
from seg.losses.reduction import Reduction
from seg.losses.tversky import (
    DiceLoss,
    JaccardLoss,
    TverskyLoss,
    dice_loss,
    jaccard_loss,
    tversky_loss,
)

__all__ = [
    "BinaryCrossEntropyLoss",
    "BinaryFocalLoss",
    "BoundaryLoss",
    "CompoundLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalLoss",
    "JaccardLoss",
    "LogitAdjustedCrossEntropyLoss",
    "LovaszLoss",
    "OhemCrossEntropyLoss",
    "RecallLoss",
    "Reduction",
    "SegmentationLoss",
    "TverskyLoss",
    "binary_cross_entropy",
    "binary_focal_loss",
    "boundary_loss",
    "check_loss",
    "cross_entropy",
    "dice_loss",
    "focal_loss",
    "jaccard_loss",
    "logit_adjusted_cross_entropy",
    "lovasz_softmax_loss",
    "ohem_cross_entropy",
    "recall_loss",
    "signed_distances",
    "tversky_loss",
]
