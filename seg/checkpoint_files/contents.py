"""What a checkpoint holds, and the configuration of its run."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch

from seg.checkpoint_files.stored_config import OF_THE_RUN, check_config
from seg.errors import InputError


def read_config(
    path: str | Path, trust: str | Sequence[str] = (), without: Collection[str] = ()
) -> dict[str, Any]:
    """The configuration of the run that wrote the checkpoint, in primitives.

    Weights are not asked for anew: names of pretrained weights are taken out of it.

    Args:
        path: A local checkpoint file.
        trust: Further packages whose classes the configuration may name.
        without: Keys of its `model` that are not wanted, and so not checked.

    Raises:
        InputError: If there is no such file, it holds more than tensors and primitives, it was not
            written by a run of `seg`, or it names what is not trusted.
    """
    config = read_checkpoint(path).get("config")
    if not isinstance(config, dict):
        raise InputError(f"{path}: carries no configuration; expected a checkpoint of `seg fit`.")
    config = {key: value for key, value in config.items() if key not in OF_THE_RUN}
    model = config.get("model")
    if isinstance(model, dict):
        config["model"] = model = {k: v for k, v in model.items() if k not in without}
    packages = [trust] if isinstance(trust, str) else trust
    check_config(str(path), config, packages, needs_network="network" not in without)
    config["model"].update({k: None for k in ("encoder_weights", "init_from") if k not in without})
    init_args = config["model"].get("network", {}).get("init_args", {})
    if "encoder_weights" in init_args:
        init_args["encoder_weights"] = None
    return config


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """All that a checkpoint holds, its tensors mapped, not read.

    Raises:
        InputError: If there is no such file, or it holds more than tensors and primitives.
    """
    if "://" in str(path):
        raise InputError(f"{path}: a checkpoint must be a local file; download it first.")
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; give the path of a .ckpt file.")
    if not is_zipfile(path):
        raise InputError(
            f"{path}: not a checkpoint that can be read safely: expected a whole .ckpt file of "
            "`seg fit`; this is another file, or its end is missing."
        )
    try:
        # mapped, not read: the tensors of a large checkpoint stay on disk
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise InputError(f"{path}: not a checkpoint that can be read safely: {error}") from error
    return checkpoint if isinstance(checkpoint, dict) else {}
