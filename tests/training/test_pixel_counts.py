"""Weights by policy in fits from Python: with a data module, with loaders, with counts given."""

from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from seg.data import SegmentationDataModule
from seg.errors import InputError
from seg.losses import CompoundLoss, CrossEntropyLoss, DiceLoss
from seg.report.callbacks import RunReport
from tests.python_fits import convolution, trainer

PIXELS = [70, 20, 10]


def loader():
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    sample = {"image": image, "mask": torch.arange(64).view(8, 8) % 3}
    return DataLoader([sample] * 4, batch_size=2)


class WithoutCounts(L.LightningDataModule):
    def train_dataloader(self):
        return loader()


class WithCounts(WithoutCounts):
    def class_counts(self):
        return PIXELS


def weighted(policy="inverse_frequency"):
    return CrossEntropyLoss(weight=policy)


def inverse(pixels):
    raw = 1 / torch.as_tensor(pixels, dtype=torch.float64)
    return (raw / raw.mean()).float()


@pytest.mark.parametrize(
    "counts",
    [
        PIXELS,
        tuple(PIXELS),
        np.array(PIXELS),
        torch.tensor(PIXELS),
        torch.tensor(PIXELS, dtype=torch.float32),
    ],
    ids=["list", "tuple", "array", "tensor", "float tensor"],
)
def test_counts_given_to_the_module_make_the_weights_of_a_fit_of_loaders(tmp_path, counts):
    found = convolution(weighted(), class_counts=counts)
    trainer(tmp_path, max_steps=1).fit(found, loader())
    torch.testing.assert_close(found.loss.weight, inverse(PIXELS))
    assert found.class_pixels.tolist() == PIXELS


def test_counts_of_pixels_in_images_make_eigen_and_fergus_weights():
    counts = SimpleNamespace(pixels=PIXELS, image_pixels=[100, 80, 20])
    found = convolution(weighted("median_frequency"), class_counts=counts).loss.weight
    shares = torch.tensor([0.7, 0.25, 0.5])
    torch.testing.assert_close(found, (0.5 / shares) / (0.5 / shares).mean())


def test_the_data_module_of_a_plain_trainer_is_asked_for_the_counts(tmp_path):
    data = SegmentationDataModule(
        synthetic_length=4, synthetic_size=[64, 64], crop_size=[32, 32], batch_size=2, num_workers=0
    )
    loss = CompoundLoss({"ce": weighted("median_frequency"), "dice": DiceLoss()})
    found = convolution(loss, data.class_names)
    trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(found, datamodule=data)
    counts = data.class_counts()
    expected = weighted("median_frequency")
    expected.set_class_counts(counts.pixels, counts.image_pixels)
    assert torch.equal(found.loss.parts["ce"].weight, expected.weight)


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_a_module_that_was_never_fitted_is_judged_with_the_weights_of_its_policy(tmp_path, stage):
    data = SegmentationDataModule(
        synthetic_length=4, synthetic_size=[64, 64], crop_size=[32, 32], batch_size=2, num_workers=0
    )
    found = convolution(weighted(), data.class_names)
    judge = getattr(trainer(tmp_path), stage)
    (logged,) = judge(found, datamodule=data, verbose=False)
    role = {"validate": "val", "test": "test"}[stage]
    sample = data.dataset(role)[0]
    loss = nn.functional.cross_entropy(
        found(sample["image"][None]).double(),
        sample["mask"][None].long(),
        weight=inverse(data.class_counts().pixels).double(),
        ignore_index=255,
    )
    assert logged[f"{role}/loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_a_data_module_of_ones_own_is_asked_where_it_can_count(tmp_path):
    found = convolution(weighted())
    trainer(tmp_path, max_steps=1).fit(found, datamodule=WithCounts())
    torch.testing.assert_close(found.loss.weight, inverse(PIXELS))
    plain = convolution(CrossEntropyLoss())
    trainer(tmp_path, max_steps=1).fit(plain, datamodule=WithoutCounts())
    assert plain.class_pixels is None


@pytest.mark.parametrize(
    ("data", "given"),
    [(loader, "a loader"), (WithoutCounts, "WithoutCounts")],
    ids=["loader", "data"],
)
def test_a_policy_without_counts_is_refused_in_one_sentence(tmp_path, data, given):
    message = (
        rf"^model.loss CrossEntropyLoss: median_frequency needs the pixels of each class, which "
        rf"{given} does not tell; give SegmentationModule class_counts=.*class_counts\(\)\.$"
    )
    with pytest.raises(InputError, match=message):
        trainer(tmp_path, max_steps=1).fit(convolution(weighted("median_frequency")), data())


@pytest.mark.parametrize(
    ("loss", "counts", "message"),
    [
        (weighted, [1, 2], r"class_counts has 2 numbers for the 3 classes \['ground', .*; give"),
        (weighted, [[1, 2, 3]], r"class_counts of shape \(1, 3\): expected one count a class"),
        (weighted, "many", "class_counts='many': expected one count a class"),
        (weighted, [1, -2, 3], "class plate: -2 pixels; a count is 0 or more"),
        (weighted, [0, 0, 0], "no pixel of any class"),
        (CrossEntropyLoss, PIXELS, "class_counts has no effect: CrossEntropyLoss has no weights"),
    ],
    ids=["length", "shape", "text", "negative", "zeros", "no policy"],
)
def test_counts_that_are_none_of_the_classes_are_refused_in_one_line(loss, counts, message):
    with pytest.raises(InputError, match=rf"^model\.{message}[^\n]*$"):
        convolution(loss(), class_counts=counts)


def test_the_report_prints_the_weights_and_writes_the_scores_of_data_of_ones_own(tmp_path, capsys):
    report = RunReport(tmp_path, previews=2)
    found = convolution(weighted(), class_counts=PIXELS)
    trainer(tmp_path, max_steps=1, limit_train_batches=1, callbacks=[report]).fit(
        found, loader(), loader()
    )
    printed = capsys.readouterr().out
    assert "class weights by policy" in printed and "10.000 %" in printed
    assert (tmp_path / "per_class.json").exists()


SAMPLE = {"image": torch.zeros(3, 8, 8, dtype=torch.uint8), "mask": torch.zeros(8, 8).long()}


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ((SAMPLE["image"], SAMPLE["mask"]), "a batch with list: expected {'image'"),
        ({"image": SAMPLE["image"]}, r"a batch with keys \['image'\]: expected {'image'"),
        (
            SAMPLE | {"image": torch.zeros(3, 8, 8)},
            r"batch\['image'\] torch.float32 \(2, 3, 8, 8\)",
        ),
        (SAMPLE | {"mask": torch.zeros(8, 8)}, r"batch\['mask'\] torch.float32 \(2, 8, 8\)"),
        (SAMPLE | {"mask": torch.zeros(1, 8, 8).byte()}, r"batch\['mask'\] .* \(2, 1, 8, 8\)"),
    ],
    ids=["pair", "no mask", "float image", "float mask", "channel"],
)
@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_a_batch_that_is_none_is_refused_in_one_line(tmp_path, stage, sample, message):
    batches = DataLoader([sample] * 2, batch_size=2)
    with pytest.raises(InputError, match=rf"^{message}[^\n]*$"):
        getattr(trainer(tmp_path, max_steps=1), stage)(convolution(CrossEntropyLoss()), batches)
