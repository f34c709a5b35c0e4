"""From images to labels: padding where a network asks for it, logits at the mask's own size."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from seg.constants import IGNORE_INDEX


def pixel_stride(network: nn.Module) -> int:
    """The number that both sides of an input of `network` must divide by; 1 where any size goes."""
    if not getattr(network, "requires_divisible_input_shape", False):
        return 1
    return int(network.encoder.output_stride)  # type: ignore[union-attr,arg-type]


def predict_logits(network: nn.Module, images: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Logits of whole images, brought to `size`.

    The images are padded at the right and the bottom with zeros (the mean colour, once normalised)
    only as far as the network requires, and the logits are cropped by as much before they are
    resized bilinearly. With torch's deterministic algorithms the logits of an image depend on no
    other image of the batch, to the bit.

    Args:
        network: From (N, C_in, H, W) to logits (N, C, H, W).
        images: Normalised images (N, C_in, H, W) of one size.
        size: Height and width of the logits wanted, in pixels; None leaves the images' size.

    Returns:
        Logits (N, C, *size).
    """
    height, width = images.shape[-2:]
    stride = pixel_stride(network)
    pad_height, pad_width = -height % stride, -width % stride
    if pad_height or pad_width:
        images = F.pad(images, (0, pad_width, 0, pad_height))
    logits = _forward(network, images)
    logits = logits[..., :height, :width]
    if size is None or tuple(size) == (height, width):
        return logits
    return F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)


def _forward(network: nn.Module, images: Tensor) -> Tensor:
    """Logits, with deterministic algorithms of one image after the other.

    Kernels may round otherwise for another number of images. A sharded network is left as it is:
    all ranks take part in each of its passes, and have to make as many.
    """
    if torch.are_deterministic_algorithms_enabled() and not isinstance(network, FSDPModule):
        return torch.cat([network(image) for image in torch.split(images, 1)])
    logits: Tensor = network(images)
    return logits


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
