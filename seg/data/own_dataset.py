"""A data set of the user's own, with what is done around it as around files."""

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from lightning.fabric.utilities.rank_zero import rank_zero_only
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from seg.data.augment.transforms import TrainingTransform
from seg.data.dataset import Key, Sample, make_sample, parse_key
from seg.data.files.headers import DataError
from seg.data.files.labels import Labels, MaskValues
from seg.errors import InputError

log = logging.getLogger(__name__)

DatasetFactory = Callable[[str], Dataset[Any]]
"""From the name of a split to its data set: a class whose first argument it is, or a function."""

Array = NDArray[Any]


class OwnDataset(Dataset[Sample]):
    """Samples in the format of `SegmentationDataset`, of a data set that gives images and masks.

    That gives `{"image": ..., "mask": ...}` by index: an array (H, W, C), or (H, W) of one channel,
    or a tensor (C, H, W), uint8; and an array or a tensor (H, W) of integers, which `labels` maps
    to class ids. `"name"` may name the sample. It draws no random numbers, so that a step sees
    the same whatever came before. Its `sizes`, (height, width) by index, lets images of one size
    be judged in one batch.

    Args:
        samples: The data set.
        split: Name of the split.
        labels: From values of the masks to class ids.
        channels: Channels of the images.
        transform: Training augmentation; left out, whole images.
        resize: Height and width of whole images; left out, their own.
        seed: Seed of the augmentation, together with epoch and index.

    Raises:
        InputError: If it has no length or no index, or holds nothing.
    """

    def __init__(
        self,
        samples: Any,
        split: str,
        labels: Labels,
        channels: int = 3,
        transform: TrainingTransform | None = None,
        resize: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        self.kind = type(samples).__name__
        indexed = hasattr(samples, "__len__") and hasattr(samples, "__getitem__")
        if not indexed or isinstance(samples, IterableDataset):
            raise InputError(
                f"data.dataset {self.kind}: expected a torch Dataset with __len__ and __getitem__, "
                "as samples are drawn by index."
            )
        if len(samples) == 0:
            raise InputError(f"data.dataset {self.kind}: the split {split} has no sample.")
        sizes = getattr(samples, "sizes", None)
        if sizes is not None and len(sizes) != len(samples):
            raise InputError(
                f"data.dataset {self.kind}: {len(sizes)} sizes for {len(samples)} samples of the "
                f"split {split}; give (height, width) of each, or leave them out."
            )
        self.samples = samples
        self.split = split
        self.labels = labels
        self.channels = channels
        self.transform = transform
        self.resize = resize
        self.seed = seed
        self._sizes = None if sizes is None else [(int(h), int(w)) for h, w in sizes]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | Key) -> Sample:
        """One sample; a key of more than an index seeds the augmentation.

        Raises:
            DataError: As `draw`.
        """
        index, seed, place = parse_key(key)
        name, image, mask = self._read(index)
        seed = (self.seed, *seed)
        return make_sample(image, mask, name, self.transform, self.resize, seed, place)

    def draw(self, index: int) -> tuple[Array, Array]:
        """Image (H, W, C) and class ids (H, W), uint8, before any augmentation.

        Raises:
            DataError: If the sample is none, or holds a label without a class.
        """
        return self._read(index)[1:]

    def mask_values(self, index: int) -> MaskValues:
        """As `SegmentationDataset.mask_values`; the values are ids."""
        return MaskValues(self._read(index)[2], lambda ids: ids)

    @property
    def groups(self) -> Sequence[Hashable]:
        """Size of each image; where it is not known, its index, so that each is a batch alone."""
        if self._sizes is not None:
            return self._sizes
        rank_zero_only(log.info)(
            f"{self.kind} has no `sizes`: its images are judged one at a time. Give it a list of "
            "the (height, width) of each to judge data.eval_batch_size at a time."
        )
        return range(len(self))

    def _read(self, index: int) -> tuple[str, Array, Array]:
        """Name, image (H, W, C) and class ids (H, W) of a sample."""
        where = f"data.dataset {self.kind}, {self.split}[{index}]"
        try:
            sample = self.samples[index]
        except InputError:
            raise
        except Exception as error:
            raise DataError(f"{where}: {type(error).__name__}: {error}") from error
        if not isinstance(sample, Mapping) or not {"image", "mask"} <= sample.keys():
            found = f"keys {[*sample]}" if isinstance(sample, Mapping) else type(sample).__name__
            raise DataError(f"{where}: {found}; expected {{'image': ..., 'mask': ...}}.")
        image = _image(where, sample["image"], self.channels)
        mask = self.labels.of_values(where, _mask(where, sample["mask"], image.shape[:2]))
        if self._sizes is not None and self._sizes[index] != image.shape[:2]:
            raise DataError(
                f"{where}: an image of {image.shape[:2]}, but its `sizes` has {self._sizes[index]}."
            )
        return str(sample.get("name", f"{self.split}/{index:05d}")), image, mask


def _image(where: str, image: Any, channels: int) -> Array:
    """A copy of an image as an array (H, W, C), so that nothing is written into the user's."""
    tensor = isinstance(image, Tensor)
    found = image.permute(1, 2, 0).numpy() if tensor and image.ndim == 3 else np.asarray(image)
    found = found[..., None] if found.ndim == 2 else found
    if found.dtype != np.uint8 or found.ndim != 3 or found.shape[2] != channels:
        layout = f"a tensor ({channels}, H, W)" if tensor else f"an array (H, W, {channels})"
        raise DataError(
            f"{where}: an image {image.dtype if tensor else found.dtype} "
            f"{tuple(np.shape(image))}; expected {layout} of uint8, as data.in_channels is "
            f"{channels}."
        )
    return np.array(found, order="C")


def _mask(where: str, mask: Any, size: tuple[int, ...]) -> Array:
    """A mask as an array (H, W) of integers."""
    found = mask.numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if found.dtype.kind not in "iub" or found.shape != size:
        raise DataError(
            f"{where}: a mask {found.dtype} {found.shape}; expected integers {size}, as its image."
        )
    return found
