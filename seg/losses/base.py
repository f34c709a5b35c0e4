"""What every loss shares: class weights as buffers, and the sums of which it is made."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seg.constants import IGNORE_INDEX
from seg.distributed.ranks import Ranks
from seg.losses.arguments import (
    ClassValues,
    check_class_vector,
    check_weights,
    class_values,
    is_number,
    number,
)
from seg.losses.class_weights import class_weights, counts_of_classes, parse_policy
from seg.losses.kernels.chunks import sums_by_row
from seg.losses.reduction import Reduction, check_reduction, mean_of, reduce_losses
from seg.losses.targets import batched, unbatched


class SegmentationLoss(nn.Module):
    """A loss over logits (N, C, *d) that states the sums of which it is made.

    Its elements are pixels, or images for a loss that is one number an image. A subclass implements
    `element_losses`, and calls `add_weights` for each of its weights. Weights given by the name of
    a policy are refused in `forward` until `set_class_counts` was called or a state_dict that holds
    them was loaded.

    Args:
        ignore_index: Target value of the pixels that count nowhere.
        reduction: `mean` over the elements that count, their `sum`, or `none`.
    """

    uses_positions = False
    """Whether the value depends on where a pixel lies: (N, C, P) differs from (N, C, *d)."""

    by_class = True
    """Whether `class_losses` can tell what each class adds to the loss."""

    def __init__(self, ignore_index: int = IGNORE_INDEX, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.ignore_index = ignore_index
        self.reduction: Reduction = reduction
        self.policies: dict[str, str] = {}  # buffer name -> what derives it from the counts
        self._weight_names: list[str] = []
        self._unresolved: set[str] = set()

    def element_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted loss of every element, 0 where ignored, and what it adds to the divisor."""
        raise NotImplementedError

    def reduced(
        self, logits: Tensor, target: Tensor, reduction: Reduction
    ) -> tuple[Tensor, Tensor]:
        """The loss under a reduction, and the divisor of its mean, a scalar."""
        losses, weights = self.element_losses(logits, target)
        return reduce_losses(losses, weights, reduction), weights.sum().to(losses.dtype)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of logits (N, C, *d), reduced as `reduction` says, fp32 at least.

        Logits (C,) with a scalar target, or probabilities (C,), are one sample, as for torch.
        """
        self._require_weights()
        if logits.ndim == 1:
            return unbatched(self(*batched(logits, target)))
        return self.reduced(logits, target, self.reduction)[0]

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """What of a part of a batch enters its loss, as sums (K,) that add up over the parts.

        For pixels these are the numerator and the divisor of the mean.
        """
        self._require_weights()
        return torch.stack(self.reduced(logits, target, "sum"))

    def value(self, terms: Tensor) -> Tensor:
        """The mean loss of what `terms` (K,) were added up over, a scalar."""
        return mean_of(terms[0], terms[1])

    def num_terms(self, channels: int) -> int:
        """The length K of `terms` for logits of so many channels."""
        return 2

    def class_terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sums (K,) that add up over the parts of a batch, for `class_losses`.

        Of a loss over pixels: what the pixels of each true class add to the numerator of the mean,
        and its divisor. NaN where no class can be told, as of class probabilities.
        """
        self._require_weights()
        sums = logits.new_zeros(max(2, logits.shape[1]) + 1, dtype=torch.float64)
        if not self.by_class or target.is_floating_point():
            return sums.fill_(torch.nan)
        losses, weights = self.element_losses(logits, target)
        if losses.shape != target.shape:
            return sums.fill_(torch.nan)
        # the loss of ignored pixels is 0, whatever class they are counted with
        rows = target.long().clamp(0, len(sums) - 2).flatten()
        sums[:-1] = sums_by_row(losses.detach().flatten(), rows, len(sums) - 1)
        sums[-1] = weights.sum(dtype=torch.float64)
        return sums

    def class_losses(self, terms: Tensor) -> Tensor:
        """What each class adds to the loss, (C,), of what `class_terms` were added up over."""
        return terms[:-1] if self.reduction == "sum" else mean_of(terms[:-1], terms[-1])

    def divisor(self, target: Tensor, channels: int) -> Tensor | None:
        """The divisor of the mean, a float64 scalar, where the target alone decides it; else None.

        Divisors add up over the parts of a batch. With that of the whole, `share` of each part can
        be differentiated as soon as its logits are there.

        Args:
            target: Class ids (N, *d) of a part of a batch.
            channels: Number of logits a pixel.

        Raises:
            ValueError: If a label is no class.
        """
        return None

    def share(self, logits: Tensor, target: Tensor, divisor: Tensor) -> Tensor:
        """What a part of a batch adds to the mean over the whole, whose divisor is known.

        Args:
            logits: Scores (N, C, *d) of the part.
            target: Its class ids (N, *d), of which `divisor` was asked before.
            divisor: Of the whole batch, float64; 1 makes shares of the sum.
        """
        self._require_weights()
        total = self.reduced(logits, target, "sum")[0]
        return mean_of(total, divisor.to(total.dtype))

    def rank_share(self, logits: Tensor, target: Tensor, ranks: Ranks) -> Tensor:
        """What this rank adds to the loss of the batch of all ranks, whatever decides its divisor.

        The ranks' shares add up to the loss, their gradients to its gradient.

        Args:
            logits: Scores (N, C, *d) of this rank's part of the batch, all of it.
            target: Its class ids or probabilities.
            ranks: The ranks that share the batch, with N images each.
        """
        self._require_weights()
        total, divisor = self.reduced(logits, target, "sum")
        return total if self.reduction == "sum" else mean_of(total, ranks.sum(divisor))

    def observed(self, logits: Tensor, target: Tensor) -> Tensor | None:
        """Sums (K,) by which the loss adapts itself after a step; None if it does not.

        They add up over the parts of a batch. Training calls `adapt` with those of the whole;
        `forward` does so by itself.
        """
        return None

    def adapt(self, observed: Tensor) -> None:
        """Take in the sums of a whole batch."""

    def components(self) -> dict[str, tuple[float, "SegmentationLoss"]]:
        """Factor and loss of each part, by name; a loss that is no sum of losses is its own."""
        return {"": (1.0, self)}

    @classmethod
    def channels(cls, num_classes: int) -> int:
        """Number of logits a pixel that the loss needs for `num_classes` classes."""
        if num_classes < 2:
            raise ValueError(
                f"{num_classes} class: a softmax over it is 1 whatever the logits; add a "
                "background class."
            )
        return num_classes

    def weights_from(self, weights: Tensor) -> Tensor:
        """The values of a buffer, from the class weights (C,) of a policy."""
        return weights

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
        for name in self.policies:
            values = self.derive(name, pixels, image_pixels, class_names)
            buffer: Tensor = getattr(self, name)
            with torch.no_grad():
                buffer.copy_(values)
            self._unresolved.discard(name)

    def derive(
        self,
        name: str,
        pixels: Tensor | Sequence[int],
        image_pixels: Tensor | Sequence[int] | None,
        class_names: Sequence[str] | None,
    ) -> Tensor:
        """The values of the buffer `name`, from the counts that `set_class_counts` was given."""
        return self.weights_from(
            class_weights(self.policies[name], pixels, image_pixels, class_names)
        )

    def add_weights(
        self, name: str, values: float | ClassValues | str | None, one_for_all: bool = False
    ) -> None:
        """Registers the buffer `name` from its values or from the name of a policy.

        Args:
            name: Of the buffer, and of the argument that was given.
            values: One weight a class in a list, tuple, array or tensor, of which a copy is kept;
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
