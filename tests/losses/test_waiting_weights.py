"""Class weights of a loss: given, derived from counts, saved and loaded."""

import copy

import pytest
import torch
from jsonargparse import ArgumentParser

from seg.losses import (
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    CompoundLoss,
    CrossEntropyLoss,
    FocalLoss,
    LogitAdjustedCrossEntropyLoss,
    RecallLoss,
    SegmentationLoss,
)
from seg.losses.class_weights import POLICIES, class_weights

PIXELS = [900, 80, 15, 5]
IMAGE_PIXELS = [1000, 400, 200, 200]
WEIGHTED = [
    (CrossEntropyLoss, "weight", 4),
    (FocalLoss, "alpha", 4),
    (BinaryCrossEntropyLoss, "pos_weight", 2),
]
every_weighted_loss = pytest.mark.parametrize(("build", "name", "classes"), WEIGHTED)


def sample(loss: SegmentationLoss, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, loss.channels(classes), 5, 6, generator=generator)
    return logits, torch.randint(0, classes, (2, 5, 6), generator=generator)


@pytest.mark.parametrize("policy", sorted(POLICIES))
@every_weighted_loss
def test_a_policy_is_resolved_from_the_counts(
    build: type[SegmentationLoss], name: str, classes: int, policy: str
) -> None:
    loss = build(**{name: policy})
    assert loss.needs_class_counts
    loss.set_class_counts(PIXELS[:classes], IMAGE_PIXELS[:classes])
    weights = class_weights(policy, PIXELS[:classes], IMAGE_PIXELS[:classes])
    expected = weights[1:] / weights[:1] if name == "pos_weight" else weights
    given = build(**{name: expected.tolist()})
    assert not loss.needs_class_counts
    assert torch.equal(getattr(loss, name), expected)
    assert torch.equal(loss(*sample(loss, classes)), given(*sample(loss, classes)))


@every_weighted_loss
def test_an_unresolved_policy_is_refused_with_the_remedy(
    build: type[SegmentationLoss], name: str, classes: int
) -> None:
    loss = build(**{name: "median_frequency"})
    loss.bind(classes)
    for call in (loss, loss.terms):
        with pytest.raises(RuntimeError, match=f"{name}='median_frequency'.*set_class_counts"):
            call(*sample(loss, classes))


@every_weighted_loss
def test_resolved_weights_are_saved_and_load_into_a_bound_loss(
    build: type[SegmentationLoss], name: str, classes: int
) -> None:
    loss = build(**{name: "effective_number"})
    loss.set_class_counts(PIXELS[:classes])
    fresh = torch.nn.ModuleDict({"loss": build(**{name: "effective_number"})})
    fresh["loss"].bind(classes)
    fresh.load_state_dict({f"loss.{key}": value for key, value in loss.state_dict().items()})
    assert list(loss.state_dict()) == [name]
    assert not fresh["loss"].needs_class_counts
    assert torch.equal(fresh["loss"](*sample(loss, classes)), loss(*sample(loss, classes)))


@every_weighted_loss
def test_the_advice_for_an_unresolved_policy_works_as_it_stands(
    build: type[SegmentationLoss], name: str, classes: int
) -> None:
    trained = build(**{name: "effective_number"})
    trained.set_class_counts(PIXELS[:classes])
    pair = sample(trained, classes)
    fresh = build(**{name: "effective_number"})
    with pytest.raises(RuntimeError) as caught:
        fresh(*pair)
    assert ".set_class_counts(pixels)" in str(caught.value)
    assert ".load_state_dict(...)" in str(caught.value)
    fresh.load_state_dict(trained.state_dict())
    assert not fresh.needs_class_counts
    assert torch.equal(fresh(*pair), trained(*pair))
    counted = build(**{name: "effective_number"})
    counted.set_class_counts(PIXELS[:classes])
    assert torch.equal(counted(*pair), trained(*pair))


def test_losses_that_are_filled_later_load_what_a_trained_one_saved() -> None:
    def build() -> CompoundLoss:
        parts = {
            "adjusted": LogitAdjustedCrossEntropyLoss(),
            "recall": RecallLoss(),
            "focal": FocalLoss(alpha="median_frequency"),
        }
        return CompoundLoss(parts)

    trained, fresh = build(), build()
    trained.set_class_counts(PIXELS, IMAGE_PIXELS)
    pair = sample(trained, 4)
    trained(*pair)
    assert trained.state_dict()["parts.recall.counts"].sum() > 0
    fresh.load_state_dict(trained.state_dict())
    torch.testing.assert_close(fresh.state_dict(), trained.state_dict(), rtol=0, atol=0)
    assert torch.equal(fresh.eval()(*pair), trained.eval()(*pair))


def test_a_state_dict_of_other_losses_is_refused_as_ever() -> None:
    trained = CrossEntropyLoss(weight="median_frequency")
    trained.set_class_counts(PIXELS)
    for other in (CrossEntropyLoss(), FocalLoss(alpha="median_frequency")):
        with pytest.raises(RuntimeError, match="Unexpected key"):
            other.load_state_dict(trained.state_dict())
    bound = CrossEntropyLoss(weight="median_frequency")
    bound.bind(3)
    with pytest.raises(RuntimeError, match="size mismatch"):
        bound.load_state_dict(trained.state_dict())


def test_a_state_dict_of_unresolved_weights_does_not_count_as_resolved() -> None:
    loss, fresh = (FocalLoss(alpha="median_frequency") for _ in range(2))
    loss.bind(4)
    fresh.bind(4)
    fresh.load_state_dict(loss.state_dict())
    assert fresh.needs_class_counts


def test_new_counts_are_written_into_the_same_buffer() -> None:
    loss = CrossEntropyLoss(weight="inverse_frequency")
    loss.bind(4)
    buffer = loss.weight
    loss.set_class_counts(PIXELS)
    first = buffer.clone()
    loss.set_class_counts(torch.tensor(PIXELS[::-1]))
    assert loss.weight is buffer
    torch.testing.assert_close(buffer, first.flip(0))


def test_a_copy_is_resolved_on_its_own() -> None:
    loss = FocalLoss(alpha="median_frequency")
    copied = copy.deepcopy(loss)
    copied.set_class_counts(PIXELS)
    assert loss.needs_class_counts and not copied.needs_class_counts


@every_weighted_loss
def test_given_weights_are_a_buffer_that_moves_with_the_loss(
    build: type[SegmentationLoss], name: str, classes: int
) -> None:
    loss = build(**{name: [float(i + 1) for i in range(build().channels(classes))]})
    loss.bind(classes)
    assert list(loss.state_dict()) == [name]
    assert list(loss.parameters()) == []
    assert getattr(loss.to("meta"), name).is_meta
    assert not loss.needs_class_counts


@every_weighted_loss
def test_weights_for_another_number_of_classes_are_refused(
    build: type[SegmentationLoss], name: str, classes: int
) -> None:
    with pytest.raises(ValueError, match=rf"{name} of shape \(5,\)"):
        build(**{name: [1.0] * 5}).bind(classes)
    resolved = build(**{name: "median_frequency"})
    resolved.set_class_counts(PIXELS[:classes])
    with pytest.raises(ValueError, match=r"classes|channels"):
        resolved.bind(3)


@pytest.mark.parametrize("values", [[1.0, -1.0], [1.0, float("nan")], [float("inf"), 1.0], [0.0]])
@every_weighted_loss
def test_numbers_that_are_no_weights_are_refused(
    build: type[SegmentationLoss], name: str, classes: int, values: list[float]
) -> None:
    with pytest.raises(ValueError, match=name):
        build(**{name: values})


@every_weighted_loss
def test_an_unknown_policy_is_refused_with_the_known_ones(
    build: type[SegmentationLoss], name: str, classes: int
) -> None:
    with pytest.raises(ValueError, match=f"{name}='rarest'.*median_frequency"):
        build(**{name: "rarest"})


def test_counts_do_not_touch_a_loss_without_a_policy() -> None:
    loss = CrossEntropyLoss(weight=[1.0, 2.0, 3.0, 4.0])
    loss.set_class_counts(PIXELS)
    assert loss.weight.tolist() == [1.0, 2.0, 3.0, 4.0]
    BinaryFocalLoss().set_class_counts(PIXELS[:2])


def test_an_absent_class_is_warned_of_by_name_and_weighs_nothing() -> None:
    loss = CrossEntropyLoss(weight="median_frequency")
    with pytest.warns(UserWarning, match="bicyclist"):
        loss.set_class_counts([10, 0, 5], class_names=["sky", "bicyclist", "car"])
    assert loss.weight[1] == 0


def test_a_foreground_without_a_pixel_is_refused() -> None:
    loss = BinaryCrossEntropyLoss(pos_weight="median_frequency")
    with (
        pytest.warns(UserWarning, match="foreground"),
        pytest.raises(ValueError, match="give pos_weight as a number"),
    ):
        loss.set_class_counts([10, 0], class_names=["background", "foreground"])


@pytest.mark.parametrize(
    ("path", "name", "text", "value"),
    [
        ("CrossEntropyLoss", "weight", "median_frequency", "median_frequency"),
        ("CrossEntropyLoss", "weight", "[1, 2.5]", [1.0, 2.5]),
        ("FocalLoss", "alpha", "null", None),
        ("BinaryCrossEntropyLoss", "pos_weight", "3", 3.0),
        ("BinaryFocalLoss", "alpha", "null", None),
    ],
)
def test_the_command_line_builds_every_form_of_weight(
    path: str, name: str, text: str, value: object
) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--loss", type=SegmentationLoss)
    arguments = ["--loss", f"seg.losses.{path}", f"--loss.{name}={text}", "--loss.reduction=sum"]
    parsed = parser.parse_args(arguments)
    built = parser.instantiate(parsed).loss
    assert parsed.loss.init_args[name] == value
    assert type(built).__name__ == path and built.reduction == "sum"
