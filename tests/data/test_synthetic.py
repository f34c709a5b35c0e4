"""The synthetic set is reproducible, imbalanced as stated, and colour alone does not solve it."""

import hashlib

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import jaccard_score

from seg.constants import IGNORE_INDEX
from seg.data.augment.transforms import TrainingTransform
from seg.data.synthetic import CLASS_COLORS, CLASS_NAMES, SyntheticDataset


def digest(dataset: SyntheticDataset) -> str:
    content = b"".join(part.tobytes() for i in range(len(dataset)) for part in dataset.draw(i))
    return hashlib.sha256(content).hexdigest()


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert digest(SyntheticDataset("train", 4)) == digest(SyntheticDataset("train", 4))


def test_splits_seeds_and_indices_share_no_picture() -> None:
    datasets = [SyntheticDataset(s, 8, seed=n) for s in ("train", "val", "test") for n in (0, 1)]
    pictures = {d.draw(i)[0].tobytes() for d in datasets for i in range(8)}
    assert len(pictures) == 6 * 8


def test_a_longer_set_begins_with_the_shorter() -> None:
    short, long = SyntheticDataset("val", 2), SyntheticDataset("val", 9)
    np.testing.assert_array_equal(short.draw(1)[0], long.draw(1)[0])


@pytest.mark.slow
def test_class_shares_are_as_documented() -> None:
    dataset = SyntheticDataset("train", 512)
    counts = sum(np.bincount(dataset.mask(i).ravel(), minlength=256) for i in range(512))
    shares = counts[:5] / counts[:5].sum()
    np.testing.assert_allclose(shares, [0.90, 0.065, 0.024, 0.0068, 0.0026], rtol=0.05)
    assert counts[5:IGNORE_INDEX].sum() == 0
    assert 0.01 < counts[IGNORE_INDEX] / counts.sum() < 0.04


def test_objects_are_bordered_by_ignored_pixels() -> None:
    for i in range(10):
        mask = SyntheticDataset("train", 10).mask(i).astype(int)
        for a, b in ((mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1])):
            differs = (a != b) & (a != IGNORE_INDEX) & (b != IGNORE_INDEX)
            assert not (differs & ((a == 0) | (b == 0))).any()


def test_there_are_a_name_and_a_colour_for_each_class() -> None:
    assert len(CLASS_NAMES) == len(CLASS_COLORS) == len(set(CLASS_COLORS)) == 5


def pixels(split: str, images: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    colours, labels = [], []
    for i in range(images):
        image, mask = SyntheticDataset(split, images).draw(i)
        chosen = rng.choice(np.flatnonzero(mask != IGNORE_INDEX), each, replace=False)
        colours.append(image.reshape(-1, 3)[chosen])
        labels.append(mask.ravel()[chosen])
    return np.concatenate(colours), np.concatenate(labels)


@pytest.mark.slow
@pytest.mark.parametrize("balance", [None, "balanced"])
def test_the_colour_of_a_pixel_does_not_tell_its_class(balance: str | None) -> None:
    forest = RandomForestClassifier(
        15, min_samples_leaf=5, class_weight=balance, random_state=0
    ).fit(*pixels("train", 128, 200))
    colours, labels = pixels("val", 64, 400)
    iou = jaccard_score(labels, forest.predict(colours), labels=range(5), average=None)
    assert iou.mean() < 0.22  # all background is 0.18
    assert iou[3:].max() < 0.03


def test_samples_have_the_format_of_the_paired_dataset() -> None:
    whole = SyntheticDataset("val", 3, size=(96, 160))[2]
    assert whole["image"].shape == (3, 96, 160)
    assert whole["mask"].shape == (96, 160)
    assert whole["name"] == "val/00002"
    resized = SyntheticDataset("val", 3, size=(96, 160), resize=(48, 80))[2]
    assert resized["image"].shape == (3, 48, 80)
    assert resized["mask"].shape == (96, 160)


def test_augmentation_differs_between_epochs_and_is_repeated_in_each() -> None:
    dataset = SyntheticDataset("train", 3, transform=TrainingTransform((64, 64)))
    first, again, second = dataset[0, 1], dataset[0, 1], dataset[1, 1]
    assert (first["image"] == again["image"]).all()
    assert (first["mask"] == again["mask"]).all()
    assert (first["image"] != second["image"]).any()


def test_a_larger_picture_has_larger_objects() -> None:
    small, large = (SyntheticDataset("train", 60, (side, side)) for side in (128, 256))
    shares = [np.mean([(d.mask(i) == 1).mean() for i in range(60)]) for d in (small, large)]
    assert shares[0] == pytest.approx(shares[1], rel=0.35)


def test_unknown_splits_small_pictures_and_missing_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="'dev' is none of train, val, test"):
        SyntheticDataset("dev")
    with pytest.raises(ValueError, match=r"data.synthetic_size \[32, 128\]"):
        SyntheticDataset("train", size=[32, 128])
    with pytest.raises(IndexError, match="sample 3 of 3"):
        SyntheticDataset("train", 3)[3]
