"""Encoders of smp and timm by name, and what their weights expect of images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

import timm
from huggingface_hub.errors import LocalEntryNotFoundError
from segmentation_models_pytorch.encoders import encoders, get_preprocessing_params
from torch import nn

from seg.errors import InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalisation(network: nn.Module, channels: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation, one a channel, that the encoder was pretrained with.

    A timm encoder says so itself; every other one is taken for ImageNet's. Where `channels` is not
    three they repeat in turn, as a pretrained stem does.

    Args:
        network: A network, with an `encoder` or without.
        channels: Number of channels of the images.

    Returns:
        Mean and standard deviation of pixel values in [0, 1].
    """
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    name = getattr(getattr(network, "encoder", None), "name", None)
    if isinstance(name, str):
        settings = timm.get_pretrained_cfg(name, allow_unregistered=True)
        if settings is not None:
            mean, std = settings.mean, settings.std
    return _repeated(mean, channels), _repeated(std, channels)


def hub_normalisation(
    encoder_name: str, encoder_weights: str, channels: int
) -> tuple[list[float], list[float]] | None:
    """Mean and standard deviation that smp states for weights on the hub, one a channel.

    Args:
        encoder_name: Name of an encoder, such as resnet34.
        encoder_weights: Name of its weights on the hub, such as imagenet.
        channels: Number of channels of the images.

    Returns:
        Mean and standard deviation, or None for an encoder that smp does not know.

    Raises:
        InputError: If smp knows no such weights of the encoder, or the hub cannot be reached.
    """
    if not is_encoder(encoder_name):
        return None
    try:
        with hub_in_one_line():
            settings = get_preprocessing_params(encoder_name, encoder_weights)
    except ValueError as error:
        raise InputError(
            f"encoder_weights {encoder_weights} of {encoder_name}: {error}; choose one of them, "
            "or set it to null."
        ) from error
    return _repeated(settings["mean"], channels), _repeated(settings["std"], channels)


def _repeated(values: Sequence[float], channels: int) -> list[float]:
    return [float(values[i % len(values)]) for i in range(channels)]


def is_encoder(name: str) -> bool:
    """Whether smp, or for `tu-` names timm, has an encoder of that name."""
    if name.startswith("tu-"):
        return ":" in name or timm.is_model(name.removeprefix("tu-"))
    return name in encoders or name.startswith("timm-")


def check_encoder(name: str | None) -> None:
    """Refuse the name of an encoder that smp does not have, with names that are like it.

    Args:
        name: As in `encoder_name` of a network of smp; None where it takes none.

    Raises:
        InputError: If there is no such encoder.
    """
    if name is not None and not is_encoder(name):
        known = [*encoders, *(f"tu-{model}" for model in timm.list_models())]
        close = get_close_matches(name, known) or ["resnet18", "tu-convnext_tiny"]
        raise InputError(
            f"model.network.init_args.encoder_name {name}: smp has no such encoder; names like it "
            f"are {', '.join(close)}. Those of timm begin with tu-."
        )


@contextmanager
def hub_in_one_line() -> Iterator[None]:
    """Says what to do where weights are to be fetched and the hub cannot be reached.

    Raises:
        InputError: In place of what the hub's client raises.
    """
    try:
        yield
    except LocalEntryNotFoundError as error:
        raise InputError(
            "pretrained weights: the hub cannot be reached, and they have not been fetched before; "
            "give a local file as model.encoder_weights, or set "
            "model.network.init_args.encoder_weights to null."
        ) from error
