"""Counts of each image against loops and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import multilabel_confusion_matrix

from seg.evaluation.metrics import ConfusionMatrix
from tests.evaluation.test_metrics import CLASSES, sample

IMAGES = 8
NAMES = [f"video{i % 3}/{i}" for i in range(IMAGES)]


def counted(order, batch, names=NAMES, found=None):
    """What a metric keeps of images that come in some order, so many at a time."""
    prediction, target = sample(images=IMAGES)
    metric = ConfusionMatrix(CLASSES)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        metric.update(prediction[part], target[part], [names[i] for i in part])
    return metric.scores()


def test_the_counts_of_each_image_equal_scikit_learns():
    prediction, target = sample(images=IMAGES)
    found = counted(list(range(IMAGES)), 3).by_image
    assert found.names == tuple(sorted(NAMES))
    for name, counts in zip(found.names, found.dense(), strict=True):
        index = NAMES.index(name)
        kept = target[index] != 255
        pairs = target[index][kept], prediction[index][kept]
        expected = multilabel_confusion_matrix(*pairs, labels=range(CLASSES))
        expected = np.stack([expected[:, 1, 1], expected[:, 0, 1], expected[:, 1, 0]], 1)
        np.testing.assert_array_equal(counts, expected)


def test_the_counts_of_the_images_add_up_to_those_of_the_split():
    scores = counted(list(range(IMAGES)), 3)
    found, missed = scores.by_image.dense().sum(0)[:, [0, 2]].T
    np.testing.assert_array_equal(found + missed, scores.pixels)
    np.testing.assert_allclose(found / (found + missed), scores.recall)


@pytest.mark.parametrize("names", [NAMES, ["twice"] * IMAGES], ids=["names", "one name"])
def test_the_order_of_the_images_and_their_batches_change_nothing(names):
    found = [
        counted(order, batch, names).by_image
        for order, batch in ((range(IMAGES), 8), ([5, 0, 7, 2, 4, 1, 3, 6], 3))
        for order in [list(order)]
    ]
    assert found[0].names == found[1].names
    assert len(set(found[0].names)) == IMAGES
    for part in ("image", "class_id", "counts"):
        np.testing.assert_array_equal(*(getattr(counts, part) for counts in found))


def test_only_classes_that_occur_are_kept():
    metric = ConfusionMatrix(4)
    truth = torch.tensor([[0, 0, 1, 255], [255, 255, 255, 255]])
    metric.update(torch.tensor([[0, 2, 1, 3], [3, 3, 3, 3]]), truth, ["a", "b"])
    found = metric.scores().by_image
    assert found.names == ("a", "b")
    assert found.image.tolist() == [0, 0, 0]
    assert found.class_id.tolist() == [0, 1, 2]
    assert found.counts.tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]


def test_counts_that_were_fetched_from_the_device_in_between_are_the_same(monkeypatch):
    whole = counted(list(range(IMAGES)), 2).by_image
    monkeypatch.setattr("seg.evaluation.image_counter._MOST_WAITING", 0)
    parts = counted(list(range(IMAGES)), 2).by_image
    np.testing.assert_array_equal(whole.dense(), parts.dense())
    np.testing.assert_array_equal(whole.dense(3, 5), whole.dense()[3:5])
    np.testing.assert_array_equal(whole.dense(6, 99), whole.dense()[6:])


def test_a_reset_forgets_the_images():
    metric = ConfusionMatrix(CLASSES)
    prediction, target = sample(images=IMAGES)
    metric.update(prediction, target, NAMES)
    metric.reset()
    assert metric.scores().by_image.names == ()


def test_groups_have_the_sums_of_their_images():
    by_image = counted(list(range(IMAGES)), 3).by_image
    groups = [name.partition("/")[0] for name in by_image.names]
    merged = by_image.merged(groups)
    assert merged.names == ("video0", "video1", "video2")
    for name, counts in zip(merged.names, merged.dense(), strict=True):
        mine = np.array([group == name for group in groups])
        np.testing.assert_array_equal(counts, by_image.dense()[mine].sum(0))
