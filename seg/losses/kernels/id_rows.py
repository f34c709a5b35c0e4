"""Class ids as rows of a table of weights, and Σ of the weights of the pixels that count."""

import torch
from torch import Tensor

from seg.exact_sums import widest
from seg.lightning_compat.torch_names import assert_async
from seg.losses.checks import label_error
from seg.losses.targets import class_ids, is_ignored
from seg.losses.tracing import beside, formula_only

WIDER = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}
"""For ids of a dtype for which torch has few operations, one that holds them and has all."""


class IdRows:
    """Class ids (N, *d) of any integer dtype, as rows of a table of weights.

    What is ignored has a row of its own, with the weight 0. Labels that fit in a byte are rows as
    they are; others are mapped.

    Args:
        target: The ids.
        weight: Weights (C,), fp32 at least; None for 1.
        num_classes: Number of classes C.
        dtype: Of the table; of the logits, fp32 at least.
        ignore_index: Target value of the pixels that count nowhere.
    """

    def __init__(
        self,
        target: Tensor,
        weight: Tensor | None,
        num_classes: int,
        dtype: torch.dtype,
        ignore_index: int,
    ) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        target = target.to(WIDER.get(target.dtype, target.dtype))
        self.ids = target.reshape(target.shape[0], -1)
        self._bytes = target.dtype == torch.uint8 or _fit_in_bytes(target)
        dtype = torch.promote_types(dtype, torch.float32)
        rows = max(256 if self._bytes else 0, self.num_classes + 1)
        self.table = torch.zeros(rows, dtype=dtype, device=target.device)
        self.table[: self.num_classes] = 1 if weight is None else weight.to(dtype)
        if 0 <= ignore_index < rows:
            self.table[ignore_index].zero_()  # assigning 0 would copy it, and wait for a GPU

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of the table (int64) of some of the ids."""
        if self._bytes:
            return ids.long()
        ids = ids.long()
        return torch.where(ids == self.ignore_index, self.num_classes, ids)

    def weight_sum(self) -> Tensor:
        """Σ of the weights of the pixels that count, a float64 scalar.

        Raises:
            ValueError: If a label is neither a class nor the ignored one; on CUDA an asynchronous
                assertion without the label instead, for which no step waits.
        """
        if not self.ids.is_cuda:
            return self.counts().double() @ self.table.double()
        known = (self.ids >= 0) & (self.ids < self.num_classes)
        known |= is_ignored(self.ids, self.ignore_index)
        assert_async(known.all(), label_error(self.num_classes, self.ignore_index))
        return self.table.index_select(0, self.rows(self.ids).view(-1)).sum(dtype=torch.float64)

    def counts(self) -> Tensor:
        """Number of pixels of each row of the table, on the CPU only; refuses what is no label."""
        ids = self.ids.reshape(-1)
        if not self._bytes:
            ids = ids[~is_ignored(ids, self.ignore_index)]
            for value in ids.aminmax() if ids.numel() else ():
                if not 0 <= value < self.num_classes:
                    raise ValueError(label_error(self.num_classes, self.ignore_index, int(value)))
        counts = torch.bincount(ids, minlength=len(self.table))
        for value in counts[self.num_classes :].nonzero().view(-1) + self.num_classes:
            if value != self.ignore_index:
                raise ValueError(label_error(self.num_classes, self.ignore_index, int(value)))
        return counts


def divisor_of_ids(
    target: Tensor, weight: Tensor | None, num_classes: int, ignore_index: int
) -> Tensor | None:
    """Σ of the weights of the pixels that count; None of probabilities.

    Returns:
        A scalar, float64 where the device has it.

    Raises:
        ValueError: As `IdRows.weight_sum`.
    """
    if target.is_floating_point():
        return None
    if formula_only(target) or widest(target.device) != torch.float64:
        ids, ignored = class_ids(target, num_classes, ignore_index)
        weights = ~ignored if weight is None else beside(weight, target)[ids] * ~ignored
        return weights.sum().to(widest(target.device))
    dtype = torch.float32 if weight is None else weight.dtype
    return IdRows(target, weight, num_classes, dtype, ignore_index).weight_sum()


def _fit_in_bytes(target: Tensor) -> bool:
    """Whether the ids are all in 0..255; not asked on CUDA, which would have to be waited for."""
    if target.is_cuda or target.numel() == 0:
        return False
    low, high = torch.aminmax(target)
    return bool(low >= 0 and high < 256)
