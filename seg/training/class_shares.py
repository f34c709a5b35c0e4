"""What training does to each class: its share of the loss and of the gradient, and silence."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from seg.distributed.ranks import Ranks
from seg.evaluation.metrics import Scores
from seg.exact_sums import sums_by_row, widened, widest
from seg.training.epoch_means import EpochMeans
from seg.training.step import Parts

log = logging.getLogger(__name__)

EVERY = 10
"""Steps of an epoch of which one is watched, beginning with its first."""

PATIENCE = 3
"""Validations without a single predicted pixel after which a class is named."""


class StepWatch:
    """Adds up, over the micro-batches of one step, what of loss and gradient falls on each class.

    A pixel belongs to its true class. Of the gradient at the logits it has Σ_j |∂L/∂z_j|; of the
    loss what `SegmentationLoss.class_losses` says.

    Args:
        parts: The losses and their factors.
        target: Class ids (N, *d) of this rank's images, in the order in which they are passed on.
        num_classes: C.
    """

    def __init__(self, parts: Parts, target: Tensor, num_classes: int) -> None:
        self._parts = list(parts.values())
        self._target = target
        self._num_classes = num_classes
        self._seen = 0
        self._terms: list[Tensor] | None = None
        dtype = widest(target.device)
        self._gradient = torch.zeros(num_classes, dtype=dtype, device=target.device)

    def of(self, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The same forward pass, watched where it makes a graph."""

        def watched(images: Tensor) -> Tensor:
            logits = forward(images)
            if logits.requires_grad:
                self._watch(logits)
            return logits

        return watched

    def shares(self, ranks: Ranks) -> Tensor:
        """Shares of the loss and of the gradient (2, C) over all ranks, widened; 0 of nothing.

        The shares of a loss that does not tell classes apart are NaN. A step whose gradient is
        not finite, as when fp16 overflows, has none.
        """
        assert self._terms is not None, "no forward pass was watched"
        sizes = [len(terms) for terms in self._terms]
        sums = ranks.sum(torch.cat([*self._terms, self._gradient]))
        *terms, gradient = torch.split(sums, [*sizes, self._num_classes])
        loss = torch.zeros_like(gradient)
        for (factor, part), of_part in zip(self._parts, terms, strict=True):
            loss = loss + factor * part.class_losses(of_part)
        gradient = torch.where(gradient.isfinite().all(), gradient, 0)
        amounts = torch.stack([loss, gradient])
        total = amounts.sum(1, keepdim=True)
        return amounts / torch.where(total == 0, 1, total)

    def _watch(self, logits: Tensor) -> None:
        target = self._target[self._seen : self._seen + len(logits)]
        self._seen += len(logits)
        with torch.no_grad():
            found = [part.class_terms(logits.detach(), target) for _, part in self._parts]
        new = [widened(terms) for terms in found]
        old = self._terms or [torch.zeros_like(terms) for terms in new]
        self._terms = [a + b for a, b in zip(old, new, strict=True)]
        logits.register_hook(partial(self._add_gradient, target))  # type: ignore[no-untyped-call]

    def _add_gradient(self, target: Tensor, gradient: Tensor) -> None:
        # ignored pixels have no gradient: whatever class they are counted with
        rows = target.long().clamp(0, self._num_classes - 1).flatten()
        amounts = gradient.abs().sum(1, dtype=torch.float32).flatten()
        self._gradient += sums_by_row(amounts, rows, self._num_classes)


class ClassShares:
    """Each class's share of the loss and of the gradient, mean over the watched steps of an epoch.

    Args:
        class_names: The C names.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._class_names = class_names
        self._means = EpochMeans()
        self._step: StepWatch | None = None

    def names(self, parts: Parts) -> list[str]:
        """What is logged."""
        kinds = ["grad_share"]
        if all(part.by_class for _, part in parts.values()):
            kinds.insert(0, "loss_share")
        return [f"train/{kind}/{name}" for kind in kinds for name in self._class_names]

    def watch(
        self, index: int, parts: Parts, target: Tensor, forward: Callable[[Tensor], Tensor]
    ) -> Callable[[Tensor], Tensor]:
        """The forward pass to use in the step of that index in its epoch."""
        if index % EVERY:
            return forward
        self._step = StepWatch(parts, target, len(self._class_names))
        return self._step.of(forward)

    def finish(self, epoch: int, ranks: Ranks) -> None:
        """Take in what was watched, after the backward pass; every rank does at the same steps."""
        if self._step is not None:
            self._means.add(epoch, self._step.shares(ranks).flatten())
            self._step = None

    def values(self, parts: Parts) -> dict[str, Tensor]:
        """The means of the epoch, by the names that are logged."""
        if self._means.sums is None:
            return {}
        loss, gradient = self._means.means().view(2, -1)
        names = self.names(parts)
        shares = gradient if len(names) == len(gradient) else torch.cat([loss, gradient])
        return dict(zip(names, shares.unbind(), strict=True))

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it, in primitives."""
        return self._means.state()

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._means.load(state)


class NeverPredicted:
    """Names the classes that validation after validation are in the masks, but never predicted.

    Args:
        class_names: The C names.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._class_names = class_names
        self.validations = [0] * len(class_names)
        """For how many validations in a row each class was silent."""

    def update(self, scores: Scores) -> list[str]:
        """Take in a validation; the classes for which it is one too many, each time again."""
        silent = ((scores.pixels > 0) & scores.precision.isnan()).tolist()
        pairs = zip(self.validations, silent, strict=True)
        self.validations = [n + 1 if quiet else 0 for n, quiet in pairs]
        counted = zip(self._class_names, self.validations, strict=True)
        return [name for name, n in counted if n and n % PATIENCE == 0]

    def warn(self, scores: Scores, aloud: bool) -> None:
        """Take in a validation, and say which classes are to be named, on one of the ranks."""
        silent = self.update(scores)
        if silent and aloud:
            log.warning(
                "Never predicted in the last %d validations: %s. Their share of the gradient is in "
                "train/grad_share; `seg audit` says what to set.",
                PATIENCE,
                ", ".join(silent),
            )
