"""SegmentationDataModule: loaders for every stage, the same samples however work is split."""

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from torch.utils.data import DataLoader

from seg.data.augment.copy_paste import Components
from seg.data.augment.transforms import TrainingTransform
from seg.data.dataset import Sample, SegmentationDataset
from seg.data.files.labels import Labels, names_for
from seg.data.files.orientation import ExifPolicy
from seg.data.files.predicted_images import PredictedImages, find_images, with_sizes
from seg.data.groups import check_groups
from seg.data.loading import TrainLoader, WorkerLoader, local_rank_first, make_loader, place_of
from seg.data.own_dataset import DatasetFactory
from seg.data.sampling.batch_samplers import EvaluationBatchSampler, TrainBatchSampler
from seg.data.sampling.image_samplers import ImageSampler
from seg.data.scan.class_counts import ClassCounts
from seg.data.scan.empty_classes import nothing_to_learn, refuse_empty
from seg.data.scan.scan_masks import Advance, MaskFaults, accept
from seg.data.scan.table import Scan
from seg.data.settings import (
    check_counts,
    check_image_range,
    refuse_unused,
    resolve_class_colors,
    resolve_class_names,
    resolve_shown_channels,
)
from seg.data.sources import AnyDataset, FileSource, OwnSource, Source, SyntheticSource

_STAGES = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}


class SegmentationDataModule(L.LightningDataModule):
    """Images and masks in folders, a data set of one's own, or the synthetic set.

    Args:
        root: Folder of the data. The command line takes it from SEG_DATA_ROOT if it is not given.
            Left out, with dataset: a synthetic set, made on the fly.
        images: Folder of the images below root; {split} is replaced by the name of the split.
            Searched recursively; an image and its mask share their path but for the extension.
            Where their names differ, what they share is {stem}: "{split}/{stem}_image".
        masks: Folder of the masks, or their names, such as "{split}/{stem}_mask"; or annotations: a
            COCO file, such as "{split}.json", or labelme's, "{split}/{stem}.json".
        split_files: Text files below root, such as splits/{split}.txt, that list the images of a
            split, a name or path on each line; a second column, if any, is the mask.
        split_fractions: Share of each split, such as {train: 0.8, val: 0.1, test: 0.1}, in a
            random division of one folder.
        split_seed: Seed of that division. Runs with another seed keep the same test split.
        train_split: Name of the split to train on.
        val_split: Name of the split that validates.
        test_split: Name of the split that tests.
        class_names: The name of each class, by its id. Required with root or dataset.
        class_colors: The RGB colour of each class: for pictures, and to read masks stored as
            colours or with a palette, whose indices are then not looked at.
        ignore_colors: RGB colours that are ignored in masks stored as colours.
        label_map: Value in the mask files, or a range such as "1-20", to class id, or to ignore.
            Values that are not listed must be class ids or 255, which is ignored.
        mask_threshold: Grey level above which a pixel of soft or JPEG masks is the second class.
        color_tolerance: Euclidean distance in RGB within which a pixel of a mask has the class of
            the nearest colour, such as 100, for masks of colours with soft edges or in JPEG.
        allow_empty_classes: Whether to train, with a warning, although a class has no training
            pixel, or most of the training masks are ignored as a whole.
        in_channels: Channels of the images.
        shown_channels: Which channels are red, green and blue in pictures, such as [3, 2, 1]. Left
            out, the first three.
        image_range: Low and high value, [low, high], that become 0 and 255 in images deeper than
            8 bits. Left out, the full range of their type.
        exif_orientation: apply, the default, turns images upright by their EXIF data; or ignore.
        resize: Height and width, [h, w], of the images. In evaluation masks keep their own size.
        crop_size: Height and width of the training crops.
        crops_per_image: Crops of each training image in an epoch: more than 1 for large images.
        scale_jitter: Range of the random scale before the crop; [1, 1] is none.
        transforms: Augmentation after the crop, a list such as [{HorizontalFlip: {p: 0.5}}] of
            albumentations class names and arguments; CopyPaste is one of ours. Left out, a flip
            and a change of colours; an empty list is none.
        sampler: What draws the training samples, such as seg.data.ClassFirstSampler or
            seg.data.RepeatFactorSampler, for rare classes. Left out, each image is drawn once in
            an epoch, with a crop anywhere in it.
        batch_size: Images of one optimiser step, over all devices.
        eval_batch_size: Most images of a batch on each device in evaluation.
        num_workers: Loader processes of each device. Left out, one less than its share of the
            CPU cores, at most 8.
        predict: Images to predict: a folder, a file, or a list of either.
        group: As seg split --group: images of a group, say a patient or a video, count as one in
            the intervals of scores. Left out, each image counts alone.
        seed: Seed of the order and the augmentation of training samples.
        synthetic_length: Training images of the synthetic set; validation and test have a quarter.
        synthetic_size: Height and width of the synthetic images.
        dataset: Instead of root, a torch Dataset of your own, made from the name of a split, of
            {"image": uint8 array (H, W, C) or tensor (C, H, W), "mask": integers (H, W)}.

    Raises:
        InputError: If an option is out of range, or does not apply.
    """

    def __init__(
        self,
        root: str | None = None,
        images: str = "images/{split}",
        masks: str = "masks/{split}",
        split_files: str | None = None,
        split_fractions: dict[str, float] | None = None,
        split_seed: int = 0,
        train_split: str = "train",
        val_split: str = "val",
        test_split: str = "test",
        class_names: list[str] | None = None,
        class_colors: list[list[int]] | None = None,
        ignore_colors: list[list[int]] | None = None,
        label_map: dict[int | str, int | str] | None = None,
        mask_threshold: float | None = None,
        color_tolerance: float | None = None,
        allow_empty_classes: bool = False,
        in_channels: int = 3,
        shown_channels: list[int] | None = None,
        image_range: list[float] | None = None,
        exif_orientation: ExifPolicy | None = None,
        resize: list[int] | None = None,
        crop_size: list[int] = [128, 128],  # noqa: B006  (never changed; shown by --help)
        crops_per_image: int = 1,
        scale_jitter: list[float] = [0.75, 1.5],  # noqa: B006
        transforms: list[dict[str, dict[str, Any]]] | None = None,
        sampler: ImageSampler | None = None,
        batch_size: int = 8,
        eval_batch_size: int = 8,
        num_workers: int | None = None,
        predict: str | list[str] | None = None,
        group: str | None = None,
        seed: int = 0,
        synthetic_length: int = 128,
        synthetic_size: list[int] = [128, 128],  # noqa: B006
        dataset: DatasetFactory | None = None,
    ) -> None:
        super().__init__()
        # a rank may have no image at all when there are fewer than ranks
        self.allow_zero_length_dataloader_with_multiple_devices = True
        finder: dict[str, Any] = {"images": images, "masks": masks, "split_files": split_files}
        finder |= {"split_fractions": split_fractions, "split_seed": split_seed}
        files = finder | {"ignore_colors": ignore_colors, "image_range": image_range}
        files |= {"mask_threshold": mask_threshold, "color_tolerance": color_tolerance}
        files |= {"exif_orientation": exif_orientation}
        splits = {"train_split": train_split, "val_split": val_split, "test_split": test_split}
        given: dict[str, Any] = {"class_colors": class_colors, "label_map": label_map}
        given |= {"in_channels": in_channels, "allow_empty_classes": allow_empty_classes}
        made = {"synthetic_length": synthetic_length, "synthetic_size": synthetic_size}
        defaults = inspect.signature(SegmentationDataModule).parameters
        refuse_unused(root, dataset, files, splits | given, made, defaults)
        check_counts(1, batch_size=batch_size, eval_batch_size=eval_batch_size)
        check_counts(1, in_channels=in_channels)
        check_counts(1, synthetic_length=synthetic_length, crops_per_image=crops_per_image)
        check_counts(0, num_workers=0 if num_workers is None else num_workers)
        check_image_range(image_range)
        check_groups(group, "data.group")
        self.class_names = resolve_class_names(root, class_names, dataset)
        self.num_classes = len(self.class_names)
        self.class_colors = resolve_class_colors(root, class_colors, dataset)
        self.root, self.in_channels = root, in_channels
        self.shown_channels = resolve_shown_channels(in_channels, shown_channels)
        self.splits = {role: splits[f"{role}_split"] for role in ("train", "val", "test")}
        self.resize, self.sampler = resize, sampler
        self.crops_per_image = crops_per_image
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.num_workers, self.predict, self.group = num_workers, predict, group
        self.allow_empty_classes = allow_empty_classes
        self.predict_output: Path | None = None
        """Where `PredictionWriter` writes: that is no input, and images may be unreadable then."""
        self.predicted = PredictedImages()
        self._reading: dict[str, Any] = {"resize": resize, "channels": in_channels}
        self._reading |= {"image_range": image_range, "exif_orientation": exif_orientation}
        self._source: Source = SyntheticSource(synthetic_length, synthetic_size, resize, seed)
        if root is not None:
            reading = label_map, class_colors, ignore_colors, mask_threshold, color_tolerance
            labels = Labels(self.num_classes, *reading, names_for(masks, self.class_names))
            self._source = FileSource(root, self.splits, finder, labels, self._reading, seed)
        elif dataset is not None:
            labels = Labels(self.num_classes, label_map)
            self._source = OwnSource(dataset, self.splits, labels, in_channels, resize, seed)
        shape = crop_size, resize, scale_jitter
        self._transform = TrainingTransform(*shape, transforms, in_channels)
        self._datasets: dict[str, AnyDataset] = {}
        self._scans: dict[str, Scan] = {}

    def setup(self, stage: str) -> None:
        """Find and check the files of a stage's splits; a fit reads all masks that it is new to.

        Args:
            stage: fit, validate, test or predict.

        Raises:
            DataError: If files are missing, unreadable or of unequal sizes, or in a fit masks hold
                labels without a class, or nothing to learn a class from; all are counted.
        """
        if stage == "predict":
            reading = self._reading | {"all_needed": self.predict_output is None}
            found = find_images(self.predict, self.predict_output)
            self.predicted = with_sizes(found, reading["all_needed"], reading["exif_orientation"])
            self._datasets["predict"] = SegmentationDataset(self.predicted.pairs, **reading)
            return
        self._find(_STAGES[stage])
        if stage == "fit" and not isinstance(self._source, SyntheticSource):
            # the others take its scan of files from the cache
            with nullcontext() if self.root is None else local_rank_first(self.trainer):
                train, val = self.scan("train"), self.scan("val")
            faults = nothing_to_learn(self.dataset("train"), train, self.class_names)
            refuse_empty(train, val, faults, self.allow_empty_classes)

    def _find(self, roles: Sequence[str]) -> None:
        wanted = [role for role in roles if role not in self._datasets]
        self._datasets |= self._source.find(wanted, self._transform)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled, augmented crops; the share of this rank."""
        for step in self._transform.copy_pastes:
            scan, read = self.scan("train"), self._datasets["train"].draw
            classes = step.class_ids(self.class_names)
            step.sources = Components.of(scan, classes, read, self._transform.resize)
        draw = None if self.sampler is None else partial(self.sampler.draw, self.scan("train"))
        sampler = TrainBatchSampler(
            *(len(self._datasets["train"]), self.batch_size, *place_of(self.trainer), self.seed),
            draw,
            None if self.sampler is None else repr(self.sampler),
            repeat=getattr(self.trainer, "overfit_batches", 0) > 0,
            crops_per_image=self.crops_per_image,
        )
        return self._loader("train", sampler, TrainLoader)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Whole images of the validation split."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """Whole images of the test split."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Sample]:
        """Whole images of `data.predict`, without masks."""
        return self._evaluation_loader("predict")

    def class_counts(self) -> ClassCounts:
        """Pixels and images of each class in the training masks.

        Raises:
            DataError: As `scan`.
        """
        return self.scan("train").class_counts()

    def scan(self, role: str) -> Scan:
        """What all masks of the train, val or test split hold, found once.

        Raises:
            DataError: If a mask cannot be read, or holds a label without a class; all are counted.
        """
        if role not in self._scans:
            found, dataset = self.try_scan(role), self.dataset(role)
            files = dataset.pairs.masks if isinstance(dataset, SegmentationDataset) else ()
            self._scans[role] = accept(*found, files)
        return self._scans[role]

    def dataset(self, role: str) -> AnyDataset:
        """The train, val or test split, found and checked where it was not yet.

        Raises:
            DataError: As `setup`.
        """
        self._find([role])
        return self._datasets[role]

    @property
    def crop_size(self) -> tuple[int, int]:
        """Height and width of the training crops."""
        return self._transform.crop_size

    def crop_in_image(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width that a training crop at scale 1 covers in an image of that size."""
        base = self.resize or size
        height, width = self.crop_size
        return round(height * size[0] / base[0]), round(width * size[1] / base[1])

    def try_scan(self, role: str, advance: Advance = lambda: None) -> tuple[Scan, MaskFaults]:
        """As `scan`, but with what is wrong with masks by index, instead of an error."""
        known = self._scans.get(role)
        return self._source.scan(self.dataset(role), advance) if known is None else (known, {})

    def _evaluation_loader(self, role: str) -> DataLoader[Sample]:
        dataset, place = self._datasets[role], place_of(self.trainer)
        batches = range(len(dataset)), dataset.groups, self.eval_batch_size, *place
        return self._loader(role, EvaluationBatchSampler(*batches))

    def _loader(
        self, role: str, batches: Any, kind: type[WorkerLoader] = WorkerLoader
    ) -> DataLoader[Sample]:
        return make_loader(kind, self._datasets[role], batches, self.num_workers, self.trainer)
