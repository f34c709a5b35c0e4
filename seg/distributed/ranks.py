"""What the processes of a run send one another: sums, gathers, buffers."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel


class Ranks:
    """The processes that share the batch of a step; with one of them nothing is sent.

    Args:
        size: Number of ranks, those of the default process group.
    """

    def __init__(self, size: int = 1) -> None:
        self.size = size

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return dist.get_rank() if self.size > 1 else 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the ranks, the same on all of them, in the shape of `values`.

        Its gradient by this rank's `values` is that of the sum, so that the ranks' gradients of a
        function of the sum add up to the gradient of that function.
        """
        if self.size == 1:
            return values
        total: Tensor = _SumOverRanks.apply(values)
        return total

    def gather(self, values: Tensor) -> Tensor:
        """The ranks' values, (N, *d) each, as (N, ranks, *d); without gradient.

        Flattened to (N · ranks, *d) images are in the order in which one rank would have them, as
        the ranks take the images of a batch in turn.
        """
        values = values.detach().contiguous()
        if self.size == 1:
            return values.unsqueeze(1)
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values)
        return torch.stack(parts, 1)


ALONE = Ranks()
"""The one rank of a run without others."""


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return slopes[0]


def share_buffers(model: nn.Module, network: nn.Module) -> None:
    """Give every rank the buffers of rank 0, such as running statistics, before a validation.

    A sharded network keeps those of its own samples otherwise, and each rank would judge by other
    ones. DDP shares them in its first forward pass, in which a rank without an image takes part
    only in the next training step: for ever too late. So it is done here, and DDP is told so.

    Args:
        model: What the strategy trains.
        network: The network in it.
    """
    if isinstance(model, DistributedDataParallel):
        model.require_forward_param_sync = False
    elif not isinstance(network, FSDPModule):
        return
    for buffer in network.buffers():
        dist.broadcast(buffer, src=0)
