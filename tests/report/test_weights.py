import io

import pytest
import torch
from rich.console import Console

from seg.losses import BinaryCrossEntropyLoss, CompoundLoss, CrossEntropyLoss, FocalLoss
from seg.report.weights import print_weights
from tests.cli.test_app import seg
from tests.conftest import LIGHT, SYNTHETIC

NAMES = ["ground", "plate", "crack"]


def printed(loss, pixels, names=NAMES):
    loss.set_class_counts(pixels)
    stream = io.StringIO()
    parts = loss.components()
    print_weights(parts, names, torch.tensor(pixels), Console(file=stream, width=40))
    return stream.getvalue()


def rows_of(text):
    lines = [line.split() for line in text.splitlines()]
    return {line[0]: line[1:] for line in lines if line and line[0] in NAMES}


def test_each_class_has_its_share_and_the_weight_of_its_policy():
    text = printed(CrossEntropyLoss("inverse_frequency"), [600, 300, 100])
    # 1/6, 1/3 and 1, divided by their mean 1/2
    assert rows_of(text) == {
        "ground": ["60.000", "%", "0.3333"],
        "plate": ["30.000", "%", "0.6667"],
        "crack": ["10.000", "%", "2"],
    }
    assert "weight (inverse_frequency)" in text


def test_the_parts_of_a_sum_have_a_column_each():
    parts = {
        "ce": CrossEntropyLoss("sqrt_inverse_frequency"),
        "focal": FocalLoss(alpha="inverse_frequency"),
        "plain": CrossEntropyLoss([1.0, 1.0, 2.0]),
    }
    text = printed(CompoundLoss(parts), [400, 100, 100])
    assert "ce.weight (sqrt_inverse_frequency)" in text
    assert "focal.alpha (inverse_frequency)" in text
    assert "plain" not in text
    found = [float(cell) for cell in rows_of(text)["ground"][2:]]
    assert found == pytest.approx([3 / 5, 1 / 3], abs=1e-4)


def test_the_one_weight_of_a_binary_loss_is_the_foregrounds():
    text = printed(BinaryCrossEntropyLoss("inverse_frequency"), [900, 100], NAMES[:2])
    assert rows_of(text) == {"ground": ["90.000", "%", "–"], "plate": ["10.000", "%", "9"]}


def test_without_a_policy_nothing_is_printed():
    assert printed(CrossEntropyLoss([1.0, 2.0, 3.0]), [1, 1, 1]) == ""


@pytest.mark.slow
def test_a_run_prints_the_weights_before_it_trains(tmp_path, capsys):
    loss = ["--model.loss=CrossEntropyLoss", "--model.loss.weight=inverse_frequency"]
    assert seg("fit", *SYNTHETIC, *LIGHT, *loss, "--trainer.default_root_dir", tmp_path) == 0
    said = capsys.readouterr().out
    assert said.index("class weights by policy") < said.index("validation split, best epoch")
    assert "weight (inverse_frequency)" in said
