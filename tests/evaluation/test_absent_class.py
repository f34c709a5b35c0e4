"""What libraries give for a class that is absent, as the documentation says it."""

import re
import warnings
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from sklearn.metrics import jaccard_score
from torchmetrics.classification import MulticlassJaccardIndex

from seg.metrics import ConfusionMatrix

PAGE = Path(__file__).resolve().parents[2] / "docs/explanation/absent_classes.md"
TRUTH, PREDICTION = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 1, 1]])


def documented(tool):
    """IoU of the absent class, and the mean, in the row of a tool."""
    (row,) = re.findall(rf"^\| {tool}[^|]*\|([^|]*)\|([^|]*)\|$", PAGE.read_text(), re.M)
    return [float(cell.strip().replace("−", "-")) for cell in row]


def of_seg():
    metric = ConfusionMatrix(3)
    metric.update(PREDICTION, TRUTH)
    return metric.scores().iou[2], metric.scores().miou


def of_jaccard_index():
    of_classes, mean = MulticlassJaccardIndex(3, average="none"), MulticlassJaccardIndex(3)
    return of_classes(PREDICTION, TRUTH)[2], mean(PREDICTION, TRUTH)


def of_mean_iou():
    reason = "torchmetrics before 1.4 has no torchmetrics.segmentation"
    segmentation = pytest.importorskip("torchmetrics.segmentation", reason=reason)
    found = []
    for per_class in (True, False):
        metric = segmentation.MeanIoU(3, per_class=per_class, input_format="index")
        metric.update(PREDICTION, TRUTH)
        found.append(metric.compute())
    return found[0][2], found[1]


def of_scikit_learn():
    given = TRUTH[0], PREDICTION[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that the score is set to 0
        found = [jaccard_score(*given, labels=[0, 1, 2], average=a) for a in (None, "macro")]
    return found[0][2], found[1]


def of_smp():
    stats = smp.metrics.get_stats(PREDICTION, TRUTH, mode="multiclass", num_classes=3)
    found = [smp.metrics.iou_score(*stats, reduction=how) for how in ("none", "macro")]
    return found[0][0, 2], found[1]


@pytest.mark.parametrize(
    ("tool", "measured"),
    [
        ("`seg`", of_seg),
        ("torchmetrics 1.9, `MulticlassJaccardIndex`", of_jaccard_index),
        ("torchmetrics 1.9, `segmentation.MeanIoU`", of_mean_iou),
        ("scikit-learn, `jaccard_score`", of_scikit_learn),
        ("segmentation-models-pytorch", of_smp),
    ],
)
def test_the_table_says_what_a_library_does_with_an_absent_class(tool, measured):
    iou, mean = map(float, measured())
    assert documented(tool) == pytest.approx([iou, round(mean, 3)], nan_ok=True)
