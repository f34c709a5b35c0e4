"""Confusion counts, and the scores of every class that follow from them.

Counts are integers and add up over images, batches and ranks, so a score never depends on how the
evaluation was split. An absent class is NaN and outside every mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric

from seg.constants import IGNORE_INDEX
from seg.evaluation.image_counter import ImageCounter
from seg.evaluation.image_counts import ImageCounts
from seg.evaluation.pixel_pairs import (
    check_ids,
    check_outside,
    confusion_matrix,
    counts_on_device,
)


class ConfusionMatrix(Metric):
    """Confusion counts over a whole data set, summed over the ranks when asked for.

    An id outside [0, C) of a valid pixel is refused: on a CPU in `update`, elsewhere when the
    counts are asked for, so that no batch waits for the device.

    Args:
        num_classes: C; ids lie in [0, C).
        ignore_index: Target value of the pixels to leave out.
    """

    full_state_update = False
    counts: Tensor
    images: Tensor
    outside: Tensor

    def __init__(self, num_classes: int, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes}: expected 1 or more.")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        empty = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("counts", empty, dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("outside", torch.tensor(0), dist_reduce_fx="sum")
        self._by_image = ImageCounter(num_classes)

    def update(
        self, prediction: Tensor, target: Tensor, names: Sequence[str] | None = None
    ) -> None:
        """Adds a batch of N images, ids (N, *d) each.

        Args:
            prediction: As in `confusion_matrix`.
            target: As in `confusion_matrix`.
            names: Names of the images, to keep the counts of each one as well.
        """
        self.images += len(target)
        check_ids(prediction, target)
        if names is None:  # all images as one
            prediction, target = prediction.reshape(1, -1), target.reshape(1, -1)
        matrices = self._matrices(prediction, target)
        self.counts += matrices.sum(0)
        if names is not None:
            self._by_image.add(names, matrices)

    def _matrices(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Counts of each image, (N, C, C)."""
        how = self.num_classes, self.ignore_index
        if target.device.type == "cpu":
            pairs = zip(prediction, target, strict=True)
            return torch.stack([confusion_matrix(*pair, *how) for pair in pairs])
        matrices, outside = counts_on_device(prediction, target, *how)
        self.outside += outside
        return matrices

    def reset(self) -> None:
        """Begins anew."""
        super().reset()
        self._by_image.clear()

    def compute(self) -> Tensor:
        """The counts of all ranks, int64 (C, C), rows the truth, columns the prediction."""
        check_outside(int(self.outside), self.num_classes, self.ignore_index)
        return self.counts.clone()

    def scores(self) -> "Scores":
        """The scores of all ranks with their number of images; every rank must ask for them."""
        by_image = self._by_image.of_all_ranks()
        with self.sync_context():
            check_outside(int(self.outside), self.num_classes, self.ignore_index)
            return scores(self.counts, int(self.images), by_image)


@dataclass(frozen=True)
class Scores:
    """Scores of every class, (C,) and float64 on the CPU, and of the whole; NaN means undefined.

    Attributes:
        iou: Intersection over union.
        dice: Twice the intersection over the sum of truth and prediction, the F1 score.
        precision: Share of the predicted pixels that are right.
        recall: Share of the true pixels that are found.
        pixels: True pixels of every class, int64.
        miou: Mean IoU of the classes that occur in the truth or the prediction.
        fwiou: IoU averaged with the true pixels as weights.
        pixel_accuracy: Share of all pixels that are right.
        images: Number of images counted.
        by_image: Counts of each image, of those that were counted by name.
    """

    iou: Tensor
    dice: Tensor
    precision: Tensor
    recall: Tensor
    pixels: Tensor
    miou: float
    fwiou: float
    pixel_accuracy: float
    images: int
    by_image: ImageCounts | None = None

    def rare_classes(self, k: int) -> list[int]:
        """The k rarest classes by true pixels, of those that occur in the truth."""
        seen = torch.nonzero(self.pixels > 0).flatten()
        order = torch.argsort(self.pixels[seen], stable=True)
        found: list[int] = seen[order[:k]].tolist()
        return found

    def rare_miou(self, k: int) -> float:
        """Mean IoU of `rare_classes`."""
        return self.iou[self.rare_classes(k)].mean().item()

    @property
    def worst_class_iou(self) -> float:
        """Least IoU of the classes that are defined."""
        known = self.iou[~self.iou.isnan()]
        return known.min().item() if len(known) else float("nan")


def scores(counts: Tensor, images: int = 0, by_image: ImageCounts | None = None) -> Scores:
    """Computes the scores of a confusion matrix.

    A class in neither truth nor prediction is NaN throughout and outside every mean; one never
    predicted has no precision, one absent from the truth no recall. Without a pixel all is NaN.

    Args:
        counts: Integers (C, C), rows the truth, columns the prediction.
        images: Number of images counted.
        by_image: Counts of each image.

    Raises:
        ValueError: If the counts are not integers >= 0 in a square.

    Reference:
        Everingham et al., The PASCAL VOC Challenge, 2010 (IoU); Long et al., Fully Convolutional
        Networks, 2015, section 5 (mean and frequency weighted IoU, pixel accuracy).
    """
    _check_counts(counts)
    counts = counts.detach().cpu().long()
    hits, pixels, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    iou = hits.double() / (pixels + predicted - hits)  # 0 / 0 is NaN, as it should be
    seen = pixels > 0
    total = pixels.sum()
    return Scores(
        iou=iou,
        dice=2 * hits.double() / (pixels + predicted),
        precision=hits.double() / predicted,
        recall=hits.double() / pixels,
        pixels=pixels,
        miou=iou.nanmean().item(),
        fwiou=((pixels[seen] * iou[seen]).sum() / total).item(),
        pixel_accuracy=(hits.sum().double() / total).item(),
        images=images,
        by_image=by_image,
    )


def _check_counts(counts: Tensor) -> None:
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(
            f"counts of shape {tuple(counts.shape)}: expected (C, C), as from confusion_matrix."
        )
    if counts.is_floating_point() or (counts < 0).any():
        raise ValueError(
            f"counts of dtype {counts.dtype} with minimum {counts.min():g}: expected integers "
            ">= 0, as from confusion_matrix."
        )
