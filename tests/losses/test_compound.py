"""A weighted sum of losses against its parts."""

import pytest
import torch
from torch import Tensor

from seg.losses import (
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    CompoundLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    check_loss,
)


def sample() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 6, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 3, (2, 5, 6), generator=generator)
    return logits.requires_grad_(), target.masked_fill(target == 2, 255)


def test_it_is_the_weighted_sum_of_its_parts_in_value_and_gradient() -> None:
    logits, target = sample()
    loss = CompoundLoss({"ce": CrossEntropyLoss(), "dice": DiceLoss()}, {"dice": 0.5})
    expected = CrossEntropyLoss()(logits, target) + 0.5 * DiceLoss()(logits, target)
    value = loss(logits, target)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits)
    )


def test_its_components_are_the_parts_with_their_factors_also_of_a_sum_in_a_sum() -> None:
    inner = CompoundLoss({"focal": FocalLoss(), "dice": DiceLoss()}, {"dice": 2.0})
    loss = CompoundLoss({"ce": CrossEntropyLoss(), "rest": inner}, {"rest": 3.0})
    found = {name: (f, type(part)) for name, (f, part) in loss.components().items()}
    assert found == {
        "ce": (1.0, CrossEntropyLoss),
        "rest/focal": (3.0, FocalLoss),
        "rest/dice": (6.0, DiceLoss),
    }
    logits, target = sample()
    total = sum(factor * part(logits, target) for factor, part in loss.components().values())
    torch.testing.assert_close(loss(logits, target), total)


def test_counts_reach_every_part_that_waits_and_travel_in_the_state_dict() -> None:
    def build() -> CompoundLoss:
        parts = {"ce": CrossEntropyLoss(weight="inverse_frequency"), "dice": DiceLoss()}
        return CompoundLoss(parts)

    loss, fresh = build(), build()
    assert loss.needs_class_counts
    loss.set_class_counts([90, 9, 1])
    assert not loss.needs_class_counts
    fresh.bind(3)
    fresh.load_state_dict(loss.state_dict())
    assert list(loss.state_dict()) == ["parts.ce.weight"]
    assert torch.equal(fresh(*sample()), loss(*sample()))


def test_binary_parts_make_a_binary_sum() -> None:
    loss = CompoundLoss({"ce": BinaryCrossEntropyLoss(), "focal": BinaryFocalLoss()})
    assert loss.channels(2) == 1
    with pytest.raises(ValueError, match="binary loss needs two"):
        loss.channels(3)


@pytest.mark.slow
def test_it_keeps_the_contract_of_its_parts() -> None:
    assert check_loss(CompoundLoss({"ce": CrossEntropyLoss(), "dice": DiceLoss()})) == []


def test_parts_of_different_shapes_have_no_common_element_losses() -> None:
    loss = CompoundLoss({"ce": CrossEntropyLoss(), "dice": DiceLoss()}, reduction="none")
    with pytest.raises(ValueError, match=r"'ce': \(2, 5, 6\), 'dice': \(1,\).*mean or sum"):
        loss(*sample())


@pytest.mark.parametrize(
    ("parts", "weights", "message"),
    [
        ({}, None, "at least one"),
        ({"ce": CrossEntropyLoss()}, {"dice": 1.0}, r"'dice' is no part.*\['ce'\]"),
        ({"ce": CrossEntropyLoss()}, {"ce": 0.0}, r"ce=0.0.*> 0"),
        ({"ce": CrossEntropyLoss(), "b": BinaryFocalLoss()}, None, "differ in logits"),
        ({"ce": CrossEntropyLoss(), "d": DiceLoss(ignore_index=0)}, None, "differ in ignore_index"),
    ],
)
def test_what_does_not_add_up_is_refused(
    parts: dict[str, torch.nn.Module], weights: dict[str, float] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CompoundLoss(parts, weights)
