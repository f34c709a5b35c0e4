"""One rank of `test_split_invariance`: trains one step with every loss and saves the gradients."""

import logging
import os
import warnings
from functools import partial
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.utils.data import DataLoader

from seg.data.sampling.batch_samplers import TrainBatchSampler
from seg.losses import (
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    BoundaryLoss,
    CompoundLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    JaccardLoss,
    LogitAdjustedCrossEntropyLoss,
    LovaszLoss,
    OhemCrossEntropyLoss,
    RecallLoss,
    SegmentationLoss,
    TverskyLoss,
    cross_entropy,
    focal_loss,
)
from seg.module import SegmentationModule
from tests.own_networks import SegFormer, Stride16, ViT


class Scaled(SegmentationLoss):
    """Cross-entropy of logits whose scale is learnt, one a class."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.0, 0.3, -0.2]))

    def element_losses(self, logits, target):
        scaled = logits * self.scale.exp().view(-1, 1, 1)
        return cross_entropy(scaled, target, reduction="none"), target != self.ignore_index


class ScaledKnown(Scaled):
    """The same, of which the target alone decides the divisor."""

    def divisor(self, target, channels):
        return (target != self.ignore_index).sum(dtype=torch.float64)


class LearntWeights(SegmentationLoss):
    """Focal loss whose class weights are learnt, and with them the divisor of its mean."""

    def __init__(self, states_divisor):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, 1.0, 2.0]))
        self.states_divisor = states_divisor

    def element_losses(self, logits, target):
        losses = focal_loss(logits, target, self.weight, gamma=0.5, reduction="none")
        return losses, self._weights(target)

    def divisor(self, target, channels):
        return self._weights(target).sum(dtype=torch.float64) if self.states_divisor else None

    def _weights(self, target):
        ignored = target == self.ignore_index
        return self.weight[target.long().masked_fill(ignored, 0)] * ~ignored


BATCH, SIDE = 8, 12
SPLITS = [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4), (4, 1), (4, 2)]
"""Ranks, and micro-batches of each; with 4 ranks, 4 would be the same step as 2."""
WEIGHTS = [0.2, 1.0, 7.0]
LOSSES = {
    "cross_entropy": lambda: CrossEntropyLoss(),
    "weighted": lambda: CrossEntropyLoss(WEIGHTS),
    "smoothed": lambda: CrossEntropyLoss(WEIGHTS, label_smoothing=0.1),
    "sum": lambda: CrossEntropyLoss(WEIGHTS, reduction="sum"),
    "focal": lambda: FocalLoss(gamma=[0.5, 2.0, 3.0], alpha=WEIGHTS),
    "ohem": lambda: OhemCrossEntropyLoss(0.3, WEIGHTS),
    "ohem_sum": lambda: OhemCrossEntropyLoss(0.3, reduction="sum"),
    "logit_adjusted": lambda: LogitAdjustedCrossEntropyLoss(priors=[0.9, 0.09, 0.01]),
    "recall": lambda: RecallLoss(0.5),
    "dice": lambda: DiceLoss(),
    "dice_per_image": lambda: DiceLoss(per_image=True),
    "jaccard": lambda: JaccardLoss(),
    "tversky": lambda: TverskyLoss(gamma=4 / 3),
    "lovasz": lambda: LovaszLoss(),
    "lovasz_per_image": lambda: LovaszLoss(per_image=True),
    "boundary": lambda: BoundaryLoss(),
    "compound": lambda: CompoundLoss(
        {"ce": CrossEntropyLoss(WEIGHTS), "dice": DiceLoss(), "boundary": BoundaryLoss()},
        {"dice": 0.5, "boundary": 0.01},
    ),
    "compound_of_all_kinds": lambda: CompoundLoss(
        {
            "recall": RecallLoss(0.5),
            "lovasz": LovaszLoss(),
            "rest": CompoundLoss({"ohem": OhemCrossEntropyLoss(), "image": DiceLoss(True)}),
        },
        {"rest": 0.3},
    ),
    "scaled": lambda: Scaled(),
    "scaled_known": lambda: ScaledKnown(),
    "learnt_weights": lambda: LearntWeights(False),
    "learnt_weights_known": lambda: LearntWeights(True),
    "compound_of_learners": lambda: CompoundLoss(
        {"scaled": Scaled(), "dice": DiceLoss(), "weighted": LearntWeights(True)}, {"dice": 0.5}
    ),
    "segformer": lambda: CrossEntropyLoss(WEIGHTS),
    "vit": lambda: CompoundLoss({"ce": CrossEntropyLoss(WEIGHTS), "dice": DiceLoss()}),
    "stride_16": lambda: LovaszLoss(),
    "binary_cross_entropy": lambda: BinaryCrossEntropyLoss(5.0),
    "binary_focal": lambda: BinaryFocalLoss(),
}


NETWORKS = {
    "segformer": (SegFormer, {"input_stride": 32}),
    "vit": (partial(ViT, side=32), {"input_size": [32, 32]}),
    "stride_16": (Stride16, {"input_stride": 16}),
}
"""Networks that take other sizes than the images', by the name of the loss."""


def class_names(loss):
    return ["ground", "plate", "crack"][: 2 if "Binary" in type(loss).__name__ else 3]


def _plain(classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.Conv2d(8, classes, 3, padding=1),
    )


def build_module(name, **settings):
    """A module in float64 around a small network, whose weights depend on nothing else."""
    loss = LOSSES[name]()
    names = class_names(loss)
    torch.manual_seed(7)
    make, sizes = NETWORKS.get(name, (_plain, {}))
    network = make(loss.channels(len(names)))
    sgd = torch.optim.SGD
    return SegmentationModule(
        network,
        loss,
        names,
        optimizer=lambda parameters: sgd(parameters, lr=0.1, weight_decay=0.5),
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
        mean=[0.5, 0.4, 0.3],
        std=[0.2, 0.3, 0.2],
        **sizes,
        **settings,
    ).double()


def batch_of_step(classes=3):
    """Images and masks in the order of the step.

    The shares of valid pixels differ widely; those at 3, 6 and 7 have none, so that the last rank
    of four and the last micro-batch of four have none either.
    """
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), generator=generator).byte()
    rare = torch.rand(BATCH, SIDE, SIDE, generator=generator)
    masks = (rare < 0.3).long() + (rare < 0.05).long()
    masks = masks.clamp(max=classes - 1).byte()
    ignored = torch.rand(BATCH, SIDE, SIDE, generator=generator)
    for i, share in enumerate([0.0, 0.9, 0.97, 1.0, 0.1, 0.5, 1.0, 1.0]):
        masks[i][ignored[i] < share] = 255
    return images, masks


class Samples(torch.utils.data.Dataset):
    """The batch as a data set, of which the sampler's first step takes all in the order given."""

    def __init__(self, classes):
        self.images, self.masks = batch_of_step(classes)
        order = next(iter(TrainBatchSampler(BATCH, BATCH, seed=0)))
        self.place = {index: place for place, (_, index) in enumerate(order)}

    def __getitem__(self, key):
        place = self.place[key[1]]
        return {"image": self.images[place], "mask": self.masks[place]}

    def __len__(self):
        return BATCH


class Keep(L.Callback):
    """Keeps what the optimiser sees, and what becomes of what the loss learns."""

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.gradients = [p.grad.clone() for p in module.network.parameters()]
        self.of_loss = [p.grad.clone() for p in module.loss.parameters()]


def one_step(name, micro_batches, rank, ranks):
    """Gradients, logged losses and buffers of the loss after one step of a real Trainer."""
    share = BATCH // ranks
    size = None if micro_batches == 1 else max(1, share // micro_batches)
    module = build_module(name, micro_batch_size=size)
    keep = Keep()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy=DDPStrategy(process_group_backend="gloo") if ranks > 1 else "auto",
        plugins=[TorchElasticEnvironment()] if ranks > 1 else None,
        precision="64-true",
        max_steps=1,
        callbacks=[keep],
        use_distributed_sampler=False,
        **dict.fromkeys(
            (
                "logger",
                "enable_checkpointing",
                "enable_progress_bar",
                "enable_model_summary",
            ),
            False,
        ),
    )
    sampler = TrainBatchSampler(BATCH, BATCH, rank, ranks, seed=0)
    loader = DataLoader(Samples(len(module.class_names)), batch_sampler=sampler)
    trainer.fit(module, loader)
    logged = {k: v.item() for k, v in trainer.callback_metrics.items()}
    buffers = {k: v.clone() for k, v in module.loss.state_dict().items()}
    return {
        "gradients": keep.gradients,
        "of_loss": keep.of_loss,
        "logged": logged,
        "buffers": buffers,
    }


def main(folder, rank, ranks, port):
    """Write RANKS.RANK.pt: (loss, micro-batches) to gradients, logged metrics and buffers."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": ranks}
    place |= {"LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in place.items()}, TORCHELASTIC_RUN_ID="test")
    warnings.filterwarnings("ignore")  # Lightning's advice on loaders, once for every step made
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    results = {
        (name, micro): one_step(name, micro, rank, ranks)
        for name in LOSSES
        for size, micro in SPLITS
        if size == ranks
    }
    torch.save(results, Path(folder) / f"{ranks}.{rank}.pt")
