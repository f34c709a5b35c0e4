"""What losses refuse, and the remedy they name; the annotations hold for what they accept."""

import re

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped
from torch import Tensor, nn

from seg.losses import (
    BinaryCrossEntropyLoss,
    BoundaryLoss,
    CompoundLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    JaccardLoss,
    LogitAdjustedCrossEntropyLoss,
    LovaszLoss,
    OhemCrossEntropyLoss,
    RecallLoss,
    TverskyLoss,
    binary_cross_entropy,
    binary_focal_loss,
    cross_entropy,
    focal_loss,
)

SOFTMAX = [cross_entropy, focal_loss]
BINARY = [binary_cross_entropy, binary_focal_loss]
SOFTMAX_LOSSES = [
    CrossEntropyLoss(),
    CrossEntropyLoss(label_smoothing=0.1),
    FocalLoss(),
    OhemCrossEntropyLoss(),
    LogitAdjustedCrossEntropyLoss(priors=[1.0]),
    RecallLoss(),
    DiceLoss(),
    JaccardLoss(),
    TverskyLoss(),
    LovaszLoss(),
    BoundaryLoss(),
    CompoundLoss({"dice": DiceLoss(), "ce": CrossEntropyLoss()}),
]
IDS = torch.zeros(2, 6, 7, dtype=torch.long)


def refused(loss: object, logits: Tensor, target: Tensor, *parts: str) -> None:
    """Asserts that the error holds every part."""
    with pytest.raises(ValueError) as caught:
        loss(logits, target)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("loss", SOFTMAX + BINARY)
def test_classes_in_the_last_dim_are_refused_with_the_call_that_moves_them(loss: object) -> None:
    logits = torch.randn(2, 6, 7, 1 if loss in BINARY else 5)
    refused(loss, logits, IDS, "classes in dim 3", "logits.movedim(-1, 1)")
    moved = logits.movedim(-1, 1)
    assert loss(moved, IDS).isfinite()
    last = torch.zeros(2, 6, 7, moved.shape[1])
    refused(loss, moved, last, "classes in dim 3", "target.movedim(-1, 1)")
    refused(loss, logits, last.movedim(-1, 1), "classes in dim 3", "logits.movedim(-1, 1)")


@pytest.mark.parametrize(
    "shape", [(2, 6), (2, 7, 6), (1, 6, 7), (2, 1, 6, 7), (6, 7), (3, 5, 6, 7)]
)
@pytest.mark.parametrize("loss", SOFTMAX)
def test_shapes_that_do_not_pair_are_both_named(loss: object, shape: tuple[int, ...]) -> None:
    target = torch.zeros(shape, dtype=torch.long)
    refused(loss, torch.randn(2, 5, 6, 7), target, "(2, 5, 6, 7)", str(shape), "(2, 6, 7)")


@pytest.mark.parametrize("shape", [(2, 6), (1, 1, 6, 7), (2, 3, 6, 7), (6, 7), (2, 6, 7, 1, 1)])
@pytest.mark.parametrize("loss", BINARY)
def test_binary_targets_never_broadcast(loss: object, shape: tuple[int, ...]) -> None:
    target = torch.zeros(shape, dtype=torch.long)
    refused(loss, torch.randn(2, 1, 6, 7), target, "(2, 1, 6, 7)", str(shape))
    refused(loss, torch.randn(2, 3, 6, 7), IDS, "(2, 3, 6, 7)", "(2, 6, 7)")


@pytest.mark.parametrize("loss", SOFTMAX)
def test_a_dtype_that_does_not_go_with_the_shape_is_refused(loss: object) -> None:
    logits = torch.randn(2, 5, 6, 7)
    refused(loss, logits, IDS.float(), "torch.float32", "target.long()")
    refused(loss, logits, IDS.bool(), "bool", "target.long()")
    refused(loss, logits, torch.zeros(2, 5, 6, 7).int(), "torch.int32", "argmax(1)")


@pytest.mark.parametrize("loss", SOFTMAX + BINARY)
def test_logits_that_are_no_scores_of_classes_are_refused(loss: object) -> None:
    refused(loss, torch.randn(4), torch.zeros(3).long(), "(4,)", "(3,)", "(N, C, *d)")
    refused(loss, torch.tensor(1.0), torch.tensor(0), "()", "(N, C, *d)")
    refused(loss, torch.ones(4, 1).int(), torch.zeros(4).long(), "torch.int32", "(N, C, *d)")


@pytest.mark.parametrize("shape", [(2, 1, 6, 7), (5, 1), (1,), (0, 1, 6, 7)])
@pytest.mark.parametrize("loss", SOFTMAX_LOSSES, ids=lambda loss: type(loss).__name__)
def test_a_softmax_over_one_channel_is_refused_with_the_loss_for_it(
    loss: nn.Module, shape: tuple[int, ...]
) -> None:
    twin = "BinaryFocalLoss" if isinstance(loss, FocalLoss) else "BinaryCrossEntropyLoss"
    ids = torch.zeros(shape[:1] + shape[2:] if len(shape) > 1 else (), dtype=torch.uint8)
    for target in (ids, torch.ones(shape)):
        if isinstance(loss, BoundaryLoss) and len(shape) < 3:
            continue  # it asks for a spatial dim before
        refused(loss, torch.randn(shape), target, "1 channel", f"seg.losses.{twin}")
        if len(shape) > 1 and not isinstance(loss, CompoundLoss):
            refused(loss.terms, torch.randn(shape), target, f"seg.losses.{twin}")


@pytest.mark.parametrize("loss", SOFTMAX)
def test_a_weight_of_the_wrong_length_is_refused(loss: object) -> None:
    with pytest.raises(ValueError, match=r"\(4,\).*5 channels.*\(5,\)"):
        loss(torch.randn(2, 5, 6, 7), IDS, torch.ones(4))


@pytest.mark.parametrize("loss", SOFTMAX)
def test_probabilities_outside_0_to_1_are_refused_with_their_value(loss: object) -> None:
    target = torch.full((2, 5, 6, 7), 0.2)
    target[1, 2, 3, 4] = 2.5
    refused(loss, torch.randn(2, 5, 6, 7), target, "2.5", "[0, 1]", "255")


@pytest.mark.parametrize("classes", [2, 5])
def test_a_compiled_loss_refuses_a_wrong_label_with_its_value_too(classes: int) -> None:
    torch.compiler.reset()
    compiled = torch.compile(CrossEntropyLoss(), fullgraph=True, backend="aot_eager")
    wrong = IDS.clamp(max=1)
    wrong[0, 0, 0] = 17
    message = f"target value 17 is not a class id 0..{classes - 1} or ignore_index 255"
    with pytest.raises(ValueError, match=re.escape(message)):
        compiled(torch.randn(2, classes, 6, 7), wrong)


@pytest.mark.parametrize("loss", SOFTMAX + BINARY)
def test_annotations_hold_for_every_form_of_input(loss: object) -> None:
    typed = jaxtyped(loss, typechecker=beartype)
    channels = 1 if loss in BINARY else 5
    assert typed(torch.randn(channels), torch.tensor(0)).isfinite()
    assert typed(torch.randn(channels), torch.full((channels,), 1 / channels)).isfinite()
    for values in ([1.0, 2.0, 3.0, 1.0, 1.0], (1.0, 2.0, 3.0, 1.0, 1.0)):
        for hold in (list, tuple, np.array, torch.tensor):
            if loss in SOFTMAX:
                assert typed(torch.randn(2, 5, 6), torch.zeros(2, 6).int(), hold(values)) > 0
    for shape in ((8,), (2, 6, 7), (2, 3, 4, 5)):
        for dtype in (torch.float32, torch.bfloat16):
            logits = torch.randn(shape[0], channels, *shape[1:], dtype=dtype)
            ids = torch.zeros(shape, dtype=torch.uint8)
            probabilities = torch.full(logits.shape, 1 / channels, dtype=dtype)
            assert typed(logits, ids).isfinite()
            assert typed(logits, probabilities).isfinite()
    if loss in BINARY:
        assert typed(torch.randn(2, 1, 6, 7), IDS.bool()).isfinite()
        assert typed(torch.randn(2, 3, 6, 7), torch.zeros(2, 3, 6, 7).int()).isfinite()
    with pytest.raises(TypeCheckError):
        typed(torch.ones(8, channels).int(), torch.zeros(8).long())


@pytest.mark.parametrize("ignore_index", [0, 1])
def test_an_ignore_index_that_is_a_probability_is_refused_with_probabilities(
    ignore_index: int,
) -> None:
    logits = torch.zeros(1, 3, 2)
    with pytest.raises(ValueError, match=f"ignore_index {ignore_index} is a probability"):
        CrossEntropyLoss(ignore_index=ignore_index)(logits, torch.full((1, 3, 2), 1 / 3))
    with pytest.raises(ValueError, match=f"ignore_index {ignore_index} is a probability"):
        BinaryCrossEntropyLoss(ignore_index=ignore_index)(logits, torch.full((1, 3, 2), 0.5))
