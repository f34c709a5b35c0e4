"""What cannot be read in a call: values of a tensor that is traced, transformed or has none."""

import torch
from torch import Tensor

from seg.lightning_compat.torch_names import FakeTensor, is_recorded, is_transformed


def transformed() -> bool:
    """Whether a transform of torch.func, such as grad or vmap, is at work."""
    return is_transformed()


def traced() -> bool:
    """Whether the operations are being recorded, by torch.compile, torch.export or make_fx."""
    return torch.compiler.is_compiling() or is_recorded()


def unreadable(values: Tensor) -> bool:
    """Whether Python cannot ask for a value: there is none, or it is not known yet."""
    return traced() or transformed() or without_values(values)


def without_values(values: Tensor) -> bool:
    """Whether a tensor is a shape alone, on the meta device or as a fake one."""
    return values.is_meta or isinstance(values, FakeTensor)


def beside(values: Tensor, other: Tensor) -> Tensor:
    """The values on the device of another tensor, and as a shape alone if that is a fake one."""
    values = values.to(other.device)
    if isinstance(other, FakeTensor) and not isinstance(values, FakeTensor) and not traced():
        return other.fake_mode.from_tensor(values)
    return values


def formula_only(*tensors: Tensor) -> bool:
    """Whether a loss has to be computed by plain operations, without a look at any value.

    What asks for no value on CUDA serves fake tensors of that device as well.
    """
    if traced() or transformed():
        return True
    return any(without_values(x) and not x.is_cuda for x in tensors)
