"""Biases for a domain in which classes are as frequent as somebody knows."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from seg.calibration.probabilities import Floats, PixelSample, log_probabilities, nll
from seg.errors import InputError


def prior_bias(pixels: PixelSample, priors: Floats) -> Floats:
    """Biases of the logits (C,), nats, for a domain with other priors and classes that look alike.

    Probabilities softmax(z / T + b) are fitted to the validation split first, as training with
    weights or a sampler leaves others. Those of the target then are proportional to them times
    π_target / π_validation, and T (b + log(π_target / π_validation)) is what the logits need.

    Args:
        pixels: Of the validation split.
        priors: Share of the pixels of each class in the target domain, (C,), each positive.

    Raises:
        InputError: If a prior is not positive, they do not add up to 1 (within 1 %), or a class
            has no pixel in the validation split.

    Reference:
        Alexandari et al., Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat at
        Label Shift Adaptation, 2020, section 3; Saerens et al., Adjusting the Outputs of a
        Classifier to New a Priori Probabilities, 2002, eq. 2.4.
    """
    counts = np.bincount(pixels.labels, minlength=pixels.logits.shape[1])
    _check(priors, counts)
    temperature, bias = fit_biased_temperature(pixels)
    shift = np.log(priors / priors.sum()) - np.log(counts / counts.sum())
    needed = temperature * (bias + shift)
    found: Floats = needed - needed.mean()
    return found


def fit_biased_temperature(pixels: PixelSample) -> tuple[float, Floats]:
    """T and b (C,) with the largest likelihood of softmax(z / T + b), convex in 1 / T and b."""
    z = pixels.logits.astype(np.float64)
    size, c = z.shape
    share = np.bincount(pixels.labels, minlength=c) / size
    own = z[np.arange(size), pixels.labels].mean()

    def objective(x: Floats) -> tuple[float, Floats]:
        log_p = log_probabilities(pixels, 1 / x[0], x[1:])
        p = np.exp(log_p)
        slope = np.concatenate([[(p * z).sum() / size - own], p.mean(0) - share])
        return nll(log_p, pixels.labels), slope

    start = np.concatenate([[1.0], np.zeros(c)])
    bounds = [(0.05, 20.0), *[(-20.0, 20.0)] * c]
    options = {"maxiter": 500, "ftol": 1e-12, "gtol": 1e-7}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return float(1 / found.x[0]), found.x[1:]


def _check(priors: Floats, pixels: NDArray[np.int64]) -> None:
    if len(priors) != len(pixels):
        raise InputError(f"--priors: {len(priors)} numbers for {len(pixels)} classes.")
    if not (priors > 0).all() or not np.isfinite(priors).all():
        raise InputError(f"--priors {priors.tolist()}: expected a share above 0 for every class.")
    if abs(priors.sum() - 1) > 0.01:
        raise InputError(f"--priors add up to {priors.sum():g}: expected shares that make 1.")
    if not pixels.all():
        missing = np.flatnonzero(pixels == 0).tolist()
        raise InputError(
            f"--priors: the validation split has no pixel of class {missing}, whose probability "
            "cannot be calibrated; use a split that shows every class."
        )
