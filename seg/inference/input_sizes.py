"""What sizes of image a network takes: any, multiples of a stride, or one size alone."""

import re
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg.errors import InputError

_OF_SIZES = re.compile("shape|size|match|divi|dimension", re.IGNORECASE)


class InputSizes(NamedTuple):
    """How images are made to fit a network, and its logits to fit the images.

    Images are padded at the right and the bottom with zeros (the mean colour, once normalised) to
    multiples of `stride`, or resized bilinearly to `size`.
    """

    stride: int = 1
    size: tuple[int, int] | None = None

    @classmethod
    def of(
        cls, network: nn.Module, stride: int | None = None, size: Sequence[int] | None = None
    ) -> "InputSizes":
        """The sizes that a network takes: as given, or as it states itself.

        Args:
            network: With a stride of its own where it is one of smp's.
            stride: What both sides of its input must divide by, in pixels.
            size: Height and width that its input must have, in pixels.

        Raises:
            InputError: If both are given, or one that cannot be.
        """
        own = pixel_stride(network)
        if stride is not None and (stride < 1 or stride % own):
            raise InputError(
                f"model.input_stride {stride}: expected a positive multiple of {own}, which "
                f"{type(network).__name__} states; leave it out where any size goes."
            )
        if size is None:
            return cls(stride or own)
        if len(size) != 2 or min(size) < 1:
            raise InputError(
                f"model.input_size {list(size)}: expected a height and a width in pixels, such as "
                "[224, 224]."
            )
        if stride is not None or size[0] % own or size[1] % own:
            raise InputError(
                f"model.input_size {list(size)} and a stride of {stride or own}: images are "
                "resized or padded, not both; leave model.input_stride out, and take a size that "
                f"divides by {own}."
            )
        return cls(own, (size[0], size[1]))

    def fit(self, images: Tensor) -> Tensor:
        """Images (N, C_in, H, W) at a size that the network takes."""
        height, width = images.shape[-2:]
        if self.size is not None:
            return images if (height, width) == self.size else _resized_images(images, self.size)
        padding = -height % self.stride, -width % self.stride
        return F.pad(images, (0, padding[1], 0, padding[0])) if any(padding) else images

    def undo(self, logits: Tensor, fitted: Tensor, images: Tensor) -> Tensor:
        """Logits at the size of the images, of logits of the fitted ones at any resolution."""
        height, width = images.shape[-2:]
        if self.size is not None:
            return resized(logits, (height, width))
        logits = resized(logits, (fitted.shape[-2], fitted.shape[-1]))
        if logits.shape[-2:] == (height, width):
            return logits
        return logits[..., :height, :width]


def pixel_stride(network: nn.Module) -> int:
    """The number that both sides of an input of `network` must divide by; 1 where any size goes."""
    if not getattr(network, "requires_divisible_input_shape", False):
        return 1
    return int(network.encoder.output_stride)  # type: ignore[union-attr,arg-type]


def network_logits(network: nn.Module, images: Tensor, sizes: InputSizes) -> Tensor:
    """Logits (N, C, H, W) of normalised images (N, C_in, H, W), at their size."""
    fitted = sizes.fit(images)
    return sizes.undo(logits_of(network(fitted)), fitted, images)


def logits_of(output: Any) -> Tensor:
    """The logits in what a network gives: a tensor, the first of several, or by name.

    Args:
        output: A tensor; a tuple or list that begins with it; an output of transformers (`logits`)
            or of torchvision (`out`).

    Raises:
        InputError: If it is none of these.
    """
    found = output
    if isinstance(output, Mapping):
        found = output.get("logits", output.get("out"))
    elif not isinstance(output, Tensor) and hasattr(output, "logits"):
        found = output.logits
    elif isinstance(output, (tuple, list)) and output:  # torch 2.6 traces no union
        found = output[0]
    if isinstance(found, Tensor):
        return found
    raise InputError(
        f"model.network gives a {type(output).__name__}; expected logits: a tensor, a tuple that "
        "begins with it, or an output with `logits`."
    )


def resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (N, C, *size), bilinearly where theirs is another size."""
    if tuple(logits.shape[-2:]) == size:
        return logits
    exact = logits if logits.dtype == torch.float64 else logits.float()
    return F.interpolate(exact, size=size, mode="bilinear", align_corners=False)


def _resized_images(images: Tensor, size: tuple[int, int]) -> Tensor:
    exact = images if images.dtype == torch.float64 else images.float()
    shape: dict[str, Any] = {"size": size, "mode": "bilinear", "align_corners": False}
    return F.interpolate(exact, **shape, antialias=True).to(images.dtype)


def explained(network: nn.Module, images: Tensor, error: Exception) -> InputError | None:
    """What a user can do about an error in a forward pass; None where it has another cause.

    Args:
        network: The network that failed.
        images: What it failed on, (N, C_in, H, W).
        error: The error that it raised.
    """
    name, said = type(network).__name__, str(error).strip().partition("\n")[0].rstrip(".")
    if "more than 1 value per channel" in said:
        return InputError(
            f"{name} has a batch norm over one value a channel, as {len(images)} image went "
            "through it: it needs two. Set data.batch_size and model.micro_batch_size such that "
            "each device and part gets two or more, or put group norm in its place."
        )
    of_sizes = isinstance(error, AssertionError) or _OF_SIZES.search(said)
    if not of_sizes or isinstance(error, torch.OutOfMemoryError):
        return None
    height, width = images.shape[-2:]
    place = traceback.extract_tb(error.__traceback__)[-1]
    return InputError(
        f"model.network: {name} fails on an image of {height} x {width}: {type(error).__name__}: "
        f"{said} ({Path(place.filename).name}:{place.lineno}). Where it takes certain sizes only, "
        "set data.crop_size, model.input_stride or model.input_size."
    )
