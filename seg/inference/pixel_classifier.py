"""A network with what its images need before it and what its logits need after it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seg.inference.input_sizes import InputSizes, explained, network_logits, resized
from seg.inference.stripes import LowLogits
from seg.inference.whole_images import labels, labels_of, low_logits
from seg.lightning_compat.torch_names import COMPILED

_OF_A_NETWORK = (AssertionError, RuntimeError, ValueError)


class PixelClassifier(nn.Module):
    """From uint8 images to logits and class ids; normalisation and biases travel with it.

    A subclass sets `network` and `input_sizes`, and calls `set_normalisation`.
    """

    network: nn.Module
    input_sizes: InputSizes
    image_mean: Tensor
    image_std: Tensor
    logit_bias: Tensor | None

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Register mean and standard deviation of pixel values in [0, 1], one a channel."""
        for name, values in (("image_mean", mean), ("image_std", std)):
            # in units of uint8 values, ready to broadcast over (n, c, h, w)
            self.register_buffer(name, 255 * torch.tensor(values).view(-1, 1, 1))
        # of the checkpoint, not of the weights: whoever trains on starts without
        self.register_buffer("logit_bias", None, persistent=False)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **settings: Any) -> Any:
        """As in torch; it does not matter which of the two networks was compiled."""
        own = {uncompiled(name): name for name in self.state_dict()}
        if any(uncompiled(name) != name for name in (*own.values(), *state_dict)):
            state_dict = {own.get(uncompiled(k), k): value for k, value in state_dict.items()}
        return super().load_state_dict(state_dict, *args, **settings)

    def set_calibration(self, calibration: Mapping[str, Any] | None) -> None:
        """Decide with the biases that a checkpoint carries as `calibration`, or without."""
        bias = None if calibration is None else torch.tensor(calibration["logit_bias"])
        self.logit_bias = None if bias is None else bias.to(self.image_mean)

    def normalise(self, images: Tensor) -> Tensor:
        """Images (N, C_in, H, W) with values in 0..255 as normalised floats, channels-last."""
        floats = images.to(dtype=self.image_mean.dtype, memory_format=torch.channels_last)
        return (floats - self.image_mean) / self.image_std

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C, H, W) of uint8 images (N, C_in, H, W).

        Raises:
            InputError: If the network does not take images of this size, or one image alone.
        """
        try:
            return network_logits(self.network, self.normalise(images), self.input_sizes)
        except _OF_A_NETWORK as error:
            if (fault := explained(self.network, images, error)) is None:
                raise
            raise fault from error

    @torch.no_grad()
    def labels(self, images: Tensor) -> Tensor:
        """Class ids (N, H, W), uint8, of uint8 images (N, C_in, H, W) of any size.

        A pixel with a logit that is NaN gets 255, which is no class.
        As `seg predict` decides, with the biases of `seg calibrate` where the checkpoint has them.
        """
        return labels(self.logits_of_size(images, None), self.logit_bias)

    def logits_of_size(self, images: Tensor, size: Sequence[int] | None) -> Tensor:
        """Logits (N, C, *size) of uint8 images (N, C_in, H, W) of any size; None leaves theirs.

        Raises:
            InputError: If the network does not take images of this size.
        """
        return self.low_logits(images, size).whole()

    def low_logits(self, images: Tensor, size: Sequence[int] | None) -> LowLogits:
        """As `logits_of_size`, not brought to that size yet."""
        target = None if size is None else (size[0], size[1])
        network, sizes = self.network, self.input_sizes
        try:
            return low_logits(network, self.normalise(images), target, sizes)
        except _OF_A_NETWORK as error:
            if (fault := explained(network, images, error)) is None:
                raise
            raise fault from error

    def labels_of_sizes(self, images: Tensor, sizes: Tensor) -> list[Tensor]:
        """Class ids of each of the images (N, C_in, H, W) at its own size, a row of (N, 2)."""
        low, wanted = self.low_logits(images, None), sizes.tolist()
        if all(tuple(size) == low.size for size in wanted):
            return list(labels_of(low, self.logit_bias))
        pairs = zip(torch.split(low.whole(), 1), wanted, strict=True)
        whole = [resized(one, (h, w)) for one, (h, w) in pairs]
        return [labels(one, self.logit_bias)[0] for one in whole]


def uncompiled(name: str) -> str:
    """The name of a tensor without what `torch.compile` puts into it."""
    return name.replace(f"{COMPILED}.", "")
