"""Public path of `seg.training.optim`."""

from seg.training.optim import PolynomialDecay

__all__ = ["PolynomialDecay"]
