"""The configuration that a checkpoint carries: data, which names classes and never runs code.

The parser of the command line imports any string where a class may stand, reads YAML within strings
and files by their names. So what comes from a checkpoint is checked before the parser sees it: each
string that would be more than a plain value must name a class of a known package and of a kind that
networks, losses and trainers are made of.
"""

import inspect
import os
from codecs import getincrementaldecoder
from collections.abc import Container, Iterator
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
OF_THE_RUN = ("ckpt_path", "config", "weights_only", "trust")
"""Keys of one run, which the parser of no other is given."""

_OF_A_CLASS = {"class_path", "init_args", "dict_kwargs"}


class _Value(NamedTuple):
    """A value of the configuration and the keys that lead to it."""

    key: str
    value: Any


def check_config(
    path: str, config: dict[str, Any], trust: Container[str], needs_network: bool = True
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
    for fault in _faults(config, trust):
        raise InputError(f"{path}: {fault}")


def check_own_config(config: dict[str, Any]) -> None:
    """Refuse a run whose checkpoints could not be read again, before it begins.

    Args:
        config: The configuration that they would carry. It may name packages of the user's own,
            which `--trust` names when a checkpoint is read.

    Raises:
        InputError: Names the key and the value.
    """
    for fault in _faults(config, _AllOthers()):
        raise InputError(f"{fault} No checkpoint of this run could be read again; change it.")


class _AllOthers(Container[str]):
    """All packages but those whose classes may be named without trust, and so are looked at."""

    def __contains__(self, package: object) -> bool:
        return package not in TRUSTED


def _faults(config: dict[str, Any], trust: Container[str]) -> Iterator[str]:
    """What is wrong with a configuration, a sentence for each key."""
    for key, value in _values({k: v for k, v in config.items() if k not in OF_THE_RUN}):
        fault = _fault(key, value, trust)
        if fault is not None:
            yield f"{key} {fault}"


def _values(value: Any, key: str = "", last: str = "") -> Iterator[_Value]:
    """All keys and all values that hold no others, by the keys that lead to them.

    Keys of text are left out where they are no arguments of a class: no parser takes them apart.
    """
    if isinstance(value, dict):
        is_argument = "." in key and last not in _CLASSES | _OF_A_CLASS and _names_no_class(value)
        for name, inner in value.items():
            inside = f"{key}.{name}" if key else str(name)
            if not (is_argument and isinstance(name, str)):
                yield _Value(key or "the configuration", _Key(name))
            yield from _values(inner, inside, str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _values(inner, key, last)
    else:
        yield _Value(key, value)


def _names_no_class(mapping: dict[Any, Any]) -> bool:
    """Whether neither a class nor arguments of one are in a mapping and in those within it."""
    parts = {part for name in mapping for part in str(name).rstrip("+").split(".")}
    inner = [value for value in mapping.values() if isinstance(value, dict)]
    return not parts & (_CLASSES | _OF_A_CLASS) and all(_names_no_class(value) for value in inner)


class _Key(NamedTuple):
    """A key of a mapping, as the value to be checked."""

    name: Any


def _fault(key: str, value: Any, trust: Container[str]) -> str | None:
    """What is wrong with a value; None if nothing is."""
    if isinstance(value, _Key):
        name = value.name
        plain = isinstance(name, str | int) and "." not in str(name) and str(name)[-1:] != "+"
        return None if plain else f"has the key {name!r}, which the parser would take apart."
    if key.endswith(".class_path") and not (isinstance(value, str) and _is_dotted(value)):
        return f"is {value!r}: expected the dotted name of a class, such as torch.nn.Conv2d."
    if value is None or isinstance(value, bool | int | float):
        return None
    if not isinstance(value, str):
        return f"holds a {type(value).__name__}; expected text, numbers, lists and mappings."
    return None if key in _TEXT else _fault_of_text(key, value, trust)


def _fault_of_text(key: str, text: str, trust: Container[str]) -> str | None:
    read = _as_yaml(text)
    if isinstance(read, dict | list) and _names_something(read):
        return f"holds {text!r}: YAML within a text, which the parser would read."
    if _is_read(key, text, trust):
        return (
            f"holds {text!r}: the name of a file of text, which the parser would read, and which "
            "is large or names classes; move it, and give its new name as an option."
        )
    return _fault_of_name(key, read, trust) if isinstance(read, str) else None


def _fault_of_name(key: str, name: str, trust: Container[str]) -> str | None:
    package = name.partition(".")[0]
    if package in trust or not _is_dotted(name):
        return None
    wants_class = key.rpartition(".")[2] in _CLASSES
    return _fault_of_class(name, package) if wants_class or _is_package(package) else None


def _is_dotted(name: str) -> bool:
    """Whether text may stand for something in a package."""
    return "." in name and all(part.isidentifier() for part in name.split("."))


def _as_yaml(text: str) -> Any:
    """What YAML makes of a text; the text itself where it is none."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # of 2026-13-13, which is no date
        return text


def _is_read(key: str, name: str, trust: Container[str]) -> bool:
    """Whether a text names a file in which the parser could find more than plain values."""
    name = os.path.expanduser(name)
    if not os.path.isfile(name):
        return os.path.exists(name) and not os.path.isdir(name)  # a pipe is read as well
    try:
        with open(name, "rb") as file:
            content = file.read(_MOST + 1)
        text = getincrementaldecoder("utf-8")().decode(content)  # the last letter may be cut
    except (OSError, UnicodeDecodeError):
        return False
    if "\0" in text or len(content) > _MOST:
        return "\0" not in text  # else it is no text, which the parser cannot read either
    read = _as_yaml(text)
    if isinstance(read, dict | list):
        return _names_something(read)
    return os.path.isfile(str(read)) or _fault_of_name(key, str(read), trust) is not None


def _names_something(read: dict[Any, Any] | list[Any]) -> bool:
    """Whether YAML within a text is more than plain values, as `{step}` of a file name is not."""
    try:
        values = list(_values(read))
    except RecursionError:  # of a list that is within itself
        return True
    keys = [value.name for _, value in values if isinstance(value, _Key)]
    return "class_path" in keys or any(_fault("", value, ()) for _, value in values)


def _fault_of_class(name: str, package: str) -> str | None:
    if package not in TRUSTED:
        return (
            f"names {name}, which is outside {', '.join(TRUSTED)}; if you trust it, add "
            f"--trust {package}, or trust={package!r} in Python."
        )
    try:
        found = _resolved(name)
    except Exception as error:  # of a package that is broken here
        reason = str(error).strip().partition("\n")[0]
        kind = type(error).__name__
        return f"names {name}, whose import ends in {kind}: {reason}; mend its installation."
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
