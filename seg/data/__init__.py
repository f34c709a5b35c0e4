"""Files to samples to batches."""

from seg.data.counting import ClassCounts
from seg.data.datamodule import (
    SegmentationDataModule,
    resolve_class_colors,
    resolve_class_names,
)
from seg.data.dataset import SegmentationDataset
from seg.data.header import DataError
from seg.data.synthetic import SyntheticDataset

__all__ = [
    "ClassCounts",
    "DataError",
    "SegmentationDataModule",
    "SegmentationDataset",
    "SyntheticDataset",
    "resolve_class_colors",
    "resolve_class_names",
]
