"""Mean IoU by image, which counts a small object as much as a large one."""

import numpy as np

from seg.evaluation.image_counts import ImageCounts
from seg.evaluation.resampling import Floats

_WORST = (1, 5)
_PERCENTS = range(10, 101, 10)


def image_scores(counts: ImageCounts) -> dict[str, dict[str, float]]:
    """Mean IoU by image, and by class and image, over all images and over the worst of them.

    IoU is that of a class in a single image whose truth has it. By image, its mean over the
    classes is taken first; by class and image, its mean over the images of each class.

    Args:
        counts: Of N images and C classes.

    Returns:
        ``miou_by_image`` and ``miou_by_class_and_image``, each with ``all``; ``worst_1`` and
        ``worst_5``, of the worst 1 and 5 % of the images, one at least; and ``worst``, the mean of
        those of the worst 10, 20, … 100 %. NaN without a valid pixel.

    Reference:
        Wang et al., Revisiting Evaluation Metrics for Semantic Segmentation, 2023: mIoU^I, mIoU^C,
        and with q and q̄ their worst cases, sections 3 and 4.
    """
    rows = counts.counts[:, [0, 2]].any(axis=1)
    iou = counts.counts[rows, 0] / counts.counts[rows].sum(1)
    image, class_id = counts.image[rows], counts.class_id[rows]
    shown = np.bincount(image, minlength=len(counts))
    of_images = np.bincount(image, iou, len(counts))[shown > 0] / shown[shown > 0]
    return {
        "miou_by_image": _summary(of_images, np.zeros(len(of_images), int)),
        "miou_by_class_and_image": _summary(iou, class_id),
    }


def _summary(values: Floats, kind: np.ndarray) -> dict[str, float]:
    """Means over the kinds of the means of their values, of all and of the worst."""
    order = np.lexsort((values, kind))
    values, kind = values[order], kind[order]
    _, first, number = np.unique(kind, return_index=True, return_counts=True)
    rank = np.arange(len(values)) - np.repeat(first, number)

    def worst(percent: int) -> float:
        kept = np.maximum(number * percent // 100, 1)
        chosen = np.flatnonzero(rank < np.repeat(kept, number))
        starts = np.concatenate([[0], np.cumsum(kept)[:-1]])
        return float(np.mean(np.add.reduceat(values[chosen], starts) / kept))

    if not len(values):
        return dict.fromkeys(("all", "worst", *(f"worst_{p}" for p in _WORST)), float("nan"))
    found = {"all": worst(100), "worst": float(np.mean([worst(p) for p in _PERCENTS]))}
    return found | {f"worst_{percent}": worst(percent) for percent in _WORST}
