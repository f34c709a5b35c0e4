"""Where the splits of a data set come from: files, the program itself, or the user's own class."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from seg.data.augment.transforms import TrainingTransform
from seg.data.dataset import SegmentationDataset
from seg.data.files.headers import DataError
from seg.data.files.image_range import warn_of_little_range
from seg.data.files.labels import Labels
from seg.data.files.orientation import ExifPolicy, say_policy
from seg.data.files.pairing import check, find_pairs
from seg.data.own_dataset import DatasetFactory, OwnDataset
from seg.data.scan.cache import ScanMemory
from seg.data.scan.scan_masks import Advance, MaskFaults, scan_masks
from seg.data.scan.table import Scan
from seg.data.synthetic import CLASS_NAMES, SyntheticDataset
from seg.errors import InputError

AnyDataset = SegmentationDataset | SyntheticDataset | OwnDataset


class Source(Protocol):
    """Gives the splits of a data set, by their role: train, val or test."""

    def find(self, roles: Sequence[str], transform: TrainingTransform) -> dict[str, AnyDataset]:
        """The splits of these roles; the training split is augmented by `transform`.

        Raises:
            DataError: If files are missing, unreadable or of unequal sizes; all are counted.
        """
        ...

    def scan(self, dataset: AnyDataset, advance: Advance) -> tuple[Scan, MaskFaults]:
        """As `scan_masks`, of a split that was found."""
        ...


class FileSource:
    """Images and masks in folders.

    Args:
        root: Folder of the data.
        splits: Name of the split of each role.
        finder: How `find_pairs` finds the files of a split.
        labels: How masks are read.
        reading: How `SegmentationDataset` reads images.
        seed: Seed of the augmentation.
    """

    def __init__(
        self,
        root: str,
        splits: Mapping[str, str],
        finder: Mapping[str, Any],
        labels: Labels,
        reading: Mapping[str, Any],
        seed: int,
    ) -> None:
        self.root = os.path.expanduser(root)
        self.splits = splits
        self.finder = finder
        self.labels = labels
        self.reading = reading
        self.seed = seed
        self._told_orientation = False

    def find(self, roles: Sequence[str], transform: TrainingTransform) -> dict[str, AnyDataset]:
        """As `Source.find`."""
        splits = [find_pairs(self.root, self.splits[role], **self.finder) for role in roles]
        policy: ExifPolicy | None = self.reading["exif_orientation"]
        found = check(splits, self.labels.takes_lossy, policy)
        if policy is None and not self._told_orientation:
            self._told_orientation = say_policy(
                [path for pairs in found for path in pairs.images],
                [size for pairs in found for size in pairs.sizes],
            )
        if "train" in roles and self.reading["image_range"] is None:
            warn_of_little_range(found[[*roles].index("train")].images)
        return {
            role: SegmentationDataset(
                pairs,
                self.labels,
                transform if role == "train" else None,
                **self.reading,
                seed=self.seed,
            )
            for role, pairs in zip(roles, found, strict=True)
        }

    def scan(self, dataset: AnyDataset, advance: Advance) -> tuple[Scan, MaskFaults]:
        """As `Source.scan`; what is known of files that did not change is not read again."""
        assert isinstance(dataset, SegmentationDataset)
        masks, labels = dataset.pairs.masks, self.labels
        memory = ScanMemory(self.root, masks, labels.fingerprint, labels.num_classes)
        return scan_masks(dataset, labels.num_classes, memory, advance)


class SyntheticSource:
    """The synthetic set.

    Args:
        length: Training images; validation and test have a quarter.
        size: Height and width of the images.
        resize: As in `SyntheticDataset`.
        seed: Seed of pictures and augmentation.
    """

    def __init__(
        self, length: int, size: Sequence[int], resize: Sequence[int] | None, seed: int
    ) -> None:
        self.lengths = {"train": length, "val": max(1, length // 4), "test": max(1, length // 4)}
        self.size = size
        self.resize = resize
        self.seed = seed

    def find(self, roles: Sequence[str], transform: TrainingTransform) -> dict[str, AnyDataset]:
        """As `Source.find`."""
        return {
            role: SyntheticDataset(
                role,  # type: ignore[arg-type]
                self.lengths[role],
                self.size,
                self.seed,
                transform if role == "train" else None,
                self.resize,
            )
            for role in roles
        }

    def scan(self, dataset: AnyDataset, advance: Advance) -> tuple[Scan, MaskFaults]:
        """As `Source.scan`; pictures are made faster than read."""
        return scan_masks(dataset, len(CLASS_NAMES), None, advance)


class OwnSource:
    """Data sets of the user's own.

    Args:
        make: From the name of a split to its data set.
        splits: Name of the split of each role.
        labels: From values of the masks to class ids.
        channels: Channels of the images.
        resize: As in `OwnDataset`.
        seed: Seed of the augmentation.

    Raises:
        InputError: If `make` is a data set already.
    """

    def __init__(
        self,
        make: DatasetFactory,
        splits: Mapping[str, str],
        labels: Labels,
        channels: int,
        resize: Sequence[int] | None,
        seed: int,
    ) -> None:
        if not callable(make):
            raise InputError(
                f"data.dataset: an object of {type(make).__name__}; expected a class or a function "
                "that makes the data set of a split from its name, such as lambda split: ..."
            )
        self.make = make
        self.splits = splits
        self.labels = labels
        self.channels = channels
        self.resize = resize
        self.seed = seed

    def find(self, roles: Sequence[str], transform: TrainingTransform) -> dict[str, AnyDataset]:
        """As `Source.find`."""
        return {
            role: OwnDataset(
                self._made(self.splits[role]),
                self.splits[role],
                self.labels,
                self.channels,
                transform if role == "train" else None,
                self.resize,
                self.seed,
            )
            for role in roles
        }

    def scan(self, dataset: AnyDataset, advance: Advance) -> tuple[Scan, MaskFaults]:
        """As `Source.scan`; one sample is read after the other, as its code may not allow more."""
        return scan_masks(dataset, self.labels.num_classes, None, advance, threads=1)

    def _made(self, split: str) -> Any:
        try:
            return self.make(split)
        except InputError:
            raise
        except Exception as error:
            kind = type(error).__name__
            raise DataError(f"data.dataset: the split {split}: {kind}: {error}") from error
