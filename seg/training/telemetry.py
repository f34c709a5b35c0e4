"""What is logged of training: means of an epoch, the classes' shares, and classes left silent."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from seg.distributed.ranks import Ranks
from seg.evaluation.metrics import Scores
from seg.training.class_shares import ClassShares, NeverPredicted
from seg.training.epoch_means import EpochMeans
from seg.training.step import Parts


class Telemetry:
    """Keeps, over the steps of an epoch and the validations of a run, what is logged of them.

    Args:
        class_names: The C names.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._means = EpochMeans()
        self._shares = ClassShares(class_names)
        self._never_predicted = NeverPredicted(class_names)

    def names(self, parts: Parts) -> list[str]:
        """What `values` names."""
        of_parts = [f"train/loss/{name}" for name in parts if name]
        return ["train/loss", *of_parts, *self._shares.names(parts)]

    def watch(
        self, index: int, parts: Parts, target: Tensor, forward: Callable[[Tensor], Tensor]
    ) -> Callable[[Tensor], Tensor]:
        """As `ClassShares.watch`."""
        return self._shares.watch(index, parts, target, forward)

    def add_step(self, epoch: int, values: Tensor) -> None:
        """Take in the value of each part of the loss (K,), of the batch of all ranks."""
        self._means.add(epoch, values)

    def finish_step(self, epoch: int, ranks: Ranks) -> None:
        """As `ClassShares.finish`."""
        self._shares.finish(epoch, ranks)

    def validated(self, scores: Scores, aloud: bool) -> None:
        """As `NeverPredicted.warn`."""
        self._never_predicted.warn(scores, aloud)

    def values(self, parts: Parts) -> dict[str, Any]:
        """Means over the steps of the epoch: of the loss, its parts and the classes' shares."""
        losses = with_total("train/loss", parts, self._means.means().unbind())
        return losses | self._shares.values(parts)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it, in primitives."""
        return {
            "train_losses": self._means.state(),
            "class_shares": self._shares.state(),
            "never_predicted": self._never_predicted.validations,
        }

    def load(self, checkpoint: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint, which may be of an earlier version, holds of it."""
        if "train_losses" in checkpoint:
            self._means.load(checkpoint["train_losses"])
        if "class_shares" in checkpoint:
            self._shares.load(checkpoint["class_shares"])
            self._never_predicted.validations = checkpoint["never_predicted"]


def with_total(name: str, parts: Parts, values: Sequence[Tensor]) -> dict[str, Any]:
    """The weighted sum of the loss's parts as `name`, and the named parts as name/part.

    Args:
        name: Of the sum.
        parts: The losses and their factors.
        values: Of each part, in the same order.
    """
    pairs = zip(parts.items(), values, strict=True)
    weighed = [factor * value for (_, (factor, _)), value in pairs]
    named = {f"{name}/{part}": v for part, v in zip(parts, values, strict=True) if part}
    return {name: torch.stack(weighed).sum(), **named}
