"""Logits at full size a few rows at a time, so that only the network's own are held as a whole."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from seg.inference.input_sizes import resized

STRIPE = {"cpu": 2**20}
"""Logits a stripe: 4 MB of floats stay in a CPU's cache."""

STRIPE_ON_GPU = 2**24
"""The same on a GPU, which has launches to save instead."""

_WIDE = 128
"""Height and width together up to which torch takes another kernel, with other last digits."""


class LowLogits(NamedTuple):
    """What a network gave, and what makes it the logits of the images.

    Attributes:
        logits: As the network gave them, (N, C, h, w).
        full: Height and width that they are resized to.
        size: Height and width that are kept of these, from the top left.
    """

    logits: Tensor
    full: tuple[int, int]
    size: tuple[int, int]

    def whole(self) -> Tensor:
        """The logits (N, C, *size)."""
        found = resized(self.logits, self.full)
        return found if self.full == self.size else found[..., : self.size[0], : self.size[1]]

    def stripes(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Parts of `whole`, to the bit: which images, which rows, and their logits.

        Rows are resized apart where that is exact: up by a power of two, so that the places between
        two rows of the network have the same digits at the top of an image and in its middle. All
        others are one part.
        """
        height, width = self.size
        if (factor := self._factor()) is None:
            yield slice(0, len(self.logits)), slice(0, height), self.whole()
            return
        n, c, h, _ = self.logits.shape
        last = self.logits.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        room = STRIPE.get(self.logits.device.type, STRIPE_ON_GPU)
        step = max(1, room // (c * self.full[1] * factor))
        for image in range(n):
            for top in range(0, min(h, -(-height // factor)), step):
                # a row of the network more at each side, from which the ones at the edge are made
                low, high = max(0, top - 1), min(h, top + step + 1)
                part = self.logits[image : image + 1, :, low:high].contiguous(memory_format=layout)
                rows = slice(top * factor, min(height, (top + step) * factor))
                found = resized(part, ((high - low) * factor, self.full[1]))
                first = low * factor
                kept = found[:, :, rows.start - first : rows.stop - first, :width]
                yield slice(image, image + 1), rows, kept

    def _factor(self) -> int | None:
        """By how much rows are resized up, where parts of them give the same to the bit."""
        factor, rest = divmod(self.full[0], self.logits.shape[2])
        formats = torch.contiguous_format, torch.channels_last
        dense = any(self.logits.is_contiguous(memory_format=layout) for layout in formats)
        exact = not rest and factor > 1 and factor & (factor - 1) == 0
        return factor if exact and dense and self.full[1] > _WIDE else None
