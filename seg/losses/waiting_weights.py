"""Values of the classes as buffers of a loss: given, or waiting for the counts of the data."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seg.losses.arguments import (
    ClassValues,
    check_class_vector,
    check_weights,
    class_values,
    is_number,
    number,
)
from seg.losses.class_weights import class_weights, counts_of_classes, parse_policy


class GivenCounts(NamedTuple):
    """The arguments of `set_class_counts`."""

    pixels: Tensor | Sequence[int]
    image_pixels: Tensor | Sequence[int] | None
    class_names: Sequence[str] | None


class WaitingWeights(nn.Module):
    """A module with buffers (C,) of one value a class, which a subclass adds by `add_weights`.

    Those given by the name of a policy are None until `bind` says C, NaN until `set_class_counts`
    or a state_dict fills them. The state_dict holds them all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.policies: dict[str, str] = {}  # buffer name -> what derives it from the counts
        self._weight_names: list[str] = []
        self._unresolved: set[str] = set()

    @classmethod
    def channels(cls, num_classes: int) -> int:
        """Number of logits of a pixel for `num_classes` classes, the length of the buffers."""
        return num_classes

    def add_weights(
        self, name: str, values: float | ClassValues | str | None, one_for_all: bool = False
    ) -> None:
        """Registers the buffer `name` from its values or from the name of a policy.

        Args:
            name: Of the buffer, and of the argument that was given.
            values: One weight for each class: a list, tuple, array or tensor, which is copied;
                or the name of a policy; None for no weights.
            one_for_all: Whether a single number is taken as well, as (1,).

        Raises:
            ValueError: If the policy is unknown or a value is negative, inf or NaN.
        """
        self._weight_names.append(name)
        if isinstance(values, str):
            parse_policy(values, name)
            self.add_derived(name, values)
            return
        if one_for_all and is_number(values):
            values = [number(name, values)]
        weights = None if values is None else class_values(name, values)
        if weights is not None:
            check_weights(name, weights)
        self.register_buffer(name, weights)

    def add_class_vector(self, name: str, values: Tensor) -> None:
        """Registers the buffer `name`, one value a class (C,)."""
        self._weight_names.append(name)
        self.register_buffer(name, values)

    def add_derived(self, name: str, policy: str) -> None:
        """Registers the buffer `name`, which `derive` fills from the counts of the data."""
        if name not in self._weight_names:
            self._weight_names.append(name)
        self.policies[name] = policy
        self._unresolved.add(name)
        self.register_buffer(name, None)

    def weights_from(self, weights: Tensor) -> Tensor:
        """The values of a buffer, from the class weights (C,) of a policy."""
        return weights

    def derive(self, name: str, counts: GivenCounts) -> Tensor:
        """The values of the buffer `name`, from the counts of the data."""
        return self.weights_from(class_weights(self.policies[name], *counts))

    def bind(self, num_classes: int) -> None:
        """Fixes the number of classes: checks given weights, makes room for those of a policy.

        Raises:
            ValueError: If weights were given for another number of classes.
        """
        channels = self.channels(num_classes)
        for name in self._weight_names:
            values = getattr(self, name)
            if values is None and name in self.policies:
                # NaN marks what no counts have filled yet, in checkpoints as well
                self.register_buffer(name, torch.full((channels,), torch.nan))
            elif values is not None:
                check_class_vector(name, values, channels)

    @property
    def filled_later(self) -> list[str]:
        """Buffers that are None until `bind`, a state_dict or the data says their shape."""
        return list(self.policies)

    @property
    def needs_class_counts(self) -> bool:
        """Whether weights given by the name of a policy still wait for the pixel counts."""
        return bool(self._unresolved)

    def set_class_counts(
        self,
        pixels: Tensor | Sequence[int],
        image_pixels: Tensor | Sequence[int] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Fills the weights given by the name of a policy from the training set's pixel counts.

        Args:
            pixels: Number of valid pixels of each class, (C,).
            image_pixels: Number of valid pixels of the images in which the class occurs, (C,).
            class_names: The C names, for warnings.
        """
        self.bind(len(counts_of_classes("pixels", pixels)))
        counts = GivenCounts(pixels, image_pixels, class_names)
        for name in self.policies:
            values = self.derive(name, counts)
            buffer: Tensor = getattr(self, name)
            with torch.no_grad():
                buffer.copy_(values)
            self._unresolved.discard(name)

    def _require_weights(self) -> None:
        if self._unresolved:
            waiting = ", ".join(f"{name}={self.policies[name]!r}" for name in self._unresolved)
            raise RuntimeError(
                f"{type(self).__name__}({waiting}) has no weights yet: call "
                ".set_class_counts(pixels) with the number of training pixels of each class, or "
                ".load_state_dict(...) with that of a trained loss."
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in (name for name in self.filled_later if getattr(self, name) is None):
            if (loaded := state_dict.get(prefix + name)) is not None:
                self.register_buffer(name, torch.empty_like(loaded, dtype=torch.float32))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        for name in self.policies:
            loaded = state_dict.get(prefix + name)
            if loaded is not None and not loaded.isnan().any():
                self._unresolved.discard(name)
