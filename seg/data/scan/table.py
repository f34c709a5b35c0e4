"""The regions of all masks of a split, in a handful of arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seg.data.scan.class_counts import ClassCounts
from seg.data.scan.components import Regions


@dataclass(frozen=True)
class Scan:
    """`Regions` of N masks, one after the other; see there for the fields.

    Attributes:
        sizes: (N, 2).
        pixels: (N, C).
        ignored: (N,).
        num_components: How many of the components belong to each mask, (N,).
        classes: Of all components, (K,).
        areas: Of all components, (K,).
        boxes: Of all components, (K, 4).
        num_places: How many of the places belong to each mask and class, (N, C).
        places: Of all masks and classes, in turn.
        num_entries: How many of the entries belong to each mask, (N,).
        entries: Of all masks, in turn.
    """

    sizes: NDArray[np.int32]
    pixels: NDArray[np.int64]
    ignored: NDArray[np.int64]
    num_components: NDArray[np.int64]
    classes: NDArray[np.uint8]
    areas: NDArray[np.int64]
    boxes: NDArray[np.int32]
    num_places: NDArray[np.int64]
    places: NDArray[np.int64]
    num_entries: NDArray[np.int64]
    entries: NDArray[np.int64]

    @classmethod
    def of(cls, regions: Sequence[Regions], num_classes: int) -> "Scan":
        """The masks' regions in one."""
        n = len(regions)
        return cls(
            sizes=_join([r.size for r in regions], np.int32).reshape(n, 2),
            pixels=_join([r.pixels for r in regions], np.int64).reshape(n, num_classes),
            ignored=_join([r.ignored for r in regions], np.int64),
            num_components=np.array([len(r.classes) for r in regions], np.int64),
            classes=_join([r.classes for r in regions], np.uint8),
            areas=_join([r.areas for r in regions], np.int64),
            boxes=_join([r.boxes for r in regions], np.int32).reshape(-1, 4),
            num_places=_join([r.num_places for r in regions], np.int64).reshape(n, num_classes),
            places=_join([r.places for r in regions], np.int64),
            num_entries=np.array([len(r.entries) for r in regions], np.int64),
            entries=_join([r.entries for r in regions], np.int64),
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def regions(self) -> list[Regions]:
        """One mask's regions each, as views."""
        components = self.num_components.cumsum()[:-1]
        places = self.num_places.sum(1).cumsum()[:-1]
        columns = (
            self.sizes,
            self.pixels,
            self.ignored[:, None],
            np.split(self.classes, components),
            np.split(self.areas, components),
            np.split(self.boxes, components),
            np.split(self.places, places),
            self.num_places,
            np.split(self.entries, self.num_entries.cumsum()[:-1]),
        )
        return [Regions(*values) for values in zip(*columns, strict=True)]

    def class_counts(self) -> ClassCounts:
        """Pixels and images of each class."""
        has = self.pixels > 0
        of_image = self.pixels.sum(1, keepdims=True)
        counts = self.pixels.sum(0), (has * of_image).sum(0), has.sum(0)
        return ClassCounts(*(torch.from_numpy(np.asarray(c, np.int64)) for c in counts))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _join(parts: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype)
