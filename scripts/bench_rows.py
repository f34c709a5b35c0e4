"""What `bench_losses.py` compares: the losses of `seg.losses`, of torch and of other packages."""

import importlib
import inspect
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import seg.losses
from seg.constants import IGNORE_INDEX

Loss = Callable[[Tensor, Tensor], Tensor]
VOID: dict[str, Any] = {"ignore_index": IGNORE_INDEX}


class Case:
    """Normal logits (N, C, H, W) and uniform labels, a tenth of them ignored; C = 1 is binary."""

    def __init__(
        self,
        shape: tuple[int, ...],
        channels_last: bool,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        batch, self.channels, height, width = shape
        self.classes = max(self.channels, 2)
        logits = torch.randn(shape, generator=generator).to(device, dtype)
        if channels_last:
            logits = logits.to(memory_format=torch.channels_last)
        self.logits = logits.requires_grad_()
        ids = torch.randint(self.classes, (batch, height, width), generator=generator)
        ignored = torch.rand(ids.shape, generator=generator) < 0.1
        self.ids = ids.masked_fill(ignored, IGNORE_INDEX).to(device)  # int64 (n, h, w)
        self.weight = torch.linspace(0.5, 2, self.classes)

    @cached_property
    def filled(self) -> Tensor:
        """The ids with class 0 where ignored, for losses that cannot ignore."""
        return self.ids.masked_fill(self.ids == IGNORE_INDEX, 0)

    @cached_property
    def dense(self) -> Tensor:
        """The labels as floats like the logits, 1 in the channel of the class."""
        if self.channels == 1:
            return self.filled.unsqueeze(1).to(self.logits.dtype)
        return torch.zeros_like(self.logits).scatter_(1, self.filled.unsqueeze(1), 1).detach()


Maker = Callable[[Case], tuple[Loss, Tensor]]
"""Builds a loss and the target it takes; raises ModuleNotFoundError if its package is missing."""


def references(binary: bool) -> dict[str, Maker]:
    """What torch has, with weights and without."""
    name = "F.binary_cross_entropy_with_logits" if binary else "F.cross_entropy"
    return {f"{name}, weighted": partial(_reference, True), name: partial(_reference, False)}


def contenders(binary: bool) -> dict[str, Maker]:
    """Every loss but the references, by name: on one logit a pixel, or over the classes."""
    own = {f"seg {name}": partial(_own, name) for name in _exported(binary)}
    vision = partial(_foreign, "torchvision.ops", "sigmoid_focal_loss", "dense", reduction="mean")
    return {
        **own,
        "torchvision sigmoid_focal_loss": vision,
        **(_binary_peers() if binary else {**_listings(), **_smp(), **_monai(), **_kornia()}),
    }


def _exported(binary: bool) -> list[str]:
    """Names of the loss classes of `seg.losses` that take one logit a pixel, or that do not."""
    base = seg.losses.SegmentationLoss
    classes = {n: c for n, c in vars(seg.losses).items() if inspect.isclass(c) and c is not base}
    return [n for n, c in classes.items() if issubclass(c, base) and (c.channels(2) == 1) == binary]


def _reference(weighted: bool, case: Case) -> tuple[Loss, Tensor]:
    weight = case.weight.to(case.logits) if weighted else None
    if case.channels == 1:
        pos_weight = None if weight is None else weight[1]
        return partial(F.binary_cross_entropy_with_logits, pos_weight=pos_weight), case.dense
    return partial(F.cross_entropy, weight=weight, **VOID), case.ids


def _own(name: str, case: Case) -> tuple[Loss, Tensor]:
    """A loss of `seg.losses`, with weights where cross-entropy and focal loss take them."""
    arguments: dict[str, Callable[[], dict[str, Any]]] = {
        "CrossEntropyLoss": lambda: {"weight": case.weight.tolist()},
        "FocalLoss": lambda: {"alpha": case.weight.tolist()},
        "BinaryCrossEntropyLoss": lambda: {"pos_weight": 2.0},
        "CompoundLoss": lambda: {
            "parts": {"ce": seg.losses.CrossEntropyLoss(), "dice": seg.losses.DiceLoss()}
        },
    }
    loss = getattr(seg.losses, name)(**arguments.get(name, dict)())
    loss.bind(case.classes)
    if loss.needs_class_counts:
        valid = case.ids[case.ids != IGNORE_INDEX].cpu()
        counts = torch.bincount(valid, minlength=case.classes).tolist()
        loss.set_class_counts(counts, [valid.numel()] * case.classes)
    return loss.to(case.logits.device), case.ids


def _foreign(
    module: str, name: str, target: str, case: Case, **arguments: Any
) -> tuple[Loss, Tensor]:
    """A loss class, or a function, of another package; `target` names the labels it takes."""
    loss: Any = getattr(importlib.import_module(module), name)
    labels: Tensor = getattr(case, target)
    if module == "monai.losses":
        labels = labels.unsqueeze(1)
    built: Any = loss(**arguments) if inspect.isclass(loss) else partial(loss, **arguments)
    return built, labels


def _listing(one_hot: bool, case: Case) -> tuple[Loss, Tensor]:
    """Focal loss as it is usually written down: full-size temporaries, log of a probability."""
    alpha = case.weight.to(case.logits)

    def gathered(logits: Tensor, target: Tensor) -> Tensor:
        valid = target != IGNORE_INDEX
        labels = target.masked_fill(~valid, 0)
        p = logits.softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1).clamp_min(1e-7)
        losses = -alpha[labels] * (1 - p).pow(2) * p.log()
        return (losses * valid).sum() / valid.sum()

    def spread(logits: Tensor, target: Tensor) -> Tensor:
        valid = target != IGNORE_INDEX
        labels = target.masked_fill(~valid, 0)
        truth = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
        p = logits.softmax(1).clamp_min(1e-7)
        losses = -truth * alpha.view(1, -1, 1, 1) * (1 - p).pow(2) * p.log()
        return (losses.sum(1) * valid).sum() / valid.sum()

    return (spread if one_hot else gathered), case.ids


def _listings() -> dict[str, Maker]:
    return {
        "plain focal, gather": partial(_listing, False),
        "plain focal, one-hot": partial(_listing, True),
    }


def _binary_peers() -> dict[str, Maker]:
    smp = "segmentation_models_pytorch.losses"
    return {
        "smp FocalLoss": partial(_foreign, smp, "FocalLoss", "ids", mode="binary", **VOID),
        "smp SoftBCEWithLogitsLoss": partial(_foreign, smp, "SoftBCEWithLogitsLoss", "dense"),
    }


def _smp() -> dict[str, Maker]:
    options: dict[str, dict[str, Any]] = {"SoftCrossEntropyLoss": {"smooth_factor": 0.0}}
    for name in ("FocalLoss", "DiceLoss", "JaccardLoss", "TverskyLoss", "LovaszLoss"):
        options[name] = {"mode": "multiclass"}
    module = "segmentation_models_pytorch.losses"
    return {
        f"smp {name}": partial(_foreign, module, name, "ids", **arguments, **VOID)
        for name, arguments in options.items()
    }


def _monai() -> dict[str, Maker]:
    options: dict[str, dict[str, Any]] = {
        "FocalLoss": {"use_softmax": True, "to_onehot_y": True},
        "DiceLoss": {"softmax": True, "to_onehot_y": True},
        "TverskyLoss": {"softmax": True, "to_onehot_y": True},
    }
    module = "monai.losses"
    return {
        f"MONAI {name}": partial(_foreign, module, name, "filled", **arguments)
        for name, arguments in options.items()
    }


def _kornia() -> dict[str, Maker]:
    module = "kornia.losses"
    options: dict[str, tuple[str, dict[str, Any]]] = {
        "focal_loss": ("ids", {"alpha": None, "reduction": "mean", **VOID}),
        "dice_loss": ("ids", {"average": "macro", **VOID}),
        "tversky_loss": ("ids", {"alpha": 0.5, "beta": 0.5, **VOID}),
        "lovasz_softmax_loss": ("filled", {}),
    }
    return {
        f"kornia {name}": partial(_foreign, module, name, target, **arguments)
        for name, (target, arguments) in options.items()
    }
