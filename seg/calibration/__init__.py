"""What can be gained from a trained network without training it: biases of its logits."""

from seg.calibration.fitting import Fit, cross_fitted
from seg.calibration.histograms import LogOdds, below_largest, log_odds
from seg.calibration.priors import prior_bias
from seg.calibration.probabilities import PixelSample, calibration_errors, fit_temperature, sample
from seg.calibration.whole_split import Calibration, calibrate

__all__ = [
    "Calibration",
    "Fit",
    "LogOdds",
    "PixelSample",
    "below_largest",
    "calibrate",
    "calibration_errors",
    "cross_fitted",
    "fit_temperature",
    "log_odds",
    "prior_bias",
    "sample",
]
