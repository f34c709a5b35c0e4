"""Sums over pixels and steps that keep their digits, on devices with float64 and without."""

import torch
from torch import Tensor

SPREAD = 256
"""Places that a sum is spread over on a GPU, where additions to one place wait for each other."""

SPREAD_IN_FLOAT32 = 4096
"""The same for sums in float32, which lose digits as they become long."""

_PLACES = 2**22
"""Most places of all sums; many sums do not wait for each other as much."""


def widest(device: torch.device) -> torch.dtype:
    """What sums are kept in: float64, or float32 on Apple's GPUs, which have nothing wider."""
    return torch.float32 if device.type == "mps" else torch.float64


def widened(values: Tensor) -> Tensor:
    """The values in the widest floating type of their device."""
    return values.to(widest(values.device))


def zeros_pair(length: int, device: torch.device) -> Tensor:
    """A sum (2, K) of nothing, for `add_to`."""
    return torch.zeros(2, length, dtype=widest(device), device=device)


def add_to(pair: Tensor, values: Tensor) -> None:
    """Add one more term (K,) to a sum (2, K); no device is waited for.

    The first row is the rounded sum. In float32 the second is what rounding has left out of it, so
    that the two have 48 bits together; in float64 it stays as it is.

    Reference:
        Knuth, The Art of Computer Programming 2, section 4.2.2, theorem B (the error of a sum).
    """
    total, rest = pair.unbind()
    values = values.to(pair.dtype)
    if pair.dtype == torch.float64:
        total += values
        return
    new = total + values
    part = new - total
    lost = (total - (new - part)) + (values - part)
    rest += torch.where(lost.isfinite(), lost, 0)
    total.copy_(new)


def value_of(pair: Tensor) -> Tensor:
    """The sum (K,) of a pair (2, K) in float64; on the CPU where its device has no float64."""
    return pair.to("cpu" if pair.dtype == torch.float32 else pair.device).double().sum(0)


def pair_of(sums: Tensor, device: torch.device) -> Tensor:
    """Sums (K,) in float64 as a pair (2, K) on a device."""
    total = sums.to(widest(device))
    return torch.stack([total, (sums - total).to(total.dtype)]).to(device)


def sums_by_row(values: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """Sums (R,), float64 where the device has it, of the values (P,) that share a row.

    Args:
        values: What to add up.
        rows: Row of each value, int64 in [0, R).
        num_rows: R.
    """
    dtype = widest(values.device)
    spread = SPREAD if dtype == torch.float64 else SPREAD_IN_FLOAT32
    return _spread_sums(values.to(dtype), rows, num_rows, spread).sum(1)


def counts_by_row(rows: Tensor, num_rows: int) -> Tensor:
    """How often each row occurs, int64 (R,); no device is waited for, as `torch.bincount` would.

    Args:
        rows: Rows (P,), int64 in [0, R), P below 2^31.
        num_rows: R.
    """
    ones = torch.ones_like(rows, dtype=torch.int32)
    return _spread_sums(ones, rows, num_rows, SPREAD).sum(1)


def _spread_sums(values: Tensor, rows: Tensor, num_rows: int, spread: int) -> Tensor:
    """Partial sums (R, S) of the values that share a row, in their own type; S is 1 on a CPU."""
    if values.device.type == "cpu":
        spread = 1
    while spread > 1 and spread * num_rows > _PLACES:
        spread //= 2
    if spread > 1:
        places = torch.arange(len(rows), device=rows.device).bitwise_and_(spread - 1)
        rows = places.add_(rows, alpha=spread)
    total = torch.zeros(num_rows * spread, dtype=values.dtype, device=values.device)
    return total.index_add_(0, rows, values).view(num_rows, spread)
