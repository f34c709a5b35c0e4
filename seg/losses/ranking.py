"""The order of the pixels from hard to easy, for the losses that need it."""

import torch
from torch import Tensor

_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}


def hardest_first(errors: Tensor, ignored: Tensor | None = None) -> Tensor:
    """The positions of the last dim by falling error, equal ones by position, ignored ones last.

    The bits of floats >= 0 are integers of the same order. Sorting these keeps the order of equal
    errors on every device, and torch sorts long rows of integers on a CPU in linear time.

    Args:
        errors: Values >= 0, fp32 or float64, (*, P); a NaN comes first, so that it stays visible.
        ignored: Which of them come last, (*, P).

    Returns:
        The positions as int64, (*, P).
    """
    keys = errors.abs().view(_INTEGERS[errors.dtype])  # without the sign that a NaN may have
    keys = torch.bitwise_not(keys)  # < 0, and the larger the error the smaller
    if ignored is not None:
        keys = keys.masked_fill(ignored, 0)
    return torch.sort(keys, dim=-1, stable=True).indices
