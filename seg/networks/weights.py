"""Weights from files: what of them fits a network is taken, what does not is said."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, product, takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from seg.checkpoint_files.classes import warn_of_other_names
from seg.errors import InputError
from seg.inference.pixel_classifier import uncompiled

log = logging.getLogger(__name__)

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
_WRAPPERS = {"module", "model", "net", "network", "encoder", "backbone"}
"""Names of attributes that wrap a network or an encoder, and so begin the names of its tensors."""
_NESTED = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")
"""Keys of a file under which training programs keep the tensors, the first found is taken."""


def is_weight_file(encoder_weights: str) -> bool:
    """Whether `encoder_weights` names a file rather than a set of weights on the hub."""
    return encoder_weights.endswith(WEIGHT_SUFFIXES)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors by name from a `.safetensors` file or a pickle-free `.pth`, `.pt` or `.ckpt` file.

    Names are those of the network as it was before `torch.compile`.

    Raises:
        InputError: If there is no such file, or it holds anything but tensors by name.
    """
    return _named_tensors(_read(path), path)


def _read(path: str | Path) -> Any:
    """All that a file holds."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such weights file; give a .safetensors or .pth file.")
    try:
        if str(path).endswith(".safetensors"):
            return load_file(path, device="cpu")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{path}: cannot be read as weights without running code: {first}; give a .safetensors "
            "file, or a state_dict written by torch.save."
        ) from error


def _named_tensors(content: Any, path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file's content."""
    content = _inner(content, path)
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path}: holds a {type(content).__name__}; expected a state_dict, tensors by name."
        )
    named = {k: v for k, v in content.items() if isinstance(v, Tensor) and isinstance(k, str)}
    if not named:
        raise InputError(f"{path}: holds no tensors by name; expected a state_dict.")
    return {uncompiled(name): tensor for name, tensor in named.items()}


def _inner(content: Any, path: str | Path) -> Any:
    """The mapping of tensors within the mappings of a training program's file."""
    while isinstance(content, Mapping):
        keys = [key for key in _NESTED if isinstance(content.get(key), Mapping)]
        if not keys:
            break
        if len(keys) > 1:
            log.info("%s: of %s, %s is taken.", path, " and ".join(keys), keys[0])
        content = content[keys[0]]
    return content


def load_encoder_weights(network: nn.Module, path: str | Path) -> None:
    """Fill the encoder of `network` from a local file and log what did not fit.

    Names may carry the usual prefixes (`module.`, `encoder.`, …); a stem of another number of
    input channels is adapted by repeating its channels, scaled to keep the response.

    Args:
        network: A network with an `encoder`.
        path: A `.safetensors` or `.pth` file, keys as in the encoder, smp or timm.

    Raises:
        InputError: If the network has no encoder, or nothing in the file fits it.
    """
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise InputError(
            f"{path}: {type(network).__name__} has no encoder to take weights; "
            "leave model.encoder_weights out or use a network with an encoder."
        )
    _load(encoder, read_weights(path), f"encoder weights {path}")


def load_network_weights(
    network: nn.Module, path: str | Path, class_names: Sequence[str] | None = None
) -> None:
    """Fill `network` from another run's checkpoint and log the tensors that were not taken.

    A head of another number of classes keeps its fresh initialisation. Of one of as many classes
    of other names, a warning says so.

    Args:
        network: The network.
        path: The checkpoint.
        class_names: Names of the network's classes, if known.

    Raises:
        InputError: If nothing in the checkpoint fits.
    """
    content = _read(path)
    stored = content.get("class_names") if isinstance(content, Mapping) else None
    if class_names is not None and isinstance(stored, list):
        warn_of_other_names(f"init_from {path}", stored, class_names)
    weights = {
        name.removeprefix("network."): tensor
        for name, tensor in _named_tensors(content, path).items()
        if not name.startswith(("loss.", "image_"))
    }
    _load(network, weights, f"init_from {path}")


def _load(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    own = {uncompiled(name): name for name in module.state_dict()}
    target = {uncompiled(name): tensor for name, tensor in module.state_dict().items()}
    renamed = max(
        (_rename(weights, rename) for rename in _renamings(weights)),
        key=lambda candidate: len(_fitting(candidate, target)),
    )
    taken = _fitting(renamed, target)
    if not any(tensor.is_floating_point() for tensor in taken.values()):
        raise InputError(
            f"{source}: none of its {len(weights)} tensors fits {type(module).__name__} "
            f"(its first: {next(iter(weights), None)}; expected such as {next(iter(target))}); "
            "check that the file belongs to this architecture."
        )
    module.load_state_dict({own[name]: x for name, x in taken.items()}, strict=False)
    fresh = [f"{k} {tuple(target[k].shape)}" for k in target if k not in taken]
    unused = [f"{k} {tuple(renamed[k].shape)}" for k in renamed if k not in taken]
    log.info("%s: took %d of %d tensors.", source, len(taken), len(target))
    if fresh:
        log.info("  Not in it, or of another shape; made anew: %s", some(fresh))
    if unused:
        log.info("  Not taken from it: %s", some(unused))


def some(names: Sequence[str], most: int = 20) -> str:
    """The first of the names, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _renamings(names: Iterable[str]) -> list[Callable[[str], str]]:
    """The ways in which names of the same tensors are known to differ."""

    def renaming(strip: str, add: str, joint: str) -> Callable[[str], str]:
        return lambda name: add + name.removeprefix(strip).replace("stages.", joint)

    # timm's feature extractors write stages_0 where its classifiers write stages.0
    choices = product(_prefixes(names), ("", "model.", "encoder."), ("stages.", "stages_"))
    return [renaming(*choice) for choice in choices]


def _prefixes(names: Iterable[str]) -> list[str]:
    """What the names may begin with that is no part of the network itself, shortest first."""
    found = {""}
    for name in names:
        wrappers = takewhile(_WRAPPERS.__contains__, name.split(".")[:-1])
        found |= set(accumulate(f"{wrapper}." for wrapper in wrappers))
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def _rename(weights: Mapping[str, Tensor], rename: Callable[[str], str]) -> dict[str, Tensor]:
    return {rename(name): tensor for name, tensor in weights.items()}


def _fitting(weights: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    fits = {}
    for name, tensor in weights.items():
        if name in target:
            tensor = _adapt_stem(tensor, target[name])
            if tensor.shape == target[name].shape:
                fits[name] = tensor
    return fits


def _adapt_stem(weight: Tensor, target: Tensor) -> Tensor:
    """Repeat the channels of a three-channel stem (O, 3, k, k) to (O, C, k, k), scaled by 3 / C."""
    if weight.ndim != 4 or weight.shape[1] != 3 or target.ndim != 4:
        return weight
    channels = target.shape[1]
    if channels == 3 or weight.shape[0] != target.shape[0]:
        return weight
    return weight[:, torch.arange(channels) % 3] * (3 / channels)
