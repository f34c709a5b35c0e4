"""Parameters, gradients and optimiser state divided among the ranks, by torch's FSDP2."""

import os
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from seg.errors import InputError
from seg.lightning_compat.trainer import layer_sync


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's FSDP2 over all ranks, with checkpoints of one file that any strategy reads.

    It reads those of any strategy as well. Lightning's own sends a tensor's memory as it lies,
    which shuffles weights that were saved channels-last, and takes the optimiser's entries to be
    in the order of the network's parameters, which ours are not.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Make all ranks one data-parallel group."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def load_checkpoint(
        self, checkpoint_path: str | os.PathLike[str], weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load this rank's part of weights and optimiser state; returns the whole checkpoint."""
        path = self.broadcast(checkpoint_path)
        checkpoint: dict[str, Any] = torch.load(
            path, map_location="cpu", weights_only=weights_only, mmap=True
        )
        assert self.lightning_module is not None
        own = self.lightning_module.state_dict()
        parts = {k: _part(v, own.get(k)) for k, v in checkpoint["state_dict"].items()}
        self.lightning_module.load_state_dict(parts, strict=self.lightning_module.strict_loading)
        for optimizer, state in zip(
            self.optimizers, checkpoint.get("optimizer_states", []), strict=False
        ):
            optimizer.load_state_dict(_optimizer_part(state, optimizer))
        return checkpoint


def shard(network: nn.Module, strategy: Strategy) -> None:
    """Divide the parameters of a network among the ranks, where the strategy is to do so.

    The large stages of its encoder and decoder, where it has them, are gathered one by one while
    they compute; the rest is one group. Gradients arrive averaged over the ranks, as with DDP.

    Args:
        network: Network on any device; one that is sharded already is left alone.
        strategy: Its processes are connected.

    Raises:
        InputError: If the strategy may split tensors too, of which our networks know nothing.
    """
    if not isinstance(strategy, ModelParallelStrategy) or isinstance(network, FSDPModule):
        return
    if not isinstance(strategy, ShardedStrategy):
        raise InputError(
            f"trainer.strategy {type(strategy).__name__}: only the images of a batch are divided "
            "among the ranks, no tensors; use seg.sharding.ShardedStrategy, as does "
            "configs/trainer/fsdp.yaml."
        )
    if (sync := layer_sync(strategy)) is not None:
        sync.apply(network)
    network.to(memory_format=torch.contiguous_format)  # shards are rows of plain memory
    mesh = strategy.device_mesh["data_parallel"]
    for stage in _stages(network):
        fully_shard(stage, mesh=mesh)
    fully_shard(network, mesh=mesh)


def _stages(network: nn.Module) -> list[nn.Module]:
    """The parts of encoder and decoder that hold a tenth of the parameters or more."""
    parts = (getattr(network, "encoder", None), getattr(network, "decoder", None))
    found = [stage for part in parts if isinstance(part, nn.Module) for stage in _children(part)]
    # a smaller one would send less than the sending costs
    return [stage for stage in found if 10 * _size(stage) >= _size(network)]


def _children(module: nn.Module) -> Iterator[nn.Module]:
    """The children with parameters; of a list, or of an only child, its own children instead."""
    children = [child for child in module.children() if _size(child) > 0]
    for child in children:
        is_list = isinstance(child, nn.ModuleList | nn.ModuleDict) and (
            type(child).forward is nn.Module.forward
        )
        if is_list or (len(children) == 1 and any(True for _ in child.children())):
            yield from _children(child)
        else:
            yield child


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _part(full: Any, own: Any) -> Any:
    """This rank's rows of a tensor that is saved whole, where its own one is sharded."""
    if not isinstance(own, DTensor) or not isinstance(full, Tensor) or full.shape != own.shape:
        return full
    plain = full.contiguous().to(own.device)
    return distribute_tensor(plain, own.device_mesh, own.placements, src_data_rank=None)


def _optimizer_part(state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """This rank's part of a state of an optimiser, entries matched by their place in the groups."""
    keys = [key for group in state["param_groups"] for key in group["params"]]
    owners = [p for group in optimizer.param_groups for p in group["params"]]
    entries = {
        key: {name: _part(value, owner) for name, value in state["state"][key].items()}
        for key, owner in zip(keys, owners, strict=False)  # the optimiser itself checks lengths
        if key in state["state"]
    }
    return {**state, "state": entries}
