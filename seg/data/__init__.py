"""Files to samples to batches."""

from seg.data.augment.copy_paste import Components
from seg.data.augment.transforms import CopyPaste
from seg.data.datamodule import SegmentationDataModule
from seg.data.dataset import SegmentationDataset
from seg.data.files.headers import DataError
from seg.data.sampling.image_samplers import ClassFirstSampler, ImageSampler, RepeatFactorSampler
from seg.data.scan.class_counts import ClassCounts
from seg.data.settings import resolve_class_colors, resolve_class_names
from seg.data.synthetic import SyntheticDataset

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
