"""Training and judging of semantic segmentation networks on class-imbalanced data."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from seg.module import SegmentationModule

try:
    __version__ = version("seg")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"


def load(
    path: str | Path,
    device: "str | torch.device | None" = None,
    trust: str | Sequence[str] = (),
) -> "SegmentationModule":
    """The trained module of a checkpoint of `seg fit`, in eval mode; no code of it is run.

    `load(path).labels(images)` is what `seg predict` decides, with the checkpoint's normalisation
    and biases; `class_names` and `class_colors` say what the ids are.

    Args:
        path: A local checkpoint file.
        device: Where it computes, such as cuda. Left out, the CPU.
        trust: Further packages whose classes the checkpoint may name, such as your own.

    Raises:
        seg.errors.InputError: If the file is no such checkpoint, it names what is not trusted, a
            weight is not finite, or there is no such device.
    """
    from seg.lifecycle.checkpoint import load_module  # here, so that `import seg` loads no torch

    return load_module(path, trust, "cpu" if device is None else device)
