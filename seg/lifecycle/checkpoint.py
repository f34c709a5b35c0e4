"""What a checkpoint says of its run, read without running any code from it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser

from seg.errors import InputError
from seg.lifecycle.stored_config import check_config
from seg.module import SegmentationModule
from seg.training.divergence import non_finite

_OF_THE_RUN = ("ckpt_path", "config", "weights_only", "trust")


def read_config(path: str, trust: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration of the run that wrote the checkpoint, in primitives.

    Weights are not asked for anew: names of pretrained weights are taken out of it.

    Args:
        path: A local checkpoint file.
        trust: Further packages whose classes the configuration may name.

    Raises:
        InputError: If there is no such file, it holds more than tensors and primitives, it was not
            written by a run of `seg`, or it names what is not trusted.
    """
    checkpoint = read_checkpoint(path)
    config = checkpoint.get("config")
    if not isinstance(config, dict):
        raise InputError(f"{path}: carries no configuration; expected a checkpoint of `seg fit`.")
    check_config(path, config, trust)
    config["model"].update(encoder_weights=None, init_from=None)
    init_args = config["model"]["network"].get("init_args", {})
    if "encoder_weights" in init_args:
        init_args["encoder_weights"] = None
    return {key: value for key, value in config.items() if key not in _OF_THE_RUN}


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """All that a checkpoint holds, its tensors mapped, not read.

    Raises:
        InputError: If there is no such file, or it holds more than tensors and primitives.
    """
    if "://" in str(path):
        raise InputError(f"{path}: a checkpoint must be a local file; download it first.")
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; give the path of a .ckpt file.")
    try:
        # mapped, not read: the tensors of a large checkpoint stay on disk
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise InputError(f"{path}: not a checkpoint that can be read safely: {error}") from error
    return checkpoint if isinstance(checkpoint, dict) else {}


def load_module(path: str, trust: Sequence[str] = ()) -> SegmentationModule:
    """The trained module of a checkpoint, in eval mode on the CPU.

    Args:
        path: A local checkpoint file.
        trust: Further packages whose classes the checkpoint may name.

    Raises:
        InputError: As `read_config`, and if a weight is not finite.
    """
    model = read_config(path, trust)["model"]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SegmentationModule, "model")
    module = parser.instantiate(parser.parse_object({"model": model})).model
    assert isinstance(module, SegmentationModule)
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(checkpoint["state_dict"])
    if bad := non_finite(module):
        raise InputError(f"{path}: weights are not finite, such as {bad[0]}; use an earlier one.")
    module.set_calibration(checkpoint.get("calibration"))
    return module.eval()


def run_folder(path: str) -> Path:
    """The folder of the run that a checkpoint belongs to."""
    folder = Path(path).resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder
