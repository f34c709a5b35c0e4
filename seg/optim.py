"""Public path of `seg.training.schedules`."""

from seg.training.schedules import CosineDecay, PolynomialDecay

__all__ = ["CosineDecay", "PolynomialDecay"]
