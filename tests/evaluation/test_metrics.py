"""Confusion counts and scores against scikit-learn and hand-made cases."""

import json
import math
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    jaccard_score,
    precision_score,
    recall_score,
)
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix
from torch import Tensor

from seg.evaluation.metrics import ConfusionMatrix, confusion_matrix, scores
from seg.evaluation.records import per_class_records
from seg.evaluation.term_sums import TermSums
from tests.processes import LIMIT, context

CLASSES = 5


def sample(seed: int = 0, images: int = 4) -> tuple[Tensor, Tensor]:
    """Ids that agree on about half of the pixels; a tenth of the truth is ignored."""
    generator = torch.Generator().manual_seed(seed)
    shape = (images, 9, 7)
    target = torch.randint(0, CLASSES, shape, generator=generator)
    guess = torch.randint(0, CLASSES, shape, generator=generator)
    prediction = torch.where(torch.rand(shape, generator=generator) < 0.5, target, guess)
    return prediction, target.masked_fill(torch.rand(shape, generator=generator) < 0.1, 255)


def test_counts_equal_scikit_learn() -> None:
    prediction, target = sample()
    kept = target != 255
    expected = sklearn_confusion_matrix(target[kept], prediction[kept], labels=range(CLASSES))
    counts = confusion_matrix(prediction, target, CLASSES)
    assert counts.dtype == torch.int64
    assert np.array_equal(counts.numpy(), expected)


@pytest.mark.parametrize("truth", [torch.uint8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("predicted", [torch.uint8, torch.int8, torch.int32, torch.int64])
def test_every_integer_dtype_is_counted_alike(predicted: torch.dtype, truth: torch.dtype) -> None:
    prediction, target = sample()
    counts = confusion_matrix(prediction.to(predicted), target.to(truth), CLASSES)
    assert torch.equal(counts, confusion_matrix(prediction, target, CLASSES))


def test_many_classes_do_not_overflow_small_dtypes() -> None:
    ids = torch.arange(250, dtype=torch.uint8)
    assert torch.equal(confusion_matrix(ids, ids, 250), torch.eye(250, dtype=torch.int64))


@pytest.mark.parametrize(
    ("classes", "ignore_index"), [(CLASSES, 255), (CLASSES, 2), (256, -1), (256, 255), (300, 255)]
)
def test_bytes_are_counted_as_wider_integers_are(classes: int, ignore_index: int) -> None:
    ids = torch.randint(
        0, min(classes, 256), (2, 3, 40), generator=torch.Generator().manual_seed(0)
    )
    if classes == CLASSES:
        ids[0].masked_fill_(ids[0] == 1, ignore_index)
    prediction, target = ids[1].clamp(max=classes - 1), ids[0]
    how = classes, ignore_index
    counts = confusion_matrix(prediction.byte(), target.byte(), *how)
    assert counts.dtype == torch.int64
    assert torch.equal(counts, confusion_matrix(prediction, target, *how))


def test_a_wrong_id_among_bytes_is_refused() -> None:
    prediction, target = (ids.byte() for ids in sample())
    target[1, 2, 3] = 5
    with pytest.raises(ValueError, match=r"target holds 5\b.*0\.\.4 nor ignore_index 255"):
        confusion_matrix(prediction, target, CLASSES)
    target[1, 2, 3], prediction[1, 2, 3] = 4, 5
    with pytest.raises(ValueError, match=r"prediction holds 5\b"):
        confusion_matrix(prediction, target, CLASSES)


def test_rows_are_the_truth_and_columns_the_prediction() -> None:
    counts = confusion_matrix(torch.tensor([1, 1, 0]), torch.tensor([0, 0, 255]), 2)
    assert counts.tolist() == [[0, 2], [0, 0]]


@pytest.mark.parametrize("value", [5, 255, -1])
def test_a_prediction_outside_the_classes_is_refused_where_it_counts(value: int) -> None:
    prediction, target = sample()
    prediction[0, 0, 0], target[0, 0, 0] = value, 255
    assert confusion_matrix(prediction, target, CLASSES).sum() == (target != 255).sum()
    target[0, 0, 0] = 1
    with pytest.raises(ValueError, match=rf"prediction holds {value}\b.*0\.\.4"):
        confusion_matrix(prediction, target, CLASSES)


@pytest.mark.parametrize("value", [5, 254, -1])
def test_a_label_outside_the_classes_is_refused(value: int) -> None:
    prediction, target = sample()
    target[2, 3, 4] = value
    with pytest.raises(ValueError, match=rf"target holds {value}\b.*0\.\.4 nor ignore_index 255"):
        confusion_matrix(prediction, target, CLASSES)


def test_scores_instead_of_ids_and_other_shapes_are_refused() -> None:
    prediction, target = sample()
    with pytest.raises(ValueError, match=r"\(4, 5, 9, 7\).*\(4, 9, 7\).*argmax"):
        confusion_matrix(torch.rand(4, 5, 9, 7), target, CLASSES)
    with pytest.raises(ValueError, match=r"prediction of dtype torch.float32"):
        confusion_matrix(prediction.float(), target, CLASSES)


def test_nothing_to_count_gives_zeros() -> None:
    empty = torch.zeros(0, 3, 3, dtype=torch.uint8)
    ignored = torch.full((2, 3, 3), 255)
    assert not confusion_matrix(empty, empty, 3).any()
    assert not confusion_matrix(ignored, ignored, 3).any()


def test_scores_equal_scikit_learn() -> None:
    prediction, target = sample()
    kept = target != 255
    y, p = target[kept].numpy(), prediction[kept].numpy()
    result = scores(confusion_matrix(prediction, target, CLASSES))
    for actual, reference in (
        (result.iou, jaccard_score),
        (result.dice, f1_score),
        (result.precision, precision_score),
        (result.recall, recall_score),
    ):
        np.testing.assert_allclose(actual.numpy(), reference(y, p, average=None), rtol=1e-14)
    assert result.miou == pytest.approx(jaccard_score(y, p, average="macro"), rel=1e-14)
    assert result.fwiou == pytest.approx(jaccard_score(y, p, average="weighted"), rel=1e-14)
    assert result.pixel_accuracy == pytest.approx(accuracy_score(y, p), rel=1e-14)
    assert result.pixels.tolist() == np.bincount(y, minlength=CLASSES).tolist()
    assert result.pixels.dtype == torch.int64
    assert result.iou.dtype == torch.float64


def test_an_absent_class_is_nan_and_outside_every_mean() -> None:
    result = scores(torch.tensor([[8, 0, 0], [0, 2, 0], [0, 0, 0]]))
    for values in (result.iou, result.dice, result.precision, result.recall):
        assert values[2].isnan()
        assert values[:2].tolist() == [1.0, 1.0]
    assert result.miou == result.fwiou == result.pixel_accuracy == 1.0


def test_two_present_classes_both_wrong_score_zero_whatever_is_absent() -> None:
    counts = torch.zeros(4, 4, dtype=torch.int64)
    counts[0, 1] = counts[1, 0] = 10
    result = scores(counts)
    assert result.miou == result.fwiou == result.pixel_accuracy == 0.0


def test_precision_needs_a_prediction_and_recall_a_truth() -> None:
    never_predicted, never_true = 0, 1
    result = scores(torch.tensor([[0, 4], [0, 0]]))
    assert result.precision[never_predicted].isnan() and result.recall[never_predicted] == 0
    assert result.recall[never_true].isnan() and result.precision[never_true] == 0
    assert result.iou.tolist() == result.dice.tolist() == [0.0, 0.0]
    assert result.miou == 0.0


def test_without_a_pixel_everything_is_nan() -> None:
    result = scores(torch.zeros(3, 3, dtype=torch.int64))
    assert result.iou.isnan().all()
    assert all(math.isnan(v) for v in (result.miou, result.fwiou, result.pixel_accuracy))


def test_scores_are_of_the_data_set_and_no_mean_over_images() -> None:
    size = 100
    target = torch.zeros(2, size, size, dtype=torch.uint8)
    prediction = target.clone()
    target[0, 0, 0] = 1  # one small object, missed; the other image is all right
    result = scores(confusion_matrix(prediction, target, 2))
    assert result.iou[0].item() == pytest.approx(1 - 1 / (2 * size**2), rel=1e-14)
    assert result.iou[1] == 0


def test_counts_beyond_float_precision_stay_exact() -> None:
    metric = ConfusionMatrix(2)
    ids = torch.zeros(1, 2, 2, dtype=torch.uint8)
    metric.update(ids, ids)
    metric.counts[0, 0] += 2**53
    metric.counts[1, 1] += 2**40
    metric.update(ids + 1, ids)
    assert metric.compute().tolist() == [[2**53 + 4, 4], [0, 2**40]]
    assert scores(metric.compute()).pixels.tolist() == [2**53 + 8, 2**40]


def test_one_wrong_pixel_in_billions_is_seen() -> None:
    result = scores(torch.tensor([[2**33 - 1, 1], [0, 2**33]]))
    assert result.pixel_accuracy == 1 - 2.0**-34
    assert result.iou[0].item() == 1 - 2.0**-33


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.int64), r"\(2, 3\).*\(C, C\)"),
        (torch.zeros(2, 2), "torch.float32.*integers"),
        (torch.tensor([[1, -2], [0, 1]]), "minimum -2"),
    ],
)
def test_what_is_no_confusion_matrix_is_refused(counts: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scores(counts)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_the_metric_is_the_same_for_every_batch_size(batch: int) -> None:
    prediction, target = sample(images=8)
    metric = ConfusionMatrix(CLASSES)
    for start in range(0, 8, batch):
        metric.update(prediction[start : start + batch], target[start : start + batch])
    assert torch.equal(metric.compute(), confusion_matrix(prediction, target, CLASSES))
    assert metric.images == metric.scores().images == 8
    metric.reset()
    assert metric.images == 0 and not metric.counts.any()


def test_the_metric_keeps_its_integers_when_cast_with_a_network() -> None:
    module = torch.nn.ModuleDict({"metric": ConfusionMatrix(CLASSES)})
    module.half()
    metric = module["metric"]
    metric.update(*sample())
    assert metric.compute().dtype == metric.images.dtype == torch.int64


def test_another_ignore_index_and_bad_sizes() -> None:
    prediction, target = sample()
    moved = target.masked_fill(target == 255, -1)
    metric = ConfusionMatrix(CLASSES, ignore_index=-1)
    metric.update(prediction, moved)
    assert torch.equal(metric.compute(), confusion_matrix(prediction, target, CLASSES))
    with pytest.raises(ValueError, match="num_classes=0"):
        ConfusionMatrix(0)


def _count_a_share(rank: int, folder: str) -> None:
    """One of two processes: counts one of 5 images, or the 4 others, and saves what it is told."""
    rendezvous = f"file://{folder}/rendezvous"
    torch.distributed.init_process_group(
        "gloo", rendezvous, timeout=timedelta(seconds=LIMIT), rank=rank, world_size=2
    )
    prediction, target = sample(images=5)
    metric = ConfusionMatrix(CLASSES)
    share = slice(0, 1) if rank == 0 else slice(1, 5)
    metric.update(prediction[share], target[share], [*"edcba"[share]])
    metric.counts[0, 0] += 2**53  # beyond what a float sum would hold
    metric.counts[0, 1] += rank
    found = metric.scores()
    result = {"counts": metric.compute(), "images": found.images}
    result["names"] = "".join(found.by_image.names)
    result["by_image"] = torch.from_numpy(found.by_image.dense())
    result["own_images"] = int(metric.images)
    torch.save(result, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_sum_to_bit_equal_counts(tmp_path: Path) -> None:
    other = context().Process(target=_count_a_share, args=(1, str(tmp_path)))
    other.start()
    _count_a_share(0, str(tmp_path))  # this process is rank 0: one start less to wait for
    other.join(LIMIT)
    assert other.exitcode == 0
    expected = confusion_matrix(*sample(images=5), CLASSES)
    expected[0, 0] += 2**54
    expected[0, 1] += 1
    for rank, own in ((0, 1), (1, 4)):
        result = torch.load(tmp_path / f"{rank}.pt")
        assert torch.equal(result["counts"], expected)
        assert result["images"] == 5
        assert result["own_images"] == own
        assert result["names"] == "abcde"
        parts = [confusion_matrix(p, t, CLASSES) for p, t in zip(*sample(images=5), strict=True)]
        hits = torch.stack([part.diagonal() for part in parts])
        others = [torch.stack([p.sum(axis) for p in parts]) - hits for axis in (0, 1)]
        assert torch.equal(result["by_image"], torch.stack([hits, *others], 2).flip(0))


def test_records_are_primitives_with_null_for_nan() -> None:
    counts = torch.tensor([[6, 2, 0], [1, 0, 0], [0, 0, 0]])
    records = per_class_records(scores(counts, images=3), ["sky", "car", "pole"])
    assert json.loads(json.dumps(records, allow_nan=False)) == records
    assert set(records) == {"miou", "fwiou", "pixel_accuracy", "images", "classes"}
    assert records["images"] == 3
    assert records["miou"] == pytest.approx(6 / 9 / 2)
    rare = per_class_records(scores(counts), ["sky", "car", "pole"], num_rare=1)
    assert (rare["miou_rare"], rare["rare_classes"]) == (0.0, ["car"])
    assert records["pixel_accuracy"] == pytest.approx(6 / 9)
    assert records["classes"][0] == {
        "name": "sky",
        "iou": pytest.approx(6 / 9),
        "dice": pytest.approx(12 / 15),
        "precision": pytest.approx(6 / 7),
        "recall": pytest.approx(6 / 8),
        "pixels": 8,
    }
    assert records["classes"][2] == {
        "name": "pole",
        "iou": None,
        "dice": None,
        "precision": None,
        "recall": None,
        "pixels": 0,
    }


def test_records_of_nothing_are_null() -> None:
    records = per_class_records(scores(torch.zeros(2, 2, dtype=torch.int64)), ["a", "b"])
    assert records["miou"] is records["fwiou"] is records["pixel_accuracy"] is None


def test_records_need_a_name_for_each_class() -> None:
    with pytest.raises(ValueError, match="1 class names for scores of 2"):
        per_class_records(scores(torch.eye(2, dtype=torch.int64)), ["a"])


def test_the_rare_mean_is_over_the_classes_with_fewest_true_pixels():
    # IoU 90/100, 5/15, 1/2, 0/1; pixels 95, 10, 2, 0; class 3 is invented only
    counts = torch.tensor([[90, 5, 0, 0], [5, 5, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]])
    found = scores(counts)
    assert found.rare_miou(1) == pytest.approx(1 / 2)
    assert found.rare_miou(2) == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert found.rare_miou(4) == pytest.approx((1 / 2 + 1 / 3 + 0.9) / 3)
    assert found.worst_class_iou == 0


def test_of_nothing_there_is_neither_a_rare_mean_nor_a_worst_class():
    found = scores(torch.zeros(3, 3, dtype=torch.int64))
    assert np.isnan(found.rare_miou(1))
    assert np.isnan(found.worst_class_iou)


def test_no_batch_waits_for_a_gpu_that_counts_it(fake_gpu) -> None:
    found: list[str] = []
    matrix, terms = ConfusionMatrix(CLASSES), TermSums(2)
    with fake_gpu(found):
        for metric in (matrix, terms):
            for name, state in metric.metric_state.items():
                setattr(metric, name, torch.empty(state.shape, dtype=state.dtype, device="cuda"))
        ids = torch.empty(2, 9, 7, dtype=torch.uint8, device="cuda")
        matrix.update(ids, ids)
        matrix.update(ids, ids, ["one", "two"])
        terms.update(torch.empty(2, device="cuda"))
        assert matrix.counts.is_cuda
        assert terms.terms.dtype == torch.float64
    assert found == []
