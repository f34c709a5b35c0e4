"""Boundary loss: probabilities weighed by their distance to the boundary of their class."""

from typing import Any

import cv2
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from seg.constants import IGNORE_INDEX
from seg.losses.base import SegmentationLoss
from seg.losses.checks import check_range
from seg.losses.kernels.id_rows import divisor_of_ids
from seg.losses.reduction import Reduction, reduce_losses
from seg.losses.targets import Logits, Target, softmax_inputs, takes_one_sample

CANDIDATES = 2**25
"""How many candidates for a least distance are compared at a time; they take 128 MiB."""


@takes_one_sample
def boundary_loss(
    logits: Logits,
    target: Target,
    ignore_index: int = IGNORE_INDEX,
    reduction: Reduction = "mean",
) -> Tensor:
    """Boundary loss: the mean of Σ_c φ_c p_c over the pixels that count, φ from `signed_distances`.

    It is negative where probability lies inside the classes. Alone it tells too little at the
    start of a training; add it to another loss, with a small factor, as its authors do.

    Args:
        logits: Unnormalised scores, classes at dim 1, with one spatial dim or more.
        target: Class ids in [0, C) of any integer dtype, or class probabilities, of which the most
            likely class is taken; in both, `ignore_index` marks what to ignore.
        ignore_index: Target value of the pixels that never contribute.
        reduction: `mean`, `sum`, or `none` for the loss of each pixel (N, *d).

    Raises:
        ValueError: If the shapes do not pair, the classes seem to be last, a label is no class, or
            there is no spatial dim.

    Reference:
        Kervadec et al., Boundary Loss for Highly Unbalanced Segmentation, 2019, eq. 5.
    """
    losses, weights = _element_losses(logits, target, ignore_index)
    return reduce_losses(losses, weights, reduction)


def signed_distances(
    target: Integer[Tensor, "n *d"], num_classes: int, ignore_index: int = IGNORE_INDEX
) -> Float[Tensor, "n c *d"]:
    """Signed distance φ_c, in pixels, of every pixel to the boundary of every class.

    Outside class c it is the Euclidean distance to the nearest pixel of c; inside it is one minus
    the distance to the nearest pixel of another class, hence 0 at the pixels along the boundary.
    Ignored pixels are of no class; φ is 0 there, and wherever a class is absent from an image or
    alone in it.

    Args:
        target: Class ids in [0, C) of any integer dtype, or `ignore_index`.
        num_classes: Number of classes C.
        ignore_index: Target value of the pixels of no class.

    Returns:
        φ (N, C, *d), float32.

    Raises:
        ValueError: If a label is no class, or there is no spatial dim.
    """
    if target.ndim < 2:
        raise ValueError(
            f"target of shape {tuple(target.shape)}: expected class ids (N, *d) with a spatial "
            "dim; keep the images as they are."
        )
    target = target.long()
    labels = target.masked_fill(target == ignore_index, 0)
    last = num_classes - 1
    check_range(labels, last, f"a class id 0..{last} or ignore_index {ignore_index}")
    distances: Tensor = _signed_distances(target, num_classes, ignore_index)
    return distances


class BoundaryLoss(SegmentationLoss):
    """Boundary loss: for small objects whose outline matters. Add it to another loss.

    Args:
        ignore_index: Target value of the pixels that never contribute.
        reduction: `mean` over the pixels that count, their `sum`, or `none`.
    """

    uses_positions = True
    by_class = False  # what a class adds may be negative, and then it has no share

    def element_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of every pixel and whether it counts, both (N, *d)."""
        return _element_losses(logits, target, self.ignore_index)

    def divisor(self, target: Tensor, channels: int) -> Tensor | None:
        """The number of pixels that count, of ids; None of probabilities."""
        return divisor_of_ids(target, None, channels, self.ignore_index)


def _element_losses(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    if logits.ndim == 2:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)}: expected a spatial dim, (N, C, *d), without "
            "which no pixel has a boundary; do not flatten the images, or use another loss."
        )
    shape = logits.shape
    logits, target, ignored = softmax_inputs(logits, target, ignore_index)
    labels = target.argmax(1) if target.is_floating_point() else target
    labels = labels.view(ignored.shape).masked_fill(ignored, ignore_index)
    distances = _signed_distances(labels, shape[1], ignore_index)
    if logits.shape != shape:  # (p, c) of channels_last, as a view of (n, c, *d)
        logits = logits.view(*ignored.shape, shape[1]).movedim(-1, 1)
    return (logits.softmax(1) * distances).sum(1), ~ignored


def _by_tensor_operations(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """`signed_distances` of int64 labels that were checked, by tensor operations on any device."""
    of_class = _one_hot(target, num_classes, ignore_index)
    return _signed(_distances(of_class), of_class, target == ignore_index)


# One operator, so that no graph and no transform of torch.func looks inside.
_signed_distances = torch.library.custom_op(
    "seg::signed_distances", _by_tensor_operations, mutates_args=()
)


@_signed_distances.register_vmap
def _signed_distances_of_batches(
    info: Any, in_dims: Any, target: Tensor, num_classes: int, ignore_index: int
) -> tuple[Tensor, int]:
    batches = target.movedim(in_dims[0], 0)
    distances = _signed_distances(batches.flatten(0, 1), num_classes, ignore_index)
    return distances.unflatten(0, batches.shape[:2]), 0


@_signed_distances.register_kernel("cpu")
def _signed_distances_on_cpu(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    of_class = _one_hot(target, num_classes, ignore_index)
    distances = _distances_2d(of_class) if target.ndim == 3 else _distances(of_class)
    return _signed(distances, of_class, target == ignore_index)


@_signed_distances.register_fake
def _signed_distances_shape(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    shape = (target.shape[0], num_classes, *target.shape[1:])
    return target.new_empty(shape, dtype=torch.float32)


def _one_hot(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Which pixels (N, *d) are of which class, bool (N, C, *d)."""
    ids = torch.arange(num_classes, device=target.device).view(-1, *(1 for _ in target.shape[1:]))
    return (target.unsqueeze(1) == ids) & (target != ignore_index).unsqueeze(1)


def _signed(distances: Tensor, of_class: Tensor, ignored: Tensor) -> Tensor:
    """φ (N, C, *d), in place of the distances to the nearest pixel of each class, inf if none is.

    A pixel of class c is as far from another class as from the nearest of all the other classes.
    """
    to_others = distances.masked_fill_(of_class, torch.inf).amin(1, keepdim=True)
    torch.where(of_class, 1 - to_others, distances, out=distances)
    return distances.masked_fill_(distances.isinf() | ignored.unsqueeze(1), 0)


def _distances_2d(of_class: Tensor) -> Tensor:
    """The same as `_distances` for (N, C, H, W) on a CPU, where OpenCV is the fastest."""
    distances = torch.full(of_class.shape, torch.inf)
    elsewhere = (~of_class).view(torch.uint8).numpy()
    for image, class_id in of_class.flatten(2).any(2).nonzero().tolist():
        plane = cv2.distanceTransform(
            elsewhere[image, class_id], cv2.DIST_L2, cv2.DIST_MASK_PRECISE
        )
        # squares are whole numbers; OpenCV's last bit varies from call to call
        squares = torch.from_numpy(plane).double().square_().round_()
        distances[image, class_id] = squares.sqrt_()
    return distances


def _distances(of_class: Tensor) -> Tensor:
    """Distance of every pixel to the nearest pixel of each class, (N, C, *d), inf if none is.

    Squared distances are least over one spatial dim after the other: along the last by two scans,
    along each further one by trying every position for every other.

    Reference:
        Felzenszwalb & Huttenlocher, Distance Transforms of Sampled Functions, 2012, section 2.2
        (that the dims separate).
    """
    squared = _squared_along_last(of_class)
    for dim in range(2, of_class.ndim - 1):
        squared = _least_along(squared, dim)
    return squared.sqrt()


def _squared_along_last(of_class: Tensor) -> Tensor:
    """Squared distance to the nearest True in the same row, inf if there is none."""
    position = torch.arange(of_class.shape[-1], device=of_class.device, dtype=torch.float32)
    before = torch.where(of_class, position, -torch.inf).cummax(-1).values
    after = torch.where(of_class, position, torch.inf).flip(-1).cummin(-1).values.flip(-1)
    return torch.minimum(position - before, after - position).square()


def _least_along(squared: Tensor, dim: int) -> Tensor:
    """The least over j of squared[j] + (i - j)², for every i along a dim."""
    position = torch.arange(squared.shape[dim], device=squared.device, dtype=torch.float32)
    offsets = (position[:, None] - position).square()  # (i, j)
    lines = squared.movedim(dim, -1).unsqueeze(-2)  # (..., 1, j)
    size = max(1, CANDIDATES // max(1, squared.numel()))
    least = [(lines + part).amin(-1) for part in torch.split(offsets, size)]
    return torch.cat(least, -1).movedim(-1, dim)
