"""A data set of the user's own is trained on and judged as files are."""

import logging
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from seg.data import ClassFirstSampler, DataError, SegmentationDataModule
from seg.errors import InputError
from seg.losses import CrossEntropyLoss
from seg.module import SegmentationModule
from tests.data.test_datamodule import NAMES, write_split
from tests.own_data import Pairs, Tensors


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    write_split(folder, "train", [(40, 50), (60, 44)] * 3)
    write_split(folder, "val", [(40, 50), (30, 50), (40, 50), (30, 50), (40, 50)])
    return folder


SETTINGS: dict[str, Any] = {
    "class_names": NAMES,
    "batch_size": 3,
    "eval_batch_size": 2,
    "crop_size": [32, 32],
    "num_workers": 0,
}


def of_files(root: Path, **options: Any) -> SegmentationDataModule:
    return SegmentationDataModule(str(root), **SETTINGS | options)


def of_own(root: Path, kind: Any = Pairs, **options: Any) -> SegmentationDataModule:
    return SegmentationDataModule(dataset=lambda split: kind(split, root), **SETTINGS | options)


def batches(data: SegmentationDataModule, split: str, epochs: int = 1) -> list[dict[str, Any]]:
    data.setup("fit")
    loader = getattr(data, f"{split}_dataloader")()
    return [batch for _ in range(epochs) for batch in loader]


def assert_equal(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine["image"], theirs["image"])
        assert torch.equal(mine["mask"], theirs["mask"])


PASTE = [{"CopyPaste": {"classes": ["object"], "p": 1.0}}, {"HorizontalFlip": {"p": 0.5}}]


@pytest.mark.parametrize("kind", [Pairs, Tensors], ids=["arrays", "tensors"])
@pytest.mark.parametrize(
    "options",
    [{}, {"resize": [48, 48]}, {"sampler": ClassFirstSampler()}, {"transforms": PASTE}],
    ids=["plain", "resized", "sampler", "pasted"],
)
def test_training_batches_are_bit_for_bit_those_of_the_same_files(root, kind, options) -> None:
    expected = batches(of_files(root, **options), "train", epochs=2)
    assert_equal(batches(of_own(root, kind, **options), "train", epochs=2), expected)


def test_the_stream_is_that_of_any_number_of_workers(root) -> None:
    expected = batches(of_own(root), "train")
    assert_equal(batches(of_own(root, num_workers=2), "train"), expected)


@pytest.mark.parametrize("options", [{}, {"resize": [48, 48]}], ids=["own size", "resized"])
def test_whole_images_are_judged_in_the_batches_of_the_same_files(root, options) -> None:
    expected = batches(of_files(root, **options), "val")
    found = batches(of_own(root, Tensors, **options), "val")
    assert_equal(found, expected)
    assert [name for batch in found for name in batch["name"]] == ["00", "02", "01", "03", "04"]


def test_images_of_unknown_size_are_judged_one_at_a_time_to_the_same_scores(
    root, tmp_path, caplog
) -> None:
    def scores(data: SegmentationDataModule) -> dict[str, float]:
        torch.manual_seed(0)
        module = SegmentationModule(nn.Conv2d(3, 2, 3, padding=1), CrossEntropyLoss(), NAMES)
        run = L.Trainer(
            accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
        )
        return run.validate(module, datamodule=data, verbose=False)[0]

    one_by_one = of_own(root, lambda split, folder: Pairs(split, folder, with_sizes=False))
    with caplog.at_level(logging.INFO, logger="seg"):
        assert [len(b["image"]) for b in batches(one_by_one, "val")] == [1] * 5
    assert "Pairs has no `sizes`: its images are judged one at a time" in caplog.text
    expected = scores(of_files(root))
    found = scores(one_by_one)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6, nan_ok=True), name


def test_class_counts_are_those_of_the_same_files(root) -> None:
    found, expected = of_own(root).class_counts(), of_files(root).class_counts()
    assert found.pixels.tolist() == expected.pixels.tolist()
    assert found.image_pixels.tolist() == expected.image_pixels.tolist()
    assert found.images.tolist() == expected.images.tolist()


class Given(Dataset):
    """One sample, as given."""

    def __init__(self, sample: Any, **attributes: Any) -> None:
        self.sample = sample
        vars(self).update(attributes)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        return self.sample() if callable(self.sample) else self.sample


IMAGE = np.zeros((40, 50, 3), np.uint8)
MASK = np.zeros((40, 50), np.uint8)


def first(dataset: Dataset, **options: Any) -> dict[str, Any]:
    data = SegmentationDataModule(dataset=lambda split: dataset, **SETTINGS | options)
    return data.dataset("val")[0]


def test_masks_are_read_by_the_label_map_from_any_integer_type() -> None:
    values = np.array([[0, 1, 255], [300, 1, 0]])
    for mask in (values, torch.tensor(values), values.astype(np.uint16)):
        sample = {"image": np.zeros((2, 3, 3), np.uint8), "mask": mask}
        found = first(Given(sample), label_map={300: 1, 1: 255})["mask"]
        assert found.dtype == torch.uint8
        assert found.tolist() == [[0, 255, 255], [1, 255, 0]]


def test_a_mask_of_bools_and_an_image_of_one_channel_are_read() -> None:
    sample = {"image": IMAGE[..., 0], "mask": MASK > 0}
    found = first(Given(sample), in_channels=1)
    assert found["image"].shape == (1, 40, 50)
    assert found["mask"].unique().tolist() == [0]


def test_what_the_data_set_keeps_is_not_written_into() -> None:
    kept = IMAGE.copy()
    kept.flags.writeable = False  # of which torch would warn
    data = SegmentationDataModule(
        dataset=lambda split: Given({"image": kept, "mask": MASK}),
        allow_empty_classes=True,
        **SETTINGS | {"batch_size": 1, "crop_size": [40, 50], "scale_jitter": [1, 1]},
    )
    (batch,) = batches(data, "train")
    batch["image"].fill_(7)
    data.dataset("val")[0]["image"].fill_(7)
    assert not kept.any()


def test_a_fit_refuses_masks_that_lack_a_class_or_hold_another_before_its_first_step() -> None:
    for mask, message in ((MASK, "No training mask has a pixel of object"), (MASK + 7, "label 7")):
        sample = {"image": IMAGE, "mask": mask}
        data = SegmentationDataModule(dataset=lambda split, s=sample: Given(s), **SETTINGS)
        with pytest.raises(DataError, match=message):
            data.setup("fit")


def missing_key() -> None:
    raise KeyError("no such file in the archive")


NEGATIVE = np.full((40, 50), -1)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ((IMAGE, MASK), r"tuple; expected {'image': ..., 'mask': ...}\.$"),
        ({"image": IMAGE}, r"keys \['image'\]; expected"),
        (
            {"image": IMAGE.transpose(2, 0, 1), "mask": MASK},
            r"an image uint8 \(3, 40, 50\); expected an array \(H, W, 3\) of uint8, as data.in_c",
        ),
        (
            {"image": torch.tensor(IMAGE), "mask": MASK},
            r"an image torch.uint8 \(40, 50, 3\); expected a tensor \(3, H, W\) of uint8",
        ),
        ({"image": IMAGE / 255, "mask": MASK}, r"an image float64 \(40, 50, 3\); expected an arr"),
        ({"image": IMAGE[..., 0], "mask": MASK}, r"an image uint8 \(40, 50\); expected an array"),
        ({"image": IMAGE, "mask": MASK[:9]}, r"a mask uint8 \(9, 50\); expected integers \(40, 50"),
        ({"image": IMAGE, "mask": MASK / 1}, r"a mask float64 \(40, 50\); expected integers"),
        (
            {"image": IMAGE, "mask": MASK + 7},
            r"label 7 \(2000 pixels\) is in neither label_map nor class ids 0..1; add it to",
        ),
        (
            {"image": IMAGE, "mask": NEGATIVE},
            r"label -1 \(2000 pixels\) is in neither label_map nor class ids 0..1; add it to",
        ),
        (missing_key, r"KeyError: 'no such file in the archive'$"),
    ],
)
def test_a_sample_that_is_none_is_refused_by_its_place(sample: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"^data.dataset Given, val\[0\]: ?{message}"):
        first(Given(sample))


def test_a_size_that_is_not_that_of_its_image_is_refused() -> None:
    sample = {"image": IMAGE, "mask": MASK}
    with pytest.raises(DataError, match=r"an image of \(40, 50\), but its `sizes` has \(50, 40\)"):
        first(Given(sample, sizes=[(50, 40)]))
    with pytest.raises(InputError, match=r"Given: 0 sizes for 1 samples of the split val; give"):
        first(Given(sample, sizes=[]))


class Endless(IterableDataset):
    def __iter__(self):
        return iter([])


def without(split: str) -> Dataset:
    raise FileNotFoundError(f"no {split} in this archive")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (lambda split: [], r"data.dataset list: the split val has no sample\."),
        (lambda split: Endless(), "data.dataset Endless: expected a torch Dataset with __len__"),
        (lambda split: 3, "data.dataset int: expected a torch Dataset with __len__"),
        (without, "data.dataset: the split val: FileNotFoundError: no val in this archive"),
        (Given({}), "data.dataset: an object of Given; expected a class or a function that makes"),
    ],
)
def test_what_makes_no_data_set_of_samples_is_refused(dataset: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"^{message}"):
        SegmentationDataModule(dataset=dataset, **SETTINGS).dataset("val")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": None}, "data.dataset needs data.class_names"),
        ({"root": "x"}, "data.root x beside data.dataset: samples come from one of them"),
        (
            {"images": "i", "image_range": [0, 1], "synthetic_length": 3},
            "data.images, data.image_range, data.synthetic_length has no effect here; leave out "
            "data.dataset or leave it out",
        ),
    ],
)
def test_options_of_other_data_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=rf"^{message}"):
        SegmentationDataModule(dataset=Given, **SETTINGS | options)
