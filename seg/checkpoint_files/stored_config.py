"""The configuration that a checkpoint carries: data, which names classes and never runs code.

The parser of the command line imports any string where a class may stand, reads YAML within strings
and files by their names. So what comes from a checkpoint is checked before the parser sees it: each
string that would be more than a plain value must name a class of a known package and of a kind that
networks, losses and trainers are made of.
"""

import inspect
import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import lightning as L
import yaml
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset, Sampler

from seg.errors import InputError

TRUSTED = ("seg", "torch", "lightning", "segmentation_models_pytorch", "timm", "albumentations")
"""Packages whose classes a checkpoint may name."""

KINDS = (
    *(nn.Module, Optimizer, LRScheduler, Dataset, Sampler),
    *(L.Callback, Logger, Profiler, Strategy, Accelerator),
    *(Precision, CheckpointIO, ClusterEnvironment, LayerSync),
)
"""What a checkpoint may name a class of."""

_DATA = ("root", "images", "masks", "split_files", "class_names", "predict")
_SPLITS = ("train_split", "val_split", "test_split")
_TEXT = {
    *("name", "model.class_names", "trainer.default_root_dir"),
    *("model.encoder_weights", "model.init_from"),  # files that a run started from
    *(f"checkpoint.{key}" for key in ("dirpath", "filename", "monitor")),
    *(f"data.{key}" for key in (*_DATA, *_SPLITS)),
}
"""Keys that take nothing but text: paths and names of the user's own."""

_CLASSES = {
    *("class_path", "network", "loss", "optimizer", "lr_scheduler", "dataset", "sampler"),
    *("callbacks", "logger", "profiler", "plugins", "strategy", "accelerator"),
}
"""Last names of keys whose dotted text is always the name of a class."""

_MOST = 2**18
"""Bytes of a file of text that is looked into."""

_SECTIONS = ("model", "data", "trainer", "checkpoint")


class _Value(NamedTuple):
    """A value of the configuration and the keys that lead to it."""

    key: str
    value: Any


def check_config(
    path: str, config: dict[str, Any], trust: Sequence[str], needs_network: bool = True
) -> None:
    """Refuse a configuration that the parser would take for more than plain values and classes.

    Args:
        path: The checkpoint, for the message.
        config: The configuration that it carries.
        trust: Further packages whose classes and functions it may name.
        needs_network: Whether it must name a network.

    Raises:
        InputError: Names the key, the value and, where that would help, `--trust`.
    """
    for section in _SECTIONS:
        if not isinstance(config.get(section, {}), dict):
            raise InputError(f"{path}: {section} is no mapping; the checkpoint was not written so.")
    network = config.get("model", {}).get("network")
    named = isinstance(network, dict) and isinstance(network.get("class_path"), str)
    if needs_network and not named:
        raise InputError(f"{path}: names no network; expected a checkpoint of `seg fit`.")
    for key, value in _values(config):
        fault = _fault(key, value, trust)
        if fault is not None:
            raise InputError(f"{path}: {key} {fault}")


def _values(value: Any, key: str = "") -> Iterator[_Value]:
    """All keys and all values that hold no others, by the keys that lead to them."""
    if isinstance(value, dict):
        for name, inner in value.items():
            inside = f"{key}.{name}" if key else str(name)
            yield _Value(key or "the configuration", _Key(name))
            yield from _values(inner, inside)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _values(inner, key)
    else:
        yield _Value(key, value)


class _Key(NamedTuple):
    """A key of a mapping, as the value to be checked."""

    name: Any


def _fault(key: str, value: Any, trust: Sequence[str]) -> str | None:
    """What is wrong with a value; None if nothing is."""
    if isinstance(value, _Key):
        name = value.name
        plain = isinstance(name, str | int) and "." not in str(name) and "+" not in str(name)
        return None if plain else f"has the key {name!r}, which the parser would take apart."
    if value is None or isinstance(value, bool | int | float):
        return None
    if not isinstance(value, str):
        return f"holds a {type(value).__name__}; expected text, numbers, lists and mappings."
    return None if key in _TEXT else _fault_of_text(key, value, trust)


def _fault_of_text(key: str, text: str, trust: Sequence[str]) -> str | None:
    try:
        read = yaml.safe_load(text)
    except yaml.YAMLError:
        read = text
    if isinstance(read, dict | list) and _names_something(read):
        return f"holds {text!r}: YAML within a text, which the parser would read."
    if os.path.isfile(text) and _fault_of_file(key, text, trust):
        return (
            f"holds {text!r}: the name of a file of text, which the parser would read, and which "
            "is large or names classes; move it, and give its new name as an option."
        )
    if not isinstance(read, str):
        return None
    package, _, rest = read.partition(".")
    if package in trust or not rest or not all(part.isidentifier() for part in read.split(".")):
        return None
    wants_class = key.rpartition(".")[2] in _CLASSES
    return _fault_of_class(read, package) if wants_class or _is_package(package) else None


def _fault_of_file(key: str, path: str, trust: Sequence[str]) -> bool:
    """Whether a file, if the parser read it, would be more than plain values, or is too large."""
    with open(path, "rb") as file:
        content = file.read(_MOST + 1)
    if b"\0" in content or len(content) > _MOST:
        return b"\0" not in content  # else it is no text, which the parser cannot read either
    try:
        read = yaml.safe_load(content.decode())
    except (UnicodeDecodeError, yaml.YAMLError):
        return False
    if isinstance(read, dict | list):
        return _names_something(read)
    text = str(read)
    return os.path.isfile(text) or _fault_of_text(key, text, trust) is not None


def _names_something(read: dict[Any, Any] | list[Any]) -> bool:
    """Whether YAML within a text is more than plain values, as `{step}` of a file name is not."""
    keys = [value.name for _, value in _values(read) if isinstance(value, _Key)]
    return "class_path" in keys or any(_fault("", value, ()) for _, value in _values(read))


def _fault_of_class(name: str, package: str) -> str | None:
    if package not in TRUSTED:
        return (
            f"names {name}, which is outside {', '.join(TRUSTED)}; if you trust it, add "
            f"--trust {package}, or trust={package!r} in Python."
        )
    found = _resolved(name)
    if found is None:
        return f"names {name}, which does not exist here; it may be of another version."
    own = getattr(found, "__module__", "") or ""
    if inspect.isclass(found) and own.partition(".")[0] in TRUSTED and issubclass(found, KINDS):
        return None
    if inspect.isclass(found) and own.startswith("seg.data."):
        return None
    return f"names {name}, which is no network, loss, optimiser, schedule or part of a trainer."


def _resolved(name: str) -> Any:
    """What a dotted name of a known package stands for; None if there is no such thing."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            found = getattr(found, part, None)
        return found
    return None


def _is_package(name: str) -> bool:
    """Whether an import of that name would find anything; nothing is imported."""
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False
