"""Calibration of a module on the validation split of its data."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import lightning as L
import numpy as np
from numpy.typing import NDArray

from seg.calibration.fitting import Fit, cross_fitted
from seg.calibration.histograms import LogOdds, below_largest, log_odds
from seg.calibration.priors import prior_bias
from seg.calibration.probabilities import PixelSample, calibration_errors, fit_temperature, sample
from seg.constants import IGNORE_INDEX
from seg.errors import InputError

KEPT = 2**29
"""Bytes of the histograms of all images, and of the logits of sampled pixels: 512 MiB each."""

Floats = NDArray[np.float64]


class Calibration(NamedTuple):
    """What calibration finds.

    Attributes:
        bias: To be added to each class's logit, nats, (C,).
        temperature: What the logits are to be divided by for honest probabilities.
        errors: Classwise calibration errors (C,) without and with the temperature.
        fit: How the biases were fitted; None where they are of known priors.
        record: What a checkpoint carries, and `SegmentationModule.set_calibration` takes.
    """

    bias: Floats
    temperature: float
    errors: tuple[Floats, Floats]
    fit: Fit | None
    record: dict[str, Any]


def calibrate(
    module: Any, data: Any, rarest: int | None = None, priors: Sequence[float] | None = None
) -> Calibration:
    """Find the biases that a trained module decides better with; the module stays as it is.

    Args:
        module: A SegmentationModule.
        data: A SegmentationDataModule, whose validation split is taken.
        rarest: Make best the mean IoU of so many of the rarest classes; left out, of all.
        priors: Share of each class's pixels where the network will be used, instead of a search.

    Raises:
        InputError: If a logit is not finite, or a setting does not fit the classes.
    """
    odds, pixels, unit = collect(module, data)
    temperature = fit_temperature(pixels)
    fit: Fit | None = None
    record: dict[str, Any] = {"temperature": temperature}
    if priors is None:
        fit = cross_fitted(odds, rarest)
        bias = fit.bias * unit if fit.gain > 0 else np.zeros_like(fit.bias)
        record |= {"iou": fit.before.tolist(), "iou_biased": fit.after.tolist()}
    else:
        bias = prior_bias(pixels, np.asarray(priors))
    channels = module.loss.channels(len(module.class_names))
    record["logit_bias"] = (bias if channels > 1 else bias[1:] - bias[:1]).tolist()
    errors = calibration_errors(pixels), calibration_errors(pixels, temperature)
    return Calibration(bias, temperature, errors, fit, record)


def collect(module: Any, data: Any) -> tuple[list[LogOdds], PixelSample, float]:
    """Of the validation split the log-odds of each image, a sample of pixels, and a temperature.

    The temperature, which the log-odds are over, is that of the first batch, or 1 if it is less.
    """
    data.setup("validate")
    collector = _Collector(module, KEPT // len(data.dataset("val")))
    trainer = L.Trainer(
        devices=1, logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    trainer.validate(collector, data.val_dataloader(), verbose=False)
    return collector.odds, PixelSample.of(collector.samples), collector.temperature


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
