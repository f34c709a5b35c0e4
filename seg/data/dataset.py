"""SegmentationDataset: files to samples."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from seg.data.augment.cropping import resize_image
from seg.data.augment.transforms import TrainingTransform
from seg.data.files.decoding import read_image
from seg.data.files.headers import DataError
from seg.data.files.labels import Labels, MaskValues
from seg.data.files.orientation import ExifPolicy
from seg.data.files.pairing import Pairs

Sample = dict[str, Any]

Key = tuple[int, int] | tuple[int, int, int, int]
"""A training sample: epoch and index; or, where an epoch may have one more than once, epoch, index,
number of the draw and the pixel that the crop has to show (row · width + column; -1 is any)."""

ParsedKey = tuple[int, tuple[int, ...], int | None]
"""As `parse_key` gives it."""


class SegmentationDataset(Dataset[Sample]):
    """Samples of a split: augmented crops with a `transform`, else whole images.

    A sample is `{"image": uint8 (C, H, W), "mask": uint8 (h, w), "name": str}`. A whole image is
    resized to `resize`, but its mask keeps its own size. Without masks, `"size"` is the image's
    own (height, width), to bring a prediction back, and `"fault"` what is wrong with its file or
    empty.

    Args:
        pairs: The files, checked.
        labels: How masks are read; None where there are none.
        transform: Training augmentation.
        resize: Height and width of whole images; left out, their own.
        channels: Channels of the images.
        image_range: Values that become 0 and 255 in images deeper than 8 bits.
        seed: Seed of the augmentation, together with epoch and index.
        exif_orientation: `apply` or `ignore`. Left out, images are turned upright.
        all_needed: Whether an image without a mask that cannot be read is an error.
    """

    def __init__(
        self,
        pairs: Pairs,
        labels: Labels | None = None,
        transform: TrainingTransform | None = None,
        resize: Sequence[int] | None = None,
        channels: int = 3,
        image_range: Sequence[float] | None = None,
        seed: int = 0,
        exif_orientation: ExifPolicy | None = None,
        all_needed: bool = True,
    ) -> None:
        self.pairs = pairs
        self.labels = labels
        self.transform = transform
        self.resize = resize
        self.channels = channels
        self.image_range = image_range
        self.upright = exif_orientation != "ignore"
        self.seed = seed
        self.all_needed = all_needed

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int | Key) -> Sample:
        """One sample.

        Args:
            key: Index, or what seeds the augmentation as well.

        Raises:
            DataError: If a file cannot be decoded, or holds a label without a class.
        """
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int | Key]) -> list[Sample]:
        """The samples of a batch; torch's loaders ask for them at once.

        An image is decoded once for all of its samples that follow each other.

        Raises:
            DataError: As `__getitem__`.
        """
        samples: list[Sample] = []
        for index, group in groupby(map(parse_key, keys), key=itemgetter(0)):
            samples += self._samples(index, group)
        return samples

    def _samples(self, index: int, keys: Iterable[ParsedKey]) -> Iterator[Sample]:
        """Those of one image."""
        if self.labels is None:
            yield from (self._without_mask(index) for _ in keys)
            return
        image, mask = self.draw(index)
        for _, seed, place in keys:
            arguments = self.pairs.names[index], self.transform, self.resize
            yield make_sample(image, mask, *arguments, (self.seed, *seed), place)

    def _without_mask(self, index: int) -> Sample:
        """An image to predict; one that cannot be read and is not needed is black."""
        name, fault = self.pairs.names[index], ""
        try:
            image = self._image(index)
        except DataError as error:
            if self.all_needed:
                raise
            fault = str(error)
            image = np.zeros((*self.pairs.sizes[index], self.channels), np.uint8)
        size = torch.tensor(image.shape[:2])
        image = _resized(image, self.resize)
        return {"image": to_tensor(image), "name": name, "size": size, "fault": fault}

    def mask(self, index: int) -> NDArray[Any]:
        """Class ids (H, W) of one sample before any augmentation."""
        assert self.labels is not None
        return self.labels.read(self.pairs.masks[index])

    def draw(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Image (H, W, C) and class ids (H, W) of one sample before any augmentation."""
        return self._image(index), self.mask(index)

    def _image(self, index: int) -> NDArray[Any]:
        path = self.pairs.images[index]
        return read_image(path, self.channels, self.image_range, self.upright)

    def mask_values(self, index: int) -> MaskValues:
        """What one sample's mask holds, for those who need the class ids of some pixels only."""
        assert self.labels is not None
        return self.labels.read_values(self.pairs.masks[index])

    @property
    def groups(self) -> Sequence[tuple[int, int]]:
        """Size of each image; samples of one batch must share it."""
        return self.pairs.sizes


def parse_key(key: int | Key) -> ParsedKey:
    """Index of a sample, the numbers that seed its augmentation, and the pixel to show, if any."""
    if not isinstance(key, tuple):
        return key, (0, key), None
    place = key[3] if len(key) == 4 and key[3] >= 0 else None
    return key[1], key[:3], place


def make_sample(
    image: NDArray[Any],
    mask: NDArray[Any],
    name: str,
    transform: TrainingTransform | None,
    resize: Sequence[int] | None,
    seed: Sequence[int],
    place: int | None = None,
) -> Sample:
    """Augment an image and its mask for training, or only resize the image for evaluation."""
    if transform is not None:
        focus = None if place is None else divmod(place, mask.shape[1])
        image, mask = transform(image, mask, seed, focus)
    else:
        image = _resized(image, resize)
    return {"image": to_tensor(image), "mask": torch.from_numpy(mask), "name": name}


def to_tensor(image: NDArray[Any]) -> Tensor:
    """Array (H, W, C) as a tensor (C, H, W), without a copy."""
    return torch.from_numpy(image).permute(2, 0, 1)


def _resized(image: NDArray[Any], resize: Sequence[int] | None) -> NDArray[Any]:
    return image if resize is None else resize_image(image, (resize[0], resize[1]))
