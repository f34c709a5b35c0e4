"""The order of the pixels from hard to easy, for the losses that need it."""

import torch
from torch import Tensor

from seg.distributed.ranks import Ranks

_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}
_DIGIT = 16  # bits of a key that one round of a selection looks at


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


def among_hardest(errors: Tensor, ignored: Tensor, number: Tensor, ranks: Ranks) -> Tensor:
    """Which values are among the `number` largest that count, equal ones by position.

    Args:
        errors: Values >= 0 of the pixels of N images, fp32 or float64, (N, P).
        ignored: Which of them do not count, (N, P).
        number: How many are chosen over all ranks, int64, at most those that count.
        ranks: The ranks that share the values, with N images each, which they took in turn.
    """
    if ranks.size > 1:
        return _among_hardest_of_ranks(ranks, errors, ignored, number)
    order = hardest_first(errors.reshape(-1), ignored.reshape(-1))
    places = torch.arange(order.numel(), device=order.device)
    chosen = torch.empty_like(places, dtype=torch.bool).scatter(0, order, places < number)
    return chosen.view(errors.shape)


def _among_hardest_of_ranks(
    ranks: Ranks, errors: Tensor, ignored: Tensor, number: Tensor
) -> Tensor:
    """As `among_hardest`, by a selection instead of a sort.

    The least value that is chosen is found digit by digit of its bits from histograms, so that
    2 or 4 times 512 KiB are sent, however many values there are.
    """
    keys = errors.abs().view(_INTEGERS[errors.dtype]).long().masked_fill(ignored, -1)
    least, ties_left = _select(ranks, keys.flatten(), 8 * errors.element_size(), number)
    ties = keys == least
    of_images = ranks.gather(ties.sum(1))  # (n, ranks)
    before = of_images.flatten().cumsum(0).view_as(of_images) - of_images
    quota = (ties_left - before)[:, ranks.rank].unsqueeze(1)
    return (keys > least) | (ties & (ties.cumsum(1) <= quota))


def _select(ranks: Ranks, keys: Tensor, bits: int, number: Tensor) -> tuple[Tensor, Tensor]:
    """The `number`-th largest key >= 0 (P,) of all ranks, and how many of its equals are chosen."""
    prefix = torch.zeros_like(number)
    for shift in range(bits - _DIGIT, -1, -_DIGIT):
        still = keys >> (shift + _DIGIT) == prefix
        digits = (keys >> shift) & (2**_DIGIT - 1)
        histogram = torch.zeros(2**_DIGIT + 1, dtype=torch.int64, device=keys.device)
        histogram.index_add_(0, digits, still.long())
        at_least = ranks.sum(histogram).flip(0).cumsum(0).flip(0)  # how many have >= this digit
        digit = (at_least[:-1] >= number).sum() - 1
        number = number - at_least[digit + 1]
        prefix = (prefix << _DIGIT) | digit
    return prefix, number
