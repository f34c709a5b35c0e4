"""How many pixels have which true and which predicted class."""

import torch
from torch import Tensor

from seg.constants import IGNORE_INDEX
from seg.exact_sums import counts_by_row


def confusion_matrix(
    prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Counts the valid pixels of every pair of a true and a predicted class.

    Args:
        prediction: Predicted class ids of any integer dtype and shape.
        target: True class ids in the same shape, or `ignore_index`.
        num_classes: C; ids lie in [0, C).
        ignore_index: Target value of the pixels to leave out, whatever the prediction there.

    Returns:
        int64 (C, C) on the device of the target, rows the truth, columns the prediction.

    Raises:
        ValueError: If the shapes or dtypes are wrong, or a valid pixel has an id outside [0, C).
    """
    check_ids(prediction, target)
    if target.device.type != "cpu":
        flat = prediction.reshape(1, -1), target.reshape(1, -1)
        counts, outside = counts_on_device(*flat, num_classes, ignore_index)
        check_outside(int(outside), num_classes, ignore_index)
        return counts[0]
    if target.dtype == prediction.dtype == torch.uint8 and num_classes <= 256:
        of_bytes = _counts_of_bytes(prediction, target, num_classes, ignore_index)
        if of_bytes is not None:
            return of_bytes
    truth, predicted = target.long(), prediction.long()
    ignored = truth == ignore_index
    truth, predicted = truth.masked_fill(ignored, 0), predicted.masked_fill(ignored, 0)
    _check_range("target", truth, num_classes, f" nor ignore_index {ignore_index}")
    _check_range("prediction", predicted, num_classes, "")
    # ignored pixels go to one more bin at the end, which is cut off
    bins = (truth * num_classes + predicted).masked_fill(ignored, num_classes**2)
    counts = torch.bincount(bins.flatten(), minlength=num_classes**2 + 1)
    return counts[:-1].view(num_classes, num_classes)


def _counts_of_bytes(
    prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int
) -> Tensor | None:
    """The counts, in a fifth of the time; None if a valid pixel has an id outside [0, C).

    All pairs of two bytes are counted. What is ignored or wrong is then a part of the table.
    """
    pairs = target.to(torch.int32).mul_(256).add_(prediction)
    table = torch.bincount(pairs.flatten(), minlength=256**2).view(256, 256)
    if 0 <= ignore_index < 256:
        table[ignore_index] = 0
    counts = table[:num_classes, :num_classes]
    return counts.contiguous() if counts.sum() == table.sum() else None


def counts_on_device(
    prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Counts of every image of a batch, without a wait for the device.

    Args:
        prediction: Predicted class ids (N, *d).
        target: True class ids (N, *d).
        num_classes: C.
        ignore_index: As in `confusion_matrix`.

    Returns:
        int64 (N, C, C), and the number of all valid pixels that have an id outside [0, C).
    """
    n, truth, predicted = len(target), target.long(), prediction.long()
    known = (truth >= 0) & (truth < num_classes) & (predicted >= 0) & (predicted < num_classes)
    # one more bin for what is outside, and one for what is ignored
    bins = torch.where(known, truth * num_classes + predicted, num_classes**2)
    bins = bins.masked_fill(truth == ignore_index, num_classes**2 + 1).reshape(n, -1)
    width = num_classes**2 + 2
    bins = bins + width * torch.arange(n, device=bins.device).unsqueeze(1)
    counts = counts_by_row(bins.flatten(), n * width).view(n, width)
    return counts[:, :-2].reshape(n, num_classes, num_classes), counts[:, -2].sum()


def check_ids(prediction: Tensor, target: Tensor) -> None:
    """Refuses what are not class ids in one shape."""
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in "
            "shape: expected ids of the same pixels; pass logits.argmax(1) as the prediction."
        )
    for name, ids in (("prediction", prediction), ("target", target)):
        if ids.is_floating_point() or ids.is_complex():
            raise ValueError(
                f"{name} of dtype {ids.dtype}: expected integer class ids; pass ids, not scores."
            )


def _check_range(name: str, ids: Tensor, num_classes: int, also: str) -> None:
    """Refuses ids outside [0, C), which would be counted as another pair of classes."""
    if ids.numel() == 0:
        return
    low, high = (value.item() for value in torch.aminmax(ids))
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{name} holds {low if low < 0 else high}, which is neither a class id "
            f"0..{num_classes - 1}{also}; check num_classes and the label map."
        )


def check_outside(pixels: int, num_classes: int, ignore_index: int) -> None:
    """Refuses pixels that were counted as outside [0, C)."""
    if pixels:
        raise ValueError(
            f"{pixels} pixels of target or prediction hold neither a class id "
            f"0..{num_classes - 1} nor, in the target, ignore_index {ignore_index}; check "
            "num_classes and the label map."
        )
