"""The precision of a run: by its device, unless it was set."""

import logging
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator, XLAAccelerator

from seg.lightning_compat.torch_names import has_bf16_instructions, has_bf16_units

log = logging.getLogger(__name__)

FULL = "32-true"
_SHORT = {"64": "64-true", "32": FULL, "16": "16-mixed", "bf16": "bf16-mixed"}
_AVAILABLE: dict[str, Callable[[], bool]] = {
    "tpu": XLAAccelerator.is_available,
    "mps": MPSAccelerator.is_available,
    "cuda": CUDAAccelerator.is_available,
    "cpu": lambda: True,
}
"""Types of devices in the order in which Lightning takes them."""


def device_type(accelerator: Any) -> str:
    """What `trainer.accelerator` stands for here: cpu, cuda, mps, or a name that is none of these.

    Args:
        accelerator: A name, or the configuration of a class.
    """
    name = str(getattr(accelerator, "class_path", accelerator)).rpartition(".")[2].lower()
    name = name.removesuffix("accelerator")
    if name == "gpu":
        return "mps" if MPSAccelerator.is_available() else "cuda"
    if name in ("auto", "none"):
        return next(kind for kind, is_available in _AVAILABLE.items() if is_available())
    return name


def precision_of_device(device: str, devices: Any = "auto") -> tuple[str, str] | None:
    """The precision that a device trains fastest in, and what that device is.

    That of a GPU is bf16-mixed where all those that are used compute in bf16 (compute capability 8
    and ROCm), else 16-mixed. That of a CPU is bf16-mixed where it multiplies matrices in bf16
    (AVX-512 BF16, AMX), else 32-true. That of a Mac's GPU is 32-true: some of them only emulate
    bf16, and fp16 needs a scaler of gradients, which torch has there only of late.

    Args:
        device: As `device_type` gives it.
        devices: Those used, as for `trainer.devices`.

    Returns:
        None for a device that is not known, or is not there.
    """
    if device == "cpu":
        has_bf16 = has_bf16_units()
        return ("bf16-mixed", "a CPU with bf16") if has_bf16 else (FULL, "a CPU without bf16")
    if device == "mps":
        return FULL, "a Mac's GPU"
    if device != "cuda" or not CUDAAccelerator.is_available():
        return None
    try:
        indices = CUDAAccelerator.parse_devices(-1 if devices == "auto" else devices)
    except MisconfigurationException:  # which the Trainer tells
        return None
    if all(_computes_bf16(index) for index in indices or ()):
        return "bf16-mixed", "a GPU with bf16"
    return "16-mixed", "a GPU without bf16"


def _computes_bf16(index: int) -> bool:
    """Whether a GPU has bf16 in hardware; `torch.cuda.is_bf16_supported` asks the current alone."""
    return torch.version.hip is not None or torch.cuda.get_device_capability(index)[0] >= 8


def precision_of_evaluation(
    stored: Any, device: str, devices: Any = "auto"
) -> tuple[str, str | None]:
    """The precision to evaluate a checkpoint in: that of its run, else 32-true.

    So the figures are those of the run, on any machine. Where this one is slow at it or has no such
    numbers, 32-true is more exact, and the difference is one of rounding.

    Args:
        stored: What the run's configuration says; None of a run that was not told.
        device: As `device_type` gives it.
        devices: Those used, as for `trainer.devices`.

    Returns:
        The precision, and the run's where that is another.
    """
    precision = FULL if stored is None else _SHORT.get(str(stored), str(stored))
    if precision == FULL or _is_fit(precision, device, devices):
        return precision, None
    return FULL, precision


def _is_fit(precision: str, device: str, devices: Any) -> bool:
    """Whether a device evaluates in a precision at a usual speed."""
    bits = precision.partition("-")[0]
    if device == "cpu":
        return bits == "64" or (bits == "bf16" and has_fast_bf16())
    if device == "cuda" and bits == "bf16":
        return (precision_of_device(device, devices) or (precision,))[0] == "bf16-mixed"
    return device == "cuda"


def has_fast_bf16() -> bool:
    """Whether bf16 is computed by vector instructions on this processor, by oneDNN's rule.

    Without AVX-512, or bf16 on ARM, torch falls back to loops: on AVX2 a U-Net's step took ten
    times as long as in fp32.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return has_bf16_instructions()


def warn_of_slow_bf16(trainer: L.Trainer) -> None:
    """Say so where bf16 was asked of a processor that has no instructions for it."""
    precision = str(trainer.precision)
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if precision.startswith("bf16") and on_cpu and trainer.is_global_zero and not has_fast_bf16():
        log.warning(
            f"trainer.precision={precision}: this processor has no instructions for bf16, with "
            "which a step can take ten times as long as in fp32; set "
            "--trainer.precision 32-true."
        )
