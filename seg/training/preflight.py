"""What is checked of network, loss and trainer before the first step."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
)
from lightning.pytorch.strategies import (
    DDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
)

from seg.errors import InputError
from seg.lightning_compat.trainer import finds_unused_parameters
from seg.losses import SegmentationLoss
from seg.networks import some
from seg.training.output_check import check_output


def check_fit(module: Any, trainer: L.Trainer) -> None:
    """Refuse a SegmentationModule that the trainer, as it is set up, cannot fit.

    Raises:
        InputError: If the network's output does not fit, or a setting not the trainer's strategy.
    """
    data = getattr(trainer, "datamodule", None)
    unused = check_output(module, getattr(data, "crop_size", None))
    check_unused(trainer, type(module.network).__name__, unused)
    check_freezing(trainer, module.freeze_encoder_epochs)
    check_splitting(trainer, module.micro_batch_size)
    check_sharding(trainer, module.loss)


def check_unused(trainer: L.Trainer, name: str, unused: Sequence[str]) -> None:
    """Refuse parameters without gradient under DDP that waits for the gradient of each."""
    if unused and _waits_for_all(trainer):
        raise InputError(
            f"model.network: nothing trains {some(unused)} of {name}, for which DDP would wait; "
            "leave them out (with smp by aux_params null), or set --trainer.strategy "
            "ddp_find_unused_parameters_true."
        )


def check_batch(batch: Any) -> None:
    """Refuse what is no batch, by the types and shapes of its tensors; no device is waited for."""
    known = isinstance(batch, Mapping) and {"image", "mask"} <= batch.keys()
    if not known:
        found = f"keys {sorted(batch)}" if isinstance(batch, Mapping) else type(batch).__name__
        raise InputError(
            f"a batch with {found}: expected {{'image': (N, C, H, W), 'mask': (N, H, W)}}; let the "
            "data set return such a mapping of each sample."
        )
    image, mask = batch["image"], batch["mask"]
    if image.dtype != torch.uint8 or image.ndim != 4:
        raise InputError(
            f"batch['image'] {image.dtype} {tuple(image.shape)}: expected uint8 (N, C, H, W) with "
            "values 0 to 255, which the module itself normalises; do not normalise them before."
        )
    if mask.is_floating_point() or mask.ndim != 3 or len(mask) != len(image):
        raise InputError(
            f"batch['mask'] {mask.dtype} {tuple(mask.shape)} with images {tuple(image.shape)}: "
            "expected class ids (N, H, W) of an integer type, 255 where a pixel is ignored."
        )


def _waits_for_all(trainer: L.Trainer) -> bool:
    """Whether a step needs a gradient of every parameter."""
    strategy = trainer.strategy
    return isinstance(strategy, DDPStrategy) and not finds_unused_parameters(strategy)


def check_freezing(trainer: L.Trainer, freeze_encoder_epochs: int) -> None:
    """Refuse a frozen encoder under DDP that waits for the gradient of every parameter."""
    if freeze_encoder_epochs > 0 and _waits_for_all(trainer):
        raise InputError(
            f"model.freeze_encoder_epochs={freeze_encoder_epochs} under DDP leaves parameters "
            "without gradient; set --trainer.strategy ddp_find_unused_parameters_true."
        )


def check_sharding(trainer: L.Trainer, loss: SegmentationLoss) -> None:
    """Refuses to shard a run whose loss learns, as only the network's gradients are averaged."""
    names = [name for name, _ in loss.named_parameters()]
    if names and isinstance(trainer.strategy, ModelParallelStrategy):
        raise InputError(
            f"{type(loss).__name__} has parameters of its own ({', '.join(names)}), which "
            f"{type(trainer.strategy).__name__} does not average over the ranks; use "
            "--trainer.strategy ddp."
        )


def check_splitting(trainer: L.Trainer, micro_batch_size: int | None) -> None:
    """Refuse ways to split a step that would change its gradient, or that cannot be."""
    schedulers = [
        type(callback).__name__
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        if isinstance(callback, GradientAccumulationScheduler)
        and any(factor != 1 for factor in callback.scheduling.values())
    ]
    found: Any = schedulers or trainer.accumulate_grad_batches
    if found != 1:
        raise InputError(
            f"trainer.accumulate_grad_batches={found}: the mean of micro-batches' losses is not "
            "the loss of their batch. data.batch_size is the batch of one optimiser step; leave "
            "it as large as you want, set model.micro_batch_size to what fits into memory, and "
            "trainer.accumulate_grad_batches to 1."
        )
    strategy = trainer.strategy
    if micro_batch_size is not None and not isinstance(
        strategy, SingleDeviceStrategy | DDPStrategy
    ):
        raise InputError(
            f"model.micro_batch_size={micro_batch_size} under {type(strategy).__name__}, which "
            "sends gradients as they are made; leave it out and train on more devices or with a "
            "smaller data.batch_size, or use --trainer.strategy ddp."
        )


def check_finders(trainer: L.Trainer, data: Any) -> None:
    """Refuse callbacks, also those of `Tuner`, that would change a setting within a run.

    Args:
        trainer: With the callbacks.
        data: The data module; the batch size of one that is not ours may be searched.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        name = type(callback).__name__
        if isinstance(callback, LearningRateFinder):
            raise InputError(
                f"{name} cannot set the rate: model.lr_scheduler has taken every rate of the run "
                "from the optimiser's before. Leave it out, and compare rates by short runs, such "
                "as --trainer.max_steps 200 --model.optimizer AdamW --model.optimizer.lr 3e-4."
            )
        if isinstance(callback, BatchSizeFinder) and hasattr(data, "eval_batch_size"):
            raise InputError(
                f"{name} would change data.batch_size, which is the batch of one optimiser step "
                "and decides what is learned. Leave it out, and set model.micro_batch_size, or "
                "data.eval_batch_size for an evaluation, to what fits into memory."
            )


def check_settings(module: Any, mean: list[float] | None, std: list[float] | None) -> None:
    """Refuse settings of a SegmentationModule that do not fit its network, loss or classes."""
    if module.loss.reduction == "none":
        raise InputError("model.loss: reduction is none; training needs mean or sum.")
    _check_learners(module.loss)
    if module.micro_batch_size is not None and module.micro_batch_size < 1:
        raise InputError(
            f"model.micro_batch_size={module.micro_batch_size}: expected 1 image or more, or "
            "leave it out."
        )
    if not 1 <= module.num_rare <= len(module.class_names):
        raise InputError(
            f"model.num_rare={module.num_rare}: expected 1 to {len(module.class_names)}, the "
            "number of classes, or leave it out."
        )
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != module.in_channels:
            raise InputError(
                f"model.{name}: {len(values)} values for {module.in_channels} channels; "
                "give one a channel of data.in_channels."
            )
    wants_encoder = module.freeze_encoder_epochs > 0 or module.encoder_lr_factor != 1.0
    if wants_encoder and module.encoder is None:
        raise InputError(
            f"model.freeze_encoder_epochs={module.freeze_encoder_epochs}, "
            f"model.encoder_lr_factor={module.encoder_lr_factor}: {type(module.network).__name__} "
            "has no encoder; leave them out or use a network with an encoder."
        )


def _check_learners(loss: SegmentationLoss) -> None:
    """Refuses parameters of a sum itself, of which a step takes no gradient."""
    parts = [part for _, part in loss.components().values()]
    of_parts = {id(p) for part in parts for p in part.parameters()}
    orphans = [name for name, p in loss.named_parameters() if id(p) not in of_parts]
    if orphans:
        raise InputError(
            f"model.loss {type(loss).__name__}: nothing would train {', '.join(orphans)}, which "
            "belongs to none of its parts; make it a parameter of a part."
        )
