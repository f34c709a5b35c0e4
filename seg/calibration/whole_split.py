"""Calibration of a module on the validation split of its data."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray

from seg.calibration.fitting import Fit, cross_fitted
from seg.calibration.histograms import LogOdds, below_largest, log_odds
from seg.calibration.priors import prior_bias
from seg.calibration.probabilities import PixelSample, calibration_errors, fit_temperature, sample
from seg.calibration.searching import iou
from seg.constants import IGNORE_INDEX
from seg.errors import InputError
from seg.evaluation.pixel_pairs import confusion_matrix
from seg.inference.whole_images import labels

KEPT = 2**29
"""Bytes of the histograms of all images, and of the logits of sampled pixels: 512 MiB each."""

Floats = NDArray[np.float64]


class Calibration(NamedTuple):
    """What calibration finds.

    Attributes:
        bias: To be added to each class's logit, nats, (C,).
        temperature: What the logits are to be divided by for honest probabilities.
        errors: Classwise calibration errors (C,) without and with the temperature.
        fit: How the biases were fitted, and exact scores; None where they are of known priors.
        iou: IoU of each class on the whole split with the biases that `record` has, (C,), as
            `seg validate` gives it; of images that they were fitted to. None as `fit`.
        record: What a checkpoint carries, and `SegmentationModule.set_calibration` takes.
    """

    bias: Floats
    temperature: float
    errors: tuple[Floats, Floats]
    fit: Fit | None
    iou: Floats | None
    record: dict[str, Any]


def calibrate(
    module: Any,
    data: Any,
    rarest: int | None = None,
    priors: Sequence[float] | None = None,
    precision: Any = None,
) -> Calibration:
    """Find the biases that a trained module decides better with; the module stays as it is.

    Args:
        module: A SegmentationModule.
        data: A SegmentationDataModule, whose validation split is taken.
        rarest: Make best the mean IoU of so many of the rarest classes; left out, of all.
        priors: Share of each class's pixels where the network will be used, instead of a search.
        precision: As of a Trainer.

    Raises:
        InputError: If a logit is not finite, or a setting does not fit the classes.
    """
    odds, pixels, unit = collect(module, data, precision)
    temperature = fit_temperature(pixels)
    errors = calibration_errors(pixels), calibration_errors(pixels, temperature)
    fit: Fit | None = None
    scores: Floats | None = None
    record: dict[str, Any] = {"temperature": temperature}
    if priors is None:
        fit = cross_fitted(odds, rarest)
        del odds
        counts = _counts(module, data, fit, unit, precision)
        fit = fit.judged_by(counts[:2])
        gains = fit.gain > 0
        bias = fit.bias * unit if gains else np.zeros_like(fit.bias)
        scores = iou(counts[2 if gains else 0].sum(0))
        record |= {"iou": fit.before.tolist(), "iou_biased": fit.after.tolist()}
    else:
        bias = prior_bias(pixels, np.asarray(priors))
    record["logit_bias"] = _of_logits(module, bias).tolist()
    return Calibration(bias, temperature, errors, fit, scores, record)


def _of_logits(module: Any, bias: Floats) -> Floats:
    """What is added to each logit (…, L), from biases of the classes (…, C)."""
    channels = module.loss.channels(len(module.class_names))
    return bias if channels > 1 else bias[..., 1:] - bias[..., :1]


def collect(
    module: Any, data: Any, precision: Any = None
) -> tuple[list[LogOdds], PixelSample, float]:
    """Of the validation split the log-odds of each image, a sample of pixels, and a temperature.

    The temperature, which the log-odds are over, is that of the first batch, or 1 if it is less.
    """
    data.setup("validate")
    collector = _Collector(module, KEPT // len(data.dataset("val")))
    _validate(collector, data, precision)
    return collector.odds, PixelSample.of(collector.samples), collector.temperature


def _counts(module: Any, data: Any, fit: Fit, unit: float, precision: Any) -> NDArray[np.int64]:
    """Exact confusion counts (3, K, C, C): without biases, with `held_out` and with `bias`."""
    biases = [
        np.zeros_like(fit.held_out),
        fit.held_out,
        np.broadcast_to(fit.bias, fit.held_out.shape),
    ]
    judge = _Judge(module, fit.parts, _of_logits(module, np.stack(biases) * unit))
    _validate(judge, data, precision)
    return judge.counts.numpy()


def _validate(collector: L.LightningModule, data: Any, precision: Any) -> None:
    """Show the collector every image of the validation split."""
    trainer = L.Trainer(
        devices=1,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.validate(collector, data.val_dataloader(), verbose=False)


class _Collector(L.LightningModule):
    """Keeps of what a network gives for each whole image what calibration needs.

    Args:
        module: With the network.
        room: Bytes for what is kept of an image, twice.
    """

    def __init__(self, module: Any, room: int) -> None:
        super().__init__()
        self.module, self.room = module, room
        self.odds: list[LogOdds] = []
        self.samples: list[PixelSample] = []
        self.temperature = 1.0

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """At the masks' own size."""
        masks = batch["mask"]
        logits = self.module.logits_of_size(batch["image"], masks.shape[-2:])
        pairs = [
            below_largest(z, mask, IGNORE_INDEX) for z, mask in zip(logits, masks, strict=True)
        ]
        for name, (depths, _) in zip(batch["name"], pairs, strict=True):
            if depths.isnan().any():
                raise InputError(
                    f"{name}: the network's logits are NaN or +inf there, so there is nothing to "
                    "calibrate; use --ckpt_path of another checkpoint."
                )
        self.samples += [sample(*pair, self.room) for pair in pairs]
        if batch_idx == 0 and any(len(labels) for _, labels in pairs):
            self.temperature = max(1.0, fit_temperature(PixelSample.of(self.samples)))
        self.odds += [log_odds(*pair, self.temperature).within(self.room) for pair in pairs]


class _Judge(L.LightningModule):
    """Counts exactly what biases decide: the histograms are of steps of 1/8 nat.

    Args:
        module: With the network.
        parts: The part of each image, (N,), in the order of the loader.
        biases: Of each of S variants and K parts, (S, K, L).
    """

    def __init__(self, module: Any, parts: NDArray[np.int64], biases: Floats) -> None:
        super().__init__()
        self.module = module
        self.parts = iter(parts.tolist())
        self.biases = torch.tensor(biases).to(module.image_mean)  # as `set_calibration` does
        classes = len(module.class_names)
        self.counts = torch.zeros(*biases.shape[:2], classes, classes, dtype=torch.int64)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """At the masks' own size."""
        masks = batch["mask"]
        low = self.module.low_logits(batch["image"], masks.shape[-2:])
        biases, parts = self.biases.to(masks.device), [next(self.parts) for _ in masks]
        for images, rows, logits in low.stripes():
            mine = zip(logits.split(1), masks[images, rows], parts[images], strict=True)
            for one, mask, part in mine:
                for variant, bias in enumerate(biases[:, part]):
                    decided = labels(one, bias)[0]
                    self.counts[variant, part] += confusion_matrix(
                        decided, mask, self.counts.shape[-1], IGNORE_INDEX
                    ).cpu()
