"""Training and judging of semantic segmentation networks on class-imbalanced data."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("seg")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
