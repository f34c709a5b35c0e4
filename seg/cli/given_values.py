"""What the arguments of a command say of an option, before any parser reads them."""

import logging
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from lightning_utilities.core.rank_zero import rank_zero_only

log = logging.getLogger(__name__)

ROOT = "SEG_DATA_ROOT"
"""Names the variable of the environment that stands for `--data.root`."""


def root_from_environment(
    args: Sequence[str], stored: Mapping[str, Any] | None = None
) -> list[str]:
    """`--data.root` as the environment has it, where the arguments name no data; else nothing.

    Args:
        args: Of the command. A flag or a line of a YAML, also `root: null`, is stronger.
        stored: The data of a checkpoint. Its root is weaker; where it has none, as for generated
            images, no other data could take their place.
    """
    root = os.environ.get(ROOT)
    if not root or any(_said(args, f"data.{key}") for key in ("root", "dataset")):
        return []
    if stored is not None and stored.get("root") is None:
        return []
    if getattr(rank_zero_only, "rank", 0) == 0:
        log.info("data.root %s, from %s", root, ROOT)
    return [f"--data.root={root}"]


def given_values(args: Sequence[str], key: str) -> list[str]:
    """The values given for an option, in configuration files first, on the command line last."""
    return [value for value in _said(args, key) if value not in ("", "null")]


def _said(args: Sequence[str], key: str) -> list[str]:
    """As `given_values`, with what is set to nothing."""
    found: list[str] = []
    flags: list[str] = []
    for i, arg in enumerate(args):
        name, has_value, value = arg.partition("=")
        if not has_value and i + 1 < len(args):
            value = args[i + 1]
        if name in ("-c", "--config"):
            found += _value_in(value, key)
        elif name in (f"--{key}", f"--{key}+"):
            flags.append(value)
    return [*found, *flags]


@lru_cache(maxsize=16)
def _content(text: str) -> Any:
    """What a YAML says; it is asked for several keys."""
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _value_in(config: str, key: str) -> list[str]:
    """What a configuration, a file or the YAML itself, has for a key."""
    try:
        value = _content(
            Path(config).read_text(encoding="utf-8") if os.path.isfile(config) else config
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []  # the parser says what is wrong with it
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return []
        value = value[part]
    return ["null" if value is None else str(value)]
