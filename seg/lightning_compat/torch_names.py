"""What of torch has no public name."""

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor as FakeTensor
from torch.nn.modules.batchnorm import _NormBase

NormBase = _NormBase
"""What has running statistics: batch norm and instance norm; torch has no public base of these."""

assert_async = torch._assert_async
"""Checks a value on a GPU and does not wait for the answer; no public function does."""

COMPILED = "_orig_mod"
"""The attribute of a compiled network that holds it as it was, and a part of its tensors' names."""

_RECORDERS = (torch._C._TorchDispatchModeKey.PROXY, torch._C._TorchDispatchModeKey.FUNCTIONAL)


def before_compile(network: nn.Module) -> nn.Module:
    """A network as it was before torch.compile, which has no way back."""
    original: nn.Module = getattr(network, COMPILED, network)
    return original


def is_transformed() -> bool:
    """Whether torch.func, grad or vmap, is at work; it has no function that says so."""
    return torch._C._are_functorch_transforms_active()


def is_recorded() -> bool:
    """Whether make_fx or torch.export records; `torch.compiler.is_compiling` knows of neither."""
    return any(torch._C._get_dispatch_mode(key) is not None for key in _RECORDERS)


def has_bf16_units() -> bool:
    """Whether this processor multiplies bf16 in hardware; torch has a public name only of late."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def has_bf16_instructions() -> bool:
    """Whether oneDNN computes bf16 by instructions of this processor; only oneDNN knows."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
