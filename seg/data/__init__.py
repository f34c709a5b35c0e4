"""Files to samples to batches."""

from seg.data.class_sampling import ClassFirstSampler, ImageSampler, RepeatFactorSampler
from seg.data.copypaste import Components
from seg.data.counting import ClassCounts
from seg.data.datamodule import SegmentationDataModule
from seg.data.dataset import SegmentationDataset
from seg.data.header import DataError
from seg.data.settings import resolve_class_colors, resolve_class_names
from seg.data.synthetic import SyntheticDataset
from seg.data.transforms import CopyPaste

__all__ = [
    "ClassCounts",
    "ClassFirstSampler",
    "Components",
    "CopyPaste",
    "DataError",
    "ImageSampler",
    "RepeatFactorSampler",
    "SegmentationDataModule",
    "SegmentationDataset",
    "SyntheticDataset",
    "resolve_class_colors",
    "resolve_class_names",
]
