"""From images to labels: padding where a network asks for it, logits at the mask's own size."""

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from seg.constants import IGNORE_INDEX
from seg.inference.input_sizes import InputSizes, logits_of, resized
from seg.inference.stripes import LowLogits


def predict_logits(
    network: nn.Module,
    images: Tensor,
    size: tuple[int, int] | None,
    sizes: InputSizes | None = None,
) -> Tensor:
    """Logits of whole images, brought to `size`.

    The images are padded or resized only as far as the network requires, and the logits brought
    back to their size before they are resized bilinearly. With torch's deterministic algorithms
    the logits of an image depend on no other image of the batch, to the bit.

    Args:
        network: From (N, C_in, H, W) to logits (N, C, h, w).
        images: Normalised images (N, C_in, H, W) of one size.
        size: Height and width of the logits wanted, in pixels; None leaves the images' size.
        sizes: What sizes the network takes; None for what it states itself.

    Returns:
        Logits (N, C, *size).
    """
    return low_logits(network, images, size, sizes).whole()


def low_logits(
    network: nn.Module,
    images: Tensor,
    size: tuple[int, int] | None,
    sizes: InputSizes | None = None,
) -> LowLogits:
    """As `predict_logits`, not brought to full size yet where one step does that."""
    sizes = InputSizes.of(network) if sizes is None else sizes
    fitted = sizes.fit(images)
    own = images.shape[-2], images.shape[-1]
    full = own if sizes.size is not None else (fitted.shape[-2], fitted.shape[-1])
    found = LowLogits(_forward(network, fitted), full, own)
    if size is None or size == own:
        return found
    return LowLogits(resized(found.whole(), size), size, size)


def _forward(network: nn.Module, images: Tensor) -> Tensor:
    """Logits, with deterministic algorithms of one image after the other.

    Kernels may round otherwise for another number of images. A sharded network is left as it is:
    all ranks take part in each of its passes, and have to make as many.
    """
    if torch.are_deterministic_algorithms_enabled() and not isinstance(network, FSDPModule):
        return torch.cat([logits_of(network(image)) for image in torch.split(images, 1)])
    return logits_of(network(images))


def labels_of(low: LowLogits, bias: Tensor | None = None) -> Tensor:
    """The `labels` (N, H, W) of whole images, of which a few rows of logits are held at a time."""
    found = low.logits.new_empty((len(low.logits), *low.size), dtype=torch.uint8)
    for images, rows, logits in low.stripes():
        found[images, rows] = labels(logits, bias)
    return found


def labels(logits: Tensor, bias: Tensor | None = None) -> Tensor:
    """Class ids (N, d1, …) in uint8 of logits (N, C, d1, …); one logit is foreground above zero.

    A pixel of which a logit is NaN has no class: it gets `IGNORE_INDEX`.

    Args:
        logits: Scores.
        bias: What is added to each class's logit first, (C,), as `seg calibrate` finds it.
    """
    if bias is not None:
        logits = logits + bias.view(-1, *(1 for _ in logits.shape[2:]))
    if logits.shape[1] == 1:
        largest = logits[:, 0]
        ids = largest > 0
    else:
        largest, ids = logits.max(dim=1)  # NaN is larger than any number
    return ids.to(torch.uint8).masked_fill(largest.isnan(), IGNORE_INDEX)
