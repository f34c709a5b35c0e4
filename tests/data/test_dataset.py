"""Files become samples: augmented by their seed for training, whole for evaluation."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from seg.constants import IGNORE_INDEX
from seg.data.augment.transforms import TrainingTransform
from seg.data.dataset import SegmentationDataset
from seg.data.files.headers import DataError
from seg.data.files.labels import Labels
from seg.data.files.pairing import Pairs, check, find_pairs
from seg.data.files.predicted_images import find_images, with_sizes
from seg.data.sampling.batch_samplers import TrainBatchSampler
from seg.data.scan.scan_masks import scan_masks

SIZES = [(40, 60)] * 4 + [(48, 52)] * 5


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for i, size in enumerate(SIZES):
        for part in ("images", "masks"):
            (folder / part / "train").mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(image).save(folder / f"images/train/{i}.png")
        mask = rng.choice([0, 1, 2, 11], size).astype(np.uint8)
        Image.fromarray(mask).save(folder / f"masks/train/{i}.png")
    return folder


@pytest.fixture
def pairs(root: Path) -> Pairs:
    return check([find_pairs(root, "train")])[0]


LABELS = Labels(3, {11: 255})


def raw(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        return np.array(file)


def test_a_whole_sample_is_the_files_content(root: Path, pairs: Pairs) -> None:
    sample = SegmentationDataset(pairs, LABELS)[5]
    image, mask = (raw(root / f"{part}/train/5.png") for part in ("images", "masks"))
    np.testing.assert_array_equal(sample["image"], image.transpose(2, 0, 1))
    np.testing.assert_array_equal(sample["mask"], np.where(mask == 11, IGNORE_INDEX, mask))
    assert sample["image"].dtype == sample["mask"].dtype == torch.uint8
    assert sample["name"] == "5"


def test_resizing_for_evaluation_leaves_the_mask_at_its_own_size(root: Path, pairs: Pairs) -> None:
    sample = SegmentationDataset(pairs, LABELS, resize=[20, 30])[0]
    assert sample["image"].shape == (3, 20, 30)
    expected = cv2.resize(raw(root / "images/train/0.png"), (30, 20), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(sample["image"], expected.transpose(2, 0, 1))
    assert sample["mask"].shape == (40, 60)


def test_without_masks_a_sample_has_its_own_size(root: Path) -> None:
    pairs = with_sizes(find_images(str(root / "images"))).pairs
    sample = SegmentationDataset(pairs, resize=[20, 30])[8]
    assert sample.keys() == {"image", "name", "size", "fault"}
    assert sample["fault"] == ""
    assert sample["name"] == "train/8"
    assert sample["size"].tolist() == [48, 52]


def test_an_image_to_predict_that_cannot_be_decoded_raises_unless_it_may_be_left_out(
    root: Path, tmp_path: Path
) -> None:
    data = (root / "images/train/0.png").read_bytes()
    (tmp_path / "0.png").write_bytes(data[: len(data) // 2])
    dataset = SegmentationDataset(with_sizes(find_images(str(tmp_path))).pairs)
    with pytest.raises(DataError, match=r"0\.png: cannot be read"):
        dataset[0]
    dataset.all_needed = False
    sample = dataset[0]
    assert not sample["image"].any()
    assert list(sample["image"].shape[1:]) == sample["size"].tolist()
    assert "0.png: cannot be read" in sample["fault"]


def test_training_samples_are_a_function_of_seed_epoch_and_index(pairs: Pairs) -> None:
    def sample(seed: int, epoch: int, index: int) -> torch.Tensor:
        transform = TrainingTransform((32, 32))
        return SegmentationDataset(pairs, LABELS, transform, seed=seed)[epoch, index]["image"]

    assert torch.equal(sample(0, 1, 2), sample(0, 1, 2))
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3)):
        assert not torch.equal(sample(0, 1, 2), sample(*other))


class Counting(SegmentationDataset):
    """Notes which images are decoded."""

    def draw(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        self.decoded = [*getattr(self, "decoded", []), index]
        return super().draw(index)


def test_samples_of_an_image_that_follow_each_other_decode_it_once(pairs: Pairs) -> None:
    keys = [(0, 5, turn, -1) for turn in range(3)] + [(0, 2, 3, -1), (0, 5, 4, 70)]
    # crops of the image's own size are views of it, into which a transform may write
    transform = TrainingTransform((48, 52), None, (1, 1), [{"PixelDropout": {"p": 1}}])
    dataset = Counting(pairs, LABELS, transform)
    found = [dataset.__getitems__([key])[0] for key in keys]
    dataset.decoded = []
    for alone, together in zip(found, dataset.__getitems__(keys), strict=True):
        assert torch.equal(alone["image"], together["image"])
        assert torch.equal(alone["mask"], together["mask"])
    assert dataset.decoded == [5, 2, 5]


def test_an_index_alone_is_epoch_0(pairs: Pairs) -> None:
    dataset = SegmentationDataset(pairs, LABELS, TrainingTransform((32, 32)))
    assert torch.equal(dataset[3]["image"], dataset[0, 3]["image"])


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker")  # more than cores
@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_the_same_for_any_number_of_workers(pairs: Pairs, workers: int) -> None:
    def batches(workers: int) -> list[dict]:
        dataset = SegmentationDataset(pairs, LABELS, TrainingTransform((32, 32)))
        sampler = TrainBatchSampler(len(dataset), 4)
        loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="fork" if workers else None,
        )
        found = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            found += list(loader)
        return found

    alone, shared = batches(0), batches(workers)
    assert len(alone) == len(shared) == 4
    for a, b in zip(alone, shared, strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["mask"], b["mask"])
        assert a["name"] == b["name"]
    assert not torch.equal(alone[0]["image"], alone[2]["image"])


def test_files_that_break_after_the_check_are_named(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / part / "train").mkdir(parents=True)
        Image.fromarray(np.full((40, 40), 9, np.uint8)).save(tmp_path / part / "train/a.png")
    dataset = SegmentationDataset(check([find_pairs(tmp_path, "train")])[0], LABELS)
    with pytest.raises(DataError, match=r"masks/train/a.png: label 9 \(1600 pixels\)"):
        dataset[0]
    image = tmp_path / "images/train/a.png"
    image.write_bytes(image.read_bytes()[:60])
    with pytest.raises(DataError, match=r"images/train/a.png: cannot be read"):
        dataset[0]


def test_class_counts_equal_those_of_the_files(root: Path, pairs: Pairs) -> None:
    dataset = SegmentationDataset(pairs, LABELS, TrainingTransform((32, 32)))
    counts = scan_masks(dataset, 3)[0].class_counts()
    masks = [raw(path) for path in pairs.masks]
    valid = [(mask != 11).sum() for mask in masks]
    for c in range(3):
        assert counts.pixels[c] == sum((mask == c).sum() for mask in masks)
        assert counts.image_pixels[c] == sum(valid)  # every class is in every image
        assert counts.images[c] == len(masks)
    assert counts.pixels.dtype == counts.image_pixels.dtype == counts.images.dtype == torch.int64


def test_class_counts_of_a_known_case(tmp_path: Path) -> None:
    masks = {"a": [[0, 0, 0, 1], [0, 0, 255, 255]], "b": [[0, 0, 0, 0], [0, 0, 0, 0]]}
    for part in ("images", "masks"):
        (tmp_path / part / "train").mkdir(parents=True)
        for name, mask in masks.items():
            Image.fromarray(np.array(mask, np.uint8)).save(tmp_path / part / f"train/{name}.png")
    dataset = SegmentationDataset(check([find_pairs(tmp_path, "train")])[0], Labels(3))
    counts = scan_masks(dataset, 3)[0].class_counts()
    assert counts.pixels.tolist() == [13, 1, 0]
    assert counts.image_pixels.tolist() == [6 + 8, 6, 0]
    assert counts.images.tolist() == [2, 1, 0]


def test_a_scan_names_the_files_with_an_unknown_label_and_counts_nothing_of_them(
    pairs: Pairs,
) -> None:
    scan, faults = scan_masks(SegmentationDataset(pairs, Labels(3)), 3)
    assert sorted(faults) == list(range(len(pairs)))
    assert re.search(r"0.png: label 11 \(\d+ pixels\) is in neither label_map", str(faults[0]))
    assert scan.pixels.sum() == 0
