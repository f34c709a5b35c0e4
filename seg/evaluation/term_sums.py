"""Sums over a data set of the terms that a loss is made of."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from seg.exact_sums import add_to, value_of, widest, zeros_pair


class TermSums(Metric):
    """The terms of a loss, added up over a whole data set and over the ranks.

    Args:
        length: K, the number of terms.
    """

    full_state_update = False
    terms: Tensor

    def __init__(self, length: int) -> None:
        super().__init__()
        pair = zeros_pair(length, torch.device("cpu"))  # float64: sums over a whole split
        self.add_state("terms", pair, dist_reduce_fx="sum")
        self.set_dtype(torch.float64)

    def update(self, terms: Tensor) -> None:
        """Adds the terms (K,) of a batch."""
        add_to(self.terms, terms)

    def compute(self) -> Tensor:
        """The terms of all ranks, float64 (K,)."""
        return value_of(self.terms)

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ""
    ) -> nn.Module:
        """Go to another device in a type that both have, and be as wide there as it allows."""
        wide = widest(fn(torch.zeros(0)).device)
        if wide != self.terms.dtype and wide == torch.float32:
            self._to_type(wide)
        moved = super()._apply(fn, exclude_state)
        self._to_type(widest(self.terms.device))
        return moved

    def _to_type(self, dtype: torch.dtype) -> None:
        self.terms = self.terms.to(dtype)
        self._defaults["terms"] = torch.zeros_like(self.terms)
