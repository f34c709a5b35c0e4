"""Mean IoU by image against loops over images and classes."""

import json
import math

import numpy as np
import pytest

from seg.evaluation.image_scores import image_scores
from tests.evaluation.test_intervals import counts_of, drawn


def loops(dense, by_image, percent):
    """The definition of the paper, value by value."""
    iou = {}
    for image, of_classes in enumerate(dense):
        for class_id, (tp, fp, fn) in enumerate(of_classes):
            if tp + fn:
                iou[image, class_id] = tp / (tp + fp + fn)
    if by_image:
        of_images = [[v for (i, _), v in iou.items() if i == image] for image in range(len(dense))]
        lists = [sorted(np.mean(values) for values in of_images if values)]
    else:
        lists = [sorted(v for (_, c), v in iou.items() if c == k) for k in range(dense.shape[1])]
    kept = [values[: max(1, len(values) * percent // 100)] for values in lists if values]
    return np.mean([np.mean(values) for values in kept])


@pytest.mark.parametrize("name", ["miou_by_image", "miou_by_class_and_image"])
def test_the_means_and_their_worst_cases_are_those_of_the_paper(name):
    dense = drawn(np.random.default_rng(0), 130, 5, np.array([1, 0.7, 0.4, 0.1, 0]))
    dense[3, :, 1] += 7  # an image in which every class is predicted, also where none is
    dense[5, :, [0, 2]] = 0  # one without any truth
    found = image_scores(counts_of(dense))[name]
    by_image = name == "miou_by_image"
    assert found["all"] == pytest.approx(loops(dense, by_image, 100), rel=1e-12)
    assert found["worst_1"] == pytest.approx(loops(dense, by_image, 1), rel=1e-12)
    assert found["worst_5"] == pytest.approx(loops(dense, by_image, 5), rel=1e-12)
    deciles = [loops(dense, by_image, percent) for percent in range(10, 101, 10)]
    assert found["worst"] == pytest.approx(np.mean(deciles), rel=1e-12)
    assert found["worst_1"] < found["worst_5"] < found["worst"] < found["all"]


def test_a_missed_small_object_counts_as_much_as_a_large_one():
    dense = np.array([[[90, 0, 10]], [[0, 0, 1]]])
    found = image_scores(counts_of(dense))
    assert found["miou_by_image"]["all"] == found["miou_by_class_and_image"]["all"] == 0.45
    assert json.dumps(found)


def test_without_a_valid_pixel_all_is_nan():
    found = image_scores(counts_of(np.zeros((2, 3, 3), np.int64)))
    assert all(math.isnan(value) for part in found.values() for value in part.values())
