"""A weighted sum of losses, each of which stays visible by its name."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from seg.losses.arguments import number
from seg.losses.base import SegmentationLoss
from seg.losses.reduction import Reduction


class CompoundLoss(SegmentationLoss):
    """Weighted sum of losses, such as cross-entropy and Dice.

    Args:
        parts: The losses by name; each is logged under it. The data's class counts reach all.
        weights: Factor of each part by name, 1 where left out.
        reduction: Reduction of every part; `none` needs parts with elements of the same shape.

    Raises:
        ValueError: If there is no part, a weight is of no part or no finite positive number, or
            the parts differ in their number of logits or in what they ignore.
    """

    def __init__(
        self,
        parts: dict[str, SegmentationLoss],
        weights: dict[str, float] | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        weights = _checked(parts, {} if weights is None else weights)
        super().__init__(next(iter(parts.values())).ignore_index, reduction)
        self.parts = nn.ModuleDict(parts)
        self.weights = {name: weights.get(name, 1.0) for name in parts}
        for part in parts.values():
            part.reduction = reduction
        # parts may be binary: how many logits they need is theirs to say
        self.channels = next(iter(parts.values())).channels  # type: ignore[method-assign]

    def components(self) -> dict[str, tuple[float, SegmentationLoss]]:
        """Factor and loss of each part by name; those of a part that is a sum itself as a/b."""
        found = {}
        for name, part in self._items():
            for inner, (factor, loss) in part.components().items():
                found[f"{name}/{inner}" if inner else name] = (self.weights[name] * factor, loss)
        return found

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The weighted sum of the parts' losses of logits (N, C, *d)."""
        values = [self.weights[name] * part(logits, target) for name, part in self._items()]
        if any(value.shape != values[0].shape for value in values):
            shapes = {name: tuple(v.shape) for name, v in zip(self.parts, values, strict=True)}
            raise ValueError(
                f"reduction='none' of parts of different shapes {shapes}: they do not add up; "
                "use mean or sum."
            )
        return torch.stack(values).sum(0)

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Not of a sum: a mean of sums is no sum of means."""
        raise NotImplementedError(
            "CompoundLoss has no terms of its own; add up those of each of its components()."
        )

    def bind(self, num_classes: int) -> None:
        """As in `SegmentationLoss`, for every part."""
        for _, part in self._items():
            part.bind(num_classes)

    @property
    def needs_class_counts(self) -> bool:
        """Whether a part still waits for the pixel counts."""
        return any(part.needs_class_counts for _, part in self._items())

    def set_class_counts(
        self,
        pixels: Tensor | Sequence[int],
        image_pixels: Tensor | Sequence[int] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """As in `SegmentationLoss`, for every part that waits."""
        for _, part in self._items():
            part.set_class_counts(pixels, image_pixels, class_names)

    def _items(self) -> list[tuple[str, SegmentationLoss]]:
        return list(self.parts.items())  # type: ignore[arg-type]


def _checked(parts: dict[str, SegmentationLoss], weights: Mapping[str, float]) -> dict[str, float]:
    """The factors as floats."""
    if not parts:
        raise ValueError("parts={}: expected at least one loss by name, such as {dice: ...}.")
    if not isinstance(weights, Mapping):
        raise ValueError(
            f"weights={weights}: expected a factor by the name of its part, such as "
            f"{{{next(iter(parts))}: 0.5}}."
        )
    factors = {name: number(f"weights: {name}", weight) for name, weight in weights.items()}
    for name, weight in factors.items():
        if name not in parts:
            raise ValueError(f"weights: {name!r} is no part; the parts are {list(parts)}.")
        if not 0 < weight < float("inf"):
            raise ValueError(
                f"weights: {name}={weight}: expected a finite number > 0; leave out a part that "
                "shall not count."
            )
    logits = {name: part.channels(2) for name, part in parts.items()}
    ignored = {name: part.ignore_index for name, part in parts.items()}
    for what, values in (("logits for two classes", logits), ("ignore_index", ignored)):
        if len(set(values.values())) > 1:
            raise ValueError(f"parts differ in {what}: {values}; they share logits and target.")
    return factors
