"""Values that every part of the package agrees on."""

IGNORE_INDEX = 255
"""Mask value of pixels that count nowhere: not in a loss, a weight or a score."""
