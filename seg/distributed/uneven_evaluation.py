"""Evaluation in which ranks have unequal numbers of batches, down to none."""

from typing import Any

import lightning as L
import torch
from torch.distributed.fsdp import FSDPModule

_SIDE = 64  # of an image that costs next to nothing; most networks take it


class UnevenEvaluation(L.Callback):
    """Makes up for the batches that a rank has fewer than others, which would wait for it.

    Of a sharded network all ranks take part in each forward pass. Those that a rank lacks it makes
    over black images, which are not counted.
    """

    def __init__(self) -> None:
        self._batches = 0

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to count."""
        self._batches = 0

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to count."""
        self._batches = 0

    def on_validation_batch_end(self, *args: Any) -> None:
        """Count a forward pass."""
        self._batches += 1

    def on_test_batch_end(self, *args: Any) -> None:
        """Count a forward pass."""
        self._batches += 1

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make up for the batches of the rank that has most."""
        sanity = trainer.sanity_checking
        batches = trainer.num_sanity_val_batches if sanity else trainer.num_val_batches
        self._make_up(trainer, pl_module, batches)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make up for the batches of the rank that has most."""
        self._make_up(trainer, pl_module, trainer.num_test_batches)

    def _make_up(self, trainer: L.Trainer, module: L.LightningModule, batches: Any) -> None:
        if isinstance(getattr(module, "network", None), FSDPModule):
            size = (1, int(module.in_channels), _SIDE, _SIDE)  # type: ignore[arg-type]
            images = torch.zeros(size, dtype=torch.uint8, device=module.device)
            with torch.no_grad(), trainer.precision_plugin.forward_context():
                for _ in range(self._batches, sum(batches)):
                    module(images)
