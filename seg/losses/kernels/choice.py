"""Which implementation computes a loss: by the device of its logits, else by plain operations."""

from collections.abc import Mapping

from torch import Tensor

from seg.losses.kernels.focal import focal_share, focal_terms
from seg.losses.kernels.lovasz import lovasz_losses
from seg.losses.kernels.overlap import overlap_sums
from seg.losses.tracing import formula_only


class ChunkKernels:
    """Value and gradient together, chunk by chunk or class by class, in torch's own operations.

    For another device, a subclass overrides what it does better. Every function has the gradient
    by the logits alone; it is given the plain operations for the second derivative.
    """

    focal_terms = staticmethod(focal_terms)
    focal_share = staticmethod(focal_share)
    overlap_sums = staticmethod(overlap_sums)
    lovasz_losses = staticmethod(lovasz_losses)


KERNELS: Mapping[str, ChunkKernels] = {"cpu": ChunkKernels(), "cuda": ChunkKernels()}
"""The implementation for each type of device; one that is missing here has plain operations."""


def kernels_for(
    logits: Tensor, target: Tensor, *weights: Tensor | float | None, probabilities: bool = False
) -> ChunkKernels | None:
    """The implementation that serves a call; None if plain operations have to.

    Args:
        logits: Scores (N, C, *d).
        target: Class ids, or probabilities.
        weights: What else the loss depends on; the implementations give no gradient by it.
        probabilities: Whether the kernel that is asked for takes probabilities too.
    """
    if target.is_floating_point() and not probabilities:
        return None
    if any(isinstance(x, Tensor) and x.requires_grad for x in weights):
        return None
    if logits.numel() == 0 or formula_only(logits, target):
        return None
    return KERNELS.get(logits.device.type)
