"""Where the splits of a data set come from: files, or the program itself."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from seg.data.augment.transforms import TrainingTransform
from seg.data.dataset import SegmentationDataset
from seg.data.files.labels import Labels
from seg.data.files.pairing import check, find_pairs
from seg.data.scan.cache import ScanMemory
from seg.data.synthetic import SyntheticDataset

AnyDataset = SegmentationDataset | SyntheticDataset


class Source(Protocol):
    """Gives the splits of a data set, by their role: train, val or test."""

    def find(self, roles: Sequence[str], transform: TrainingTransform) -> dict[str, AnyDataset]:
        """The splits of these roles; the training split is augmented by `transform`.

        Raises:
            DataError: If files are missing, unreadable or of unequal sizes; all are counted.
        """
        ...

    def memory(self, dataset: AnyDataset) -> ScanMemory | None:
        """Where the scans of the split's masks are kept, where they can be."""
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
        self.root = root
        self.splits = splits
        self.finder = finder
        self.labels = labels
        self.reading = reading
        self.seed = seed

    def find(self, roles: Sequence[str], transform: TrainingTransform) -> dict[str, AnyDataset]:
        """As `Source.find`."""
        found = check([find_pairs(self.root, self.splits[role], **self.finder) for role in roles])
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

    def memory(self, dataset: AnyDataset) -> ScanMemory:
        """As `Source.memory`."""
        assert isinstance(dataset, SegmentationDataset)
        masks, labels = dataset.pairs.masks, self.labels
        return ScanMemory(self.root, masks, labels.fingerprint, labels.num_classes)


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

    def memory(self, dataset: AnyDataset) -> None:
        """As `Source.memory`: pictures are made faster than read."""
