"""A stand-in for Apple's GPU: tensors on "mps" that have values, and lack what torch has not there.

Each holds a tensor on the CPU. Float64, complex128 and every operation without an implementation
for MPS are refused, as on the real device; which these are, torch's own table of operations says.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torchgen
from lightning.fabric.accelerators.mps import MPSAccelerator
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("mps", 0)
_HIDDEN = torch.device("lazy", 0)
"""What torch's C++ takes the device for: one that it asks for no driver and no stream of."""

WIDE = (torch.float64, torch.complex128)

REFUSED = {"_assert_async", "_assert_async.msg", "bincount"}
"""More that is refused: assertions came to MPS late, and `bincount` waits for the largest value."""


@cache
def _table() -> dict[str, str]:
    path = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    entries = re.split(r"^- func: ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {entry.partition("(")[0]: entry for entry in entries}


@cache
def lacks(name: str) -> bool:
    """Whether an operation of torch, such as `add.Tensor`, has no implementation for MPS."""
    entry = _table().get(name, "")
    if found := re.search(r"structured_delegate: ([\w.]+)", entry):
        return lacks(found[1])
    keys = re.search(r"^  dispatch:\n((?:    .*\n)+)", entry, re.MULTILINE)
    absent = bool(keys) and "MPS" not in keys[1] and "Composite" not in keys[1]
    return absent or name in REFUSED


class OnGpu(torch.Tensor):
    """A tensor on "mps" with the values of one on the CPU."""

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnGpu":
        if held.dtype in WIDE:
            raise TypeError(
                f"Cannot convert a MPS Tensor to {held.dtype} as the MPS framework lacks it."
            )
        place = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        with torch.inference_mode(False):  # a tensor of Python that knows of it has no views
            return torch.Tensor._make_wrapper_subclass(
                cls, held.shape, **place, dtype=held.dtype, device=_HIDDEN
            )

    device = property(lambda self: GPU)  # type: ignore[assignment]
    is_mps = True

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"OnGpu({self.held})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:  # a file holds the values alone
        return self.detach().cpu().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        made = self.detach().clone().requires_grad_(self.requires_grad)
        if isinstance(self, nn.Parameter):
            made = nn.Parameter(made, self.requires_grad)
        memo[id(self)] = made
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner, meta, size, stride) -> "OnGpu":
        return OnGpu(inner["held"])

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None) -> Any:
        return dispatch(func, args, kwargs or {})


class AppleGpu(TorchDispatchMode):
    """Makes tensors on "mps" within it, and notes what was done there."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        kwargs = kwargs or {}
        if not any(map(_on_gpu, tree_leaves((args, kwargs)))):
            return func(*args, **kwargs)
        self.operations.add(func.name())
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:
                return func.decompose(*args, **kwargs)
        if func.namespace not in ("aten", "prim", "prims"):
            with self:  # what an operator of ours does inside is seen in turn
                key = torch._C.DispatchKey.CompositeExplicitAutograd
                return func._op_dk(key, *args, **kwargs)
        return dispatch(func, args, kwargs)


def _on_gpu(value: Any) -> bool:
    named = isinstance(value, torch.device) and value.type in (GPU.type, _HIDDEN.type)
    return named or isinstance(value, OnGpu)


def dispatch(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The result of an operation of which a tensor is on the GPU, or shall be."""
    if lacks(func.name().removeprefix("aten::")):
        raise NotImplementedError(f"The operator '{func}' is not currently implemented for MPS.")
    target = kwargs.get("device")
    between = target is not None or func.overloadpacket in _BETWEEN_DEVICES
    for one in tree_leaves((args, kwargs)):
        if type(one) is torch.Tensor and one.ndim and not between:
            raise RuntimeError(f"{func}: expected all tensors on the same device, found mps, cpu.")
    held, settings = tree_map(lambda x: x.held if isinstance(x, OnGpu) else x, (args, kwargs))
    if target is not None:
        settings["device"] = torch.device("cpu")
    result = func(*held, **settings)
    if target is not None and not _on_gpu(target):
        return result.clone() if result is held[0] else result
    if func.overloadpacket is torch.ops.aten.copy_ and not isinstance(args[0], OnGpu):
        return args[0]
    result = tree_map(lambda x: OnGpu(x) if isinstance(x, torch.Tensor) else x, result)
    return return_and_correct_aliasing(func, args, kwargs, result)


_BETWEEN_DEVICES = (
    torch.ops.aten.copy_,
    torch.ops.aten._to_copy,
    torch.ops.aten.index,
    torch.ops.aten.index_put_,
    torch.ops.aten.index_put,
)


@contextmanager
def on_a_mac() -> Iterator[AppleGpu]:
    """Within it torch and Lightning find a device "mps", and no other."""
    lifts = torch._C._only_lift_cpu_tensors()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))  # it is cached
        patch.setattr(torch.backends.mps, "is_available", cache(lambda: True))
        patch.setattr(torch.cuda, "is_available", cache(lambda: False))
        patch.setattr(torch.mps, "device_count", lambda: 1)
        patch.setattr(torch.mps, "get_rng_state", lambda device: torch.get_rng_state())
        patch.setattr(torch.mps, "set_rng_state", lambda state, device: None)
        # a parameter becomes another object, as a tensor of the CPU cannot turn into one of these
        patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
        torch._C._set_only_lift_cpu_tensors(True)  # so that torch.tensor(device=…) can be seen
        try:
            with AppleGpu() as gpu:
                yield gpu
        finally:
            torch._C._set_only_lift_cpu_tensors(lifts)
