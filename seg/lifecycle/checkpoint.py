"""The trained module of a checkpoint, and the folder of its run."""

from collections.abc import Sequence
from pathlib import Path

import torch

from seg.errors import InputError
from seg.module import SegmentationModule
from seg.training.divergence import non_finite


def load_module(
    path: str | Path, trust: str | Sequence[str] = (), device: str | torch.device = "cpu"
) -> SegmentationModule:
    """The trained module of a checkpoint, in eval mode.

    Args:
        path: A local checkpoint file.
        trust: Further packages whose classes the checkpoint may name.
        device: Where it computes.

    Raises:
        InputError: As `SegmentationModule.load_from_checkpoint`, if a weight is not finite, or if
            there is no such device.
    """
    module = SegmentationModule.load_from_checkpoint(path, map_location="cpu", trust=trust)
    if bad := non_finite(module):
        raise InputError(f"{path}: weights are not finite, such as {bad[0]}; use an earlier one.")
    try:
        return module.to(device).eval()
    except (AssertionError, RuntimeError) as error:
        first = str(error).partition("\n")[0]
        raise InputError(f"device {device}: {first}; use another, such as cpu.") from error


def run_folder(path: str) -> Path:
    """The folder of the run that a checkpoint belongs to."""
    folder = Path(path).resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder
