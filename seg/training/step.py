"""The loss of one optimiser step: that of its whole batch, however the batch is split.

A mean over pixels, or an overlap over a batch, is no mean of such means: parts that differ in valid
pixels would weigh them differently. So every part is given what the whole batch decides. What the
targets alone decide, such as the divisor Σ w_t, is known before the first forward pass; then each
micro-batch is differentiated as it comes. Where the logits have a say, as in Dice over a batch, the
micro-batches go forward twice: first without graph, for the logits of all of them and the gradient
of the loss by these, then one by one to pass that gradient on.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from seg.distributed.ranks import Ranks
from seg.exact_sums import widened
from seg.lightning_compat.torch_names import NormBase
from seg.losses import SegmentationLoss

Parts = Mapping[str, tuple[float, SegmentationLoss]]
"""Factor and loss of each part of a sum of losses, by name."""


Batches = Sequence[tuple[Tensor, Tensor]]
"""Micro-batches of images and their class ids."""


class StepLoss(NamedTuple):
    """What a step minimises, and what it logs."""

    loss: Tensor  # a scalar; the mean of its gradients over the ranks is that of the whole batch
    values: Tensor  # (K,) of the parts of the sum, widened; of the whole batch on every rank


class Share(NamedTuple):
    """This rank's part of the batch of one step."""

    images: Tensor  # (N, C_in, H, W), N the same on all ranks
    target: Tensor  # class ids (N, H, W)
    ranks: Ranks


def step_loss(
    network: nn.Module,
    forward: Callable[[Tensor], Tensor],
    parts: Parts,
    share: Share,
    channels: int,
    micro_batch_size: int | None = None,
    scaler: GradScaler | None = None,
) -> StepLoss:
    """The loss of the batch of all ranks, with a gradient that no split of it changes.

    A loss that adapts itself, such as RecallLoss, takes in the whole batch afterwards. Parameters
    of a loss have their gradient in the same way as those of the network.

    Args:
        network: Whose parameters are trained.
        forward: From images to logits (N, C, H, W), by the network.
        parts: The losses and their factors; what the losses learn themselves is trained too.
        share: This rank's images and target.
        channels: Number of logits a pixel, C.
        micro_batch_size: How many images go through the network at a time; None for all N.
        scaler: What the loss will be scaled by in mixed precision, for the gradients that are made
            before the backward pass.
    """
    images, target, ranks = share
    objective = _Objective(parts, share, channels)
    walk = _Passes(network, forward, objective, scaler)
    size = micro_batch_size or len(images)
    batches = list(zip(torch.split(images, size), torch.split(target, size), strict=True))
    two_passes = len(batches) > 1 and objective.waits_for_logits
    shares, made = walk.two_passes(batches) if two_passes else walk.one_pass(batches)
    values = objective.finish()
    local = ranks.size * objective.loss(shares)
    loss: Tensor = _Loss.apply(objective.loss(values), local, made.gradients, *made.tensors)
    return StepLoss(loss, values)


class _Objective:
    """The parts of the loss of a whole batch: from logits to what these pixels add to them."""

    def __init__(self, parts: Parts, share: Share, channels: int) -> None:
        self.ranks = share.ranks
        self.losses = [loss for _, loss in parts.values()]
        self.factors = [factor for factor, _ in parts.values()]
        found = [loss.divisor(share.target, channels) for loss in self.losses]
        # one that is learnt has a gradient, which is taken with that of the logits
        known = [i for i, x in enumerate(found) if x is not None and not x.requires_grad]
        self.divisors: dict[int, Tensor] = {}
        if known:
            sums = self.ranks.sum(torch.stack([found[i] for i in known]))  # type: ignore[misc]
            self.divisors = dict(zip(known, sums.unbind(), strict=True))
        self._sums: list[Tensor] = []
        self._observers: list[tuple[SegmentationLoss, int]] = []

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the losses learn themselves."""
        found = [p for loss in self.losses for p in loss.parameters() if p.requires_grad]
        return list(dict.fromkeys(found))

    @property
    def waits_for_logits(self) -> bool:
        """Whether a part needs the logits of all of the rank's images at once."""
        return len(self.divisors) < len(self.losses)

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """What these pixels add to each part, (K,), with graph."""
        shares = torch.stack(
            [self._share(i, loss, logits, target) for i, loss in enumerate(self.losses)]
        )
        with torch.no_grad():
            pairs = [(x, x.observed(logits, target)) for x in self.losses if x.training]
        seen = [(loss, sums) for loss, sums in pairs if sums is not None]
        self._observers = [(loss, len(sums)) for loss, sums in seen]
        found = (shares, *(sums for _, sums in seen))
        self._sums.append(torch.cat([widened(x.detach()) for x in found]))
        return shares

    def _share(self, i: int, loss: SegmentationLoss, logits: Tensor, target: Tensor) -> Tensor:
        if i not in self.divisors:
            return loss.rank_share(logits, target, self.ranks)
        divisor = self.divisors[i]
        if loss.reduction == "sum":
            divisor = torch.ones_like(divisor)
        return loss.share(logits, target, divisor)

    def loss(self, values: Tensor) -> Tensor:
        """The weighted sum of the parts (K,)."""
        factors = zip(self.factors, values.unbind(), strict=True)
        return torch.stack([factor * value for factor, value in factors]).sum()

    def finish(self) -> Tensor:
        """The parts (K,) over all calls and ranks; the losses adapt to what they observed."""
        sums = self.ranks.sum(torch.stack(self._sums).sum(0))
        sizes = [len(self.losses), *(size for _, size in self._observers)]
        values, *seen = torch.split(sums, sizes)
        for (loss, _), observed in zip(self._observers, seen, strict=True):
            loss.adapt(observed)
        return values


class _Made(NamedTuple):
    """Gradients that were made before the backward pass, scaled already, and of what."""

    tensors: Sequence[Tensor] = ()
    gradients: Sequence[Tensor] = ()


class _Passes(NamedTuple):
    """The network and what its micro-batches need."""

    network: nn.Module
    forward: Callable[[Tensor], Tensor]
    objective: _Objective
    scaler: GradScaler | None

    def one_pass(self, batches: Batches) -> tuple[Tensor, _Made]:
        """The last micro-batch's shares with graph, the gradients of those before."""
        gradients = _GradientSum([*self.network.parameters(), *self.objective.parameters])
        for images, target in batches[:-1]:
            shares = self.objective(self.forward(images), target)
            gradients.add(self._scaled(shares))
        images, target = batches[-1]
        return self.objective(self.forward(images), target), gradients.made()

    def two_passes(self, batches: Batches) -> tuple[Tensor, _Made]:
        """The shares without graph, and all gradients, those of the last by its logits."""
        with torch.no_grad(), _rehearsal(self.network, batches[0][0].device):
            logits = torch.cat([self.forward(images) for images, _ in batches])
        logits.requires_grad_()
        shares = self.objective(logits, torch.cat([target for _, target in batches]))
        by_loss = _GradientSum([logits, *self.objective.parameters])
        by_loss.add(self._scaled(shares))
        (_, *learnt), (slope, *of_learnt) = by_loss.made()
        slopes = torch.split(slope, len(batches[0][0]))
        gradients = _GradientSum(self.network.parameters())
        for (images, _), part in zip(batches[:-1], slopes, strict=False):
            gradients.add(self.forward(images), part)
        last = self.forward(batches[-1][0])
        tensors, made = gradients.made()
        return shares.detach(), _Made([last, *tensors, *learnt], [slopes[-1], *made, *of_learnt])

    def _scaled(self, shares: Tensor) -> Tensor:
        loss = self.objective.ranks.size * self.objective.loss(shares)
        return loss if self.scaler is None else self.scaler.scale(loss)


class _GradientSum:
    """Gradients of leaves, such as a network's parameters, added up apart from `.grad`.

    So what hangs on `.grad`, such as the sending of gradients in DistributedDataParallel, takes
    place once, in the backward pass of the last micro-batch.
    """

    def __init__(self, leaves: Iterable[Tensor]) -> None:
        self.leaves = [leaf for leaf in leaves if leaf.requires_grad]
        self.totals: list[Tensor | None] = [None] * len(self.leaves)

    def add(self, output: Tensor, slope: Tensor | None = None) -> None:
        """Add the gradient of an output, whose graph is freed."""
        new = torch.autograd.grad(output, self.leaves, slope, allow_unused=True)
        pairs = zip(self.totals, new, strict=True)
        self.totals = [a if b is None else b if a is None else a + b for a, b in pairs]

    def made(self) -> _Made:
        """The leaves that have a gradient, and these."""
        pairs = zip(self.leaves, self.totals, strict=True)
        found = [(p, total) for p, total in pairs if total is not None]
        return _Made([p for p, _ in found], [total for _, total in found])


class _Loss(torch.autograd.Function):
    """A value, whose gradient is that of another scalar and of what was made before."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, local: Tensor, gradients: Sequence[Tensor], *tensors: Tensor
    ) -> Tensor:
        ctx.gradients = gradients
        return value.to(local.dtype, copy=True)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        gradients, ctx.gradients = ctx.gradients, ()
        return None, slopes[0], None, *gradients


@contextmanager
def _rehearsal(network: nn.Module, device: torch.device) -> Iterator[None]:
    """A forward pass that leaves no trace in running statistics and random numbers."""
    norms = [m for m in network.modules() if isinstance(m, NormBase) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        # the CPU's generator is among these always
        kept: dict[str, Any] = {"devices": [], "device_type": "cuda"}
        if device.type != "cpu":
            kept = {"devices": [device], "device_type": device.type}
        with torch.random.fork_rng(**kept):
            yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        # older torch takes casts made without graph for those of the next pass (pytorch #158232)
        torch.clear_autocast_cache()
