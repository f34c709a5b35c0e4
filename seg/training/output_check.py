"""What a network makes of one image, tried on a copy of it before the first step."""

import copy
import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seg.errors import InputError
from seg.inference.input_sizes import InputSizes, logits_of
from seg.lightning_compat.torch_names import before_compile
from seg.losses import SegmentationLoss
from seg.networks import some

log = logging.getLogger(__name__)

_BOUNDED = ("Softmax", "Sigmoid", "Tanh")
_KEEPS_VALUES = (
    *("View", "UnsafeView", "Clone", "ToCopy", "Permute", "Transpose", "Slice", "Squeeze"),
    *("Unsqueeze", "Alias", "UpsampleBilinear2D", "UpsampleNearest2D"),
)


class Output(NamedTuple):
    """What came out of a network for one image."""

    seen: tuple[int, ...]  # shape of the image, as it was made to fit the network
    shape: tuple[int, ...]  # of its logits, before they are brought to the image's size
    dtype: torch.dtype
    outputs: int  # of outputs, of which the first is the logits
    activation: str | None  # softmax, sigmoid or tanh, where that is what the logits come from
    unused: list[str]  # names of parameters that the logits do not depend on


def check_output(module: Any, crop_size: tuple[int, int] | None) -> list[str]:
    """Refuse a network whose output is no logits of the classes, one for each pixel.

    Args:
        module: A SegmentationModule.
        crop_size: Height and width of the crops; None where they are not known.

    Returns:
        Names of the parameters that the logits do not depend on.
    """
    network, sizes, class_names = module.network, module.input_sizes, module.class_names
    height, width = crop_size or (-(-64 // sizes.stride) * sizes.stride,) * 2
    images = module.image_mean.new_zeros(1, module.in_channels, height, width)
    try:
        found = output_of(network, images, sizes)
    except InputError:
        if crop_size is None:  # other sizes may do
            return []
        raise
    _check_logits(found, module.loss, class_names, type(network).__name__, (height, width))
    if found.outputs > 1 and found.unused:
        log.info(
            "model.network: %s gives %d outputs, of which the first is trained and used. Unused: "
            "%s.",
            *(type(network).__name__, found.outputs, some(found.unused)),
        )
    elif found.unused:
        log.info("model.network: nothing depends on %s.", some(found.unused))
    return found.unused


def _check_logits(
    found: Output, loss: SegmentationLoss, class_names: list[str], name: str, size: tuple[int, int]
) -> None:
    channels = loss.channels(len(class_names))
    fits = len(found.shape) == 4 and found.shape[1] == channels and _is_whole(found)
    if not fits or not found.dtype.is_floating_point:
        kind = "" if found.dtype.is_floating_point else f" of {found.dtype}"
        raise InputError(
            f"model.network: {name} turns an image of {size[0]} x {size[1]} into "
            f"{found.shape}{kind}; expected logits (1, {channels}, {size[0]}, {size[1]}), or of a "
            f"lower resolution, for the {len(class_names)} classes {class_names} and "
            f"{type(loss).__name__}. Set its number of output channels, and no activation, "
            "pooling or auxiliary output."
        )
    if found.activation is not None:
        raise InputError(
            f"model.network: {name} ends in a {found.activation}, but {type(loss).__name__} takes "
            "logits, which have no bounds; leave that layer out, with smp by "
            "model.network.init_args.activation null."
        )


def _is_whole(found: Output) -> bool:
    """Whether the logits cover the image: at its resolution or at half of it and less.

    Of an image of 64 a convolution without padding leaves 62, which is a part of it, and pooling 1.
    """
    pairs = list(zip(found.shape[2:], found.seen[2:], strict=True))
    pooled = found.shape[2:] == (1, 1) and max(found.seen[2:]) > 32
    return not pooled and all(out == side or out <= -(-side // 2) for out, side in pairs)


def output_of(network: nn.Module, images: Tensor, sizes: InputSizes) -> Output:
    """What the network, in eval mode, makes of images; it stays as it is.

    It is tried without values on the meta device, which costs next to nothing, and with values
    where an operation needs these.

    Args:
        network: Any.
        images: Normalised images (N, C_in, H, W).
        sizes: What sizes it takes.

    Raises:
        InputError: If it fails on these images.
    """
    network = before_compile(network)
    with _no_trace(network):
        try:
            return _output(_copy(network, "meta"), images.to("meta"), sizes)
        except Exception:  # of any kind: an operation without a shape of its own, a lookup by value
            log.debug("%s runs with values only.", type(network).__name__, exc_info=True)
        try:
            return _output(_copy(network, None), images, sizes)
        except InputError:
            raise
        except Exception as error:
            height, width = images.shape[-2:]
            place = traceback.extract_tb(error.__traceback__)[-1]
            first = str(error).strip().partition("\n")[0].rstrip(".")
            raise InputError(
                f"model.network: {type(network).__name__} fails on an image of {height} x {width}: "
                f"{type(error).__name__}: {first} ({place.filename}:{place.lineno}). Set "
                "data.crop_size, model.input_stride or model.input_size to what it takes."
            ) from error


@contextmanager
def _no_trace(network: nn.Module) -> Iterator[None]:
    """Leaves modes and random numbers as they were, and keeps quiet."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        with (
            warnings.catch_warnings(),
            torch.random.fork_rng([]),
            torch.compiler.set_stance("force_eager"),
            torch.enable_grad(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _copy(network: nn.Module, device: str | None) -> nn.Module:
    """The network with parameters of its own on a device, or with the same ones.

    A network that cannot be copied is given itself.
    """
    memo: dict[int, Tensor] = {id(p): p for p in network.parameters()}
    if device is not None:
        memo = {id(p): _empty(p, device) for p in network.parameters()}
        memo |= {id(b): torch.empty_like(b, device=device) for b in network.buffers()}
    try:
        return copy.deepcopy(network, memo).eval()
    except Exception:
        if device is not None:
            raise
        return network.eval()


def _empty(parameter: nn.Parameter, device: str) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(parameter, device=device), parameter.requires_grad)


def _output(network: nn.Module, images: Tensor, sizes: InputSizes) -> Output:
    fitted = sizes.fit(images)
    found = network(fitted)
    logits = logits_of(found)
    return Output(
        seen=tuple(fitted.shape),
        shape=tuple(logits.shape),
        dtype=logits.dtype,
        outputs=len(found) if isinstance(found, tuple | list | dict) else 1,
        activation=_activation(logits),
        unused=_unused(network, logits),
    )


def _activation(logits: Tensor) -> str | None:
    """What bounds the values of the logits: the operation that they are made by."""
    node = logits.grad_fn
    while node is not None:
        name = node.name().partition("Backward")[0]
        if name in _BOUNDED:
            return name.lower()
        if name not in _KEEPS_VALUES:
            return None
        node = node.next_functions[0][0]
    return None


def _unused(network: nn.Module, logits: Tensor) -> list[str]:
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    if not logits.requires_grad or not named:
        return []
    total = logits.sum()
    gradients = torch.autograd.grad(total, [p for _, p in named], allow_unused=True)
    return [name for (name, _), gradient in zip(named, gradients, strict=True) if gradient is None]
