"""How far probabilities are from frequencies, and the temperature that brings them nearer."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import Tensor

BINS = 15
PIXELS = 4096
"""Most pixels of an image that probabilities are judged by."""

_RANGE = (-3.0, 3.0)  # of log T

Floats = NDArray[np.float64]


class PixelSample(NamedTuple):
    """Logits and labels of P pixels.

    Attributes:
        logits: Nats (P, C), up to a constant a pixel.
        labels: Class ids (P,).
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, parts: Sequence["PixelSample"]) -> "PixelSample":
        """Those of several images in one."""
        logits, labels = zip(*parts, strict=True)
        return cls(np.concatenate(logits), np.concatenate(labels))


def sample(depths: Tensor, labels: Tensor, room: int) -> PixelSample:
    """Up to `PIXELS` pixels of one image, evenly spaced, whose logits fit into so many bytes.

    Args:
        depths: From `below_largest`, (C, P).
        labels: From there too, (P,).
        room: Bytes.
    """
    count = len(labels)
    size = min(PIXELS, room // (4 * len(depths)), count)
    chosen = torch.arange(size, device=labels.device) * count // max(1, size)
    return PixelSample(-depths[:, chosen].T.cpu().numpy(), labels[chosen].long().cpu().numpy())


def log_probabilities(
    pixels: PixelSample, temperature: float, bias: Floats | float = 0.0
) -> Floats:
    """Log-probabilities (P, C), softmax(z / T + b) with biases b (C,)."""
    found: Floats = log_softmax(pixels.logits.astype(np.float64) / temperature + bias, axis=1)
    return found


def nll(log_p: Floats, labels: NDArray[np.int64]) -> float:
    """Mean negative log-likelihood of the labels, nats a pixel."""
    return float(-log_p[np.arange(len(labels)), labels].mean())


def fit_temperature(pixels: PixelSample) -> float:
    """The temperature T with the largest likelihood, from 0.05 to 20.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, 2017, section 4.2.
    """
    found = minimize_scalar(
        lambda log_t: nll(log_probabilities(pixels, float(np.exp(log_t))), pixels.labels),
        bounds=_RANGE,
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(found.x))


def calibration_errors(pixels: PixelSample, temperature: float = 1.0) -> Floats:
    """Classwise expected calibration error (C,), in 15 bins of equal width of the probability.

    Of class c it is Σ_b n_b / P |share of c in bin b - mean probability of c there|.

    Args:
        pixels: What to judge by.
        temperature: T that the logits are divided by.

    Reference:
        Kull et al., Beyond Temperature Scaling, 2019, section 2.
    """
    p = np.exp(log_probabilities(pixels, temperature))
    bins = (p * BINS).astype(np.int64).clip(max=BINS - 1)
    errors = []
    for c in range(p.shape[1]):
        true = np.bincount(bins[:, c], pixels.labels == c, BINS)
        predicted = np.bincount(bins[:, c], p[:, c], BINS)
        errors.append(np.abs(true - predicted).sum() / len(p))
    return np.array(errors)
