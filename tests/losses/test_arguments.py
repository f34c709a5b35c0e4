"""Values of classes, and numbers, are taken from whatever holds them."""

import io
from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from seg.losses import (
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    CompoundLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    LogitAdjustedCrossEntropyLoss,
    OhemCrossEntropyLoss,
    RecallLoss,
    SegmentationLoss,
    TverskyLoss,
    binary_cross_entropy,
    binary_focal_loss,
    cross_entropy,
    focal_loss,
    logit_adjusted_cross_entropy,
    ohem_cross_entropy,
    recall_loss,
    tversky_loss,
)
from seg.losses.class_weights import class_weights, log_priors
from seg.module import SegmentationModule

VALUES = [0.25, 1.0, 4.0]
HOLDERS: dict[str, Callable[[list[float]], Any]] = {
    "tuple": tuple,
    "integers and floats": lambda values: [int(v) if v == int(v) else v for v in values],
    "numpy": np.array,
    "numpy float32": lambda values: np.array(values, np.float32),
    "numpy reversed": lambda values: np.array(values[::-1])[::-1],
    "numpy scalars": lambda values: list(np.array(values, np.float16)),
    "tensor": torch.tensor,
    "tensor float64": lambda values: torch.tensor(values, dtype=torch.float64),
    "tensor bfloat16": lambda values: torch.tensor(values, dtype=torch.bfloat16),
    "tensor of every other": lambda values: torch.tensor(values).repeat_interleave(2)[::2],
    "list of tensors": lambda values: [torch.tensor(v) for v in values],
}
every_holder = pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
CLASSES = [
    (CrossEntropyLoss, "weight"),
    (FocalLoss, "alpha"),
    (FocalLoss, "gamma"),
    (OhemCrossEntropyLoss, "weight"),
    (BinaryCrossEntropyLoss, "pos_weight"),
    (LogitAdjustedCrossEntropyLoss, "priors"),
]
every_class = pytest.mark.parametrize(("build", "name"), CLASSES)
FUNCTIONS = [
    (cross_entropy, "weight"),
    (focal_loss, "alpha"),
    (focal_loss, "gamma"),
    (ohem_cross_entropy, "weight"),
    (binary_cross_entropy, "pos_weight"),
    (logit_adjusted_cross_entropy, "log_prior"),
    (recall_loss, "false_negative_rate"),
]
every_function = pytest.mark.parametrize(("function", "name"), FUNCTIONS)
NUMBERS = [
    (BinaryCrossEntropyLoss, "pos_weight", 0.5),
    (FocalLoss, "gamma", 0.5),
    (FocalLoss, "label_smoothing", 0.5),
    (CrossEntropyLoss, "label_smoothing", 0.5),
    (BinaryFocalLoss, "alpha", 0.5),
    (BinaryFocalLoss, "gamma", 0.5),
    (TverskyLoss, "alpha", 0.5),
    (TverskyLoss, "beta", 0.5),
    (TverskyLoss, "gamma", 0.5),
    (OhemCrossEntropyLoss, "fraction", 0.5),
    (LogitAdjustedCrossEntropyLoss, "tau", 0.5),
    (RecallLoss, "momentum", 0.5),
]


def sample(name: str) -> tuple[Tensor, Tensor]:
    """Logits (2, 3, 4, 5), and ids or, for a binary loss, labels of each channel."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    target = torch.randint(0, 3, (2, 4, 5), generator=generator)
    return logits, (logits > 0.3).long() if "binary" in name.lower() else target


def state(loss: SegmentationLoss) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in loss.state_dict().items()}


@every_holder
@every_class
def test_whatever_holds_the_values_of_a_class_makes_the_loss_of_the_list(
    build: Callable[..., SegmentationLoss], name: str, hold: Callable[[list[float]], Any]
) -> None:
    pair = sample(build.__name__)
    expected, loss = build(**{name: VALUES}), build(**{name: hold(VALUES)})
    torch.testing.assert_close(state(loss), state(expected), rtol=0, atol=0)
    assert torch.equal(loss(*pair), expected(*pair))
    assert all(value.dtype == torch.float32 for value in state(loss).values())


@every_holder
@every_function
def test_a_function_takes_the_values_of_a_class_from_whatever_holds_them(
    function: Callable[..., Tensor], name: str, hold: Callable[[list[float]], Any]
) -> None:
    logits, target = sample(function.__name__)
    expected = function(logits, target, **{name: torch.tensor(VALUES)})
    assert expected != function(logits, target, **{name: torch.ones(3)})
    torch.testing.assert_close(function(logits, target, **{name: hold(VALUES)}), expected)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@every_function
def test_values_that_are_learnt_have_their_gradient(
    function: Callable[..., Tensor], name: str, reduction: str
) -> None:
    """As in a loss of one's own that has them as a parameter."""
    logits, target = sample(function.__name__)
    values = torch.tensor([0.25, 0.8, 0.5], dtype=torch.float64, requires_grad=True)

    def loss(given: Tensor) -> Tensor:
        return function(logits.double(), target, **{name: given}, reduction=reduction).sum()

    assert torch.autograd.gradcheck(loss, values)


@every_class
def test_the_values_are_a_copy_of_the_tensor_they_came_from(
    build: Callable[..., SegmentationLoss], name: str
) -> None:
    values = torch.tensor(VALUES)
    loss = build(**{name: values})
    before = state(loss)
    values.fill_(7)
    torch.testing.assert_close(state(loss), before, rtol=0, atol=0)


@every_class
def test_values_on_the_meta_device_are_taken_as_a_shape(
    build: Callable[..., SegmentationLoss], name: str
) -> None:
    loss = build(**{name: torch.empty(3, device="meta")})
    logits, target = sample(build.__name__)
    assert all(value.is_meta and value.shape == (3,) for value in loss.state_dict().values())
    assert loss(logits.to("meta"), target.to("meta")).shape == ()


@every_function
def test_values_lie_where_the_logits_lie(function: Callable[..., Tensor], name: str) -> None:
    logits, target = sample(function.__name__)
    value = function(logits.to("meta"), target.to("meta"), **{name: torch.tensor(VALUES)})
    assert value.is_meta


WRONG = {
    "a number": torch.tensor(2.0),
    "numpy number": np.float64(2.0),
    "rows": torch.ones(3, 1),
    "numpy rows": np.ones((1, 3)),
    "complex": torch.ones(3, dtype=torch.complex64),
    "words": ["1", "heavy", "2"],
    "nothing in it": [1.0, None, 2.0],
    "by class": {0: 1.0, 1: 2.0, 2: 4.0},
    "learnable": nn.Parameter(torch.ones(3)),
}


@pytest.mark.parametrize("values", WRONG.values(), ids=WRONG)
@every_class
def test_what_is_not_one_number_a_class_is_refused_in_one_line(
    build: Callable[..., SegmentationLoss], name: str, values: Any
) -> None:
    if name in ("gamma", "pos_weight") and getattr(values, "ndim", 1) == 0:
        return  # one number for all classes
    with pytest.raises(ValueError, match=f"^{name}") as caught:
        build(**{name: values})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("hold"), [torch.tensor, np.array, list], ids=["tensor", "numpy", "list"])
@every_function
def test_a_wrong_number_of_values_is_refused_by_its_name(
    function: Callable[..., Tensor], name: str, hold: Callable[[list[float]], Any]
) -> None:
    logits, target = sample(function.__name__)
    with pytest.raises(ValueError, match=rf"^{name} of shape \(2,\) for logits of 3 channels"):
        function(logits, target, **{name: hold([1.0, 2.0])})


@pytest.mark.parametrize(
    "hold",
    [torch.tensor, np.array, np.float32, lambda x: torch.tensor([x], dtype=torch.float64)],
    ids=["tensor", "numpy", "numpy scalar", "tensor of one"],
)
@pytest.mark.parametrize(("build", "name", "value"), NUMBERS)
def test_one_number_may_be_a_tensor_or_an_array(
    build: Callable[..., SegmentationLoss], name: str, value: float, hold: Callable[[float], Any]
) -> None:
    if (build, name) == (FocalLoss, "gamma") and getattr(hold(value), "ndim", 0) == 1:
        return  # that is one value a class, of one class
    expected, loss = build(**{name: value}), build(**{name: hold(value)})
    assert vars(loss).keys() == vars(expected).keys()
    kept = [getattr(x, name) for x in (loss, expected)]
    assert kept[0] == kept[1] and type(kept[0]) is type(kept[1])


@pytest.mark.parametrize(("build", "name", "value"), NUMBERS)
def test_several_numbers_where_one_is_meant_are_refused_in_one_line(
    build: Callable[..., SegmentationLoss], name: str, value: float
) -> None:
    if name in ("pos_weight", "gamma") and build in (BinaryCrossEntropyLoss, FocalLoss):
        return  # one for each
    for values in ([value, value], torch.full((3,), value), np.full((2, 2), value)):
        with pytest.raises(ValueError, match=rf"^{name}=.*expected one number\.$") as caught:
            build(**{name: values})
        assert "\n" not in str(caught.value)


def test_functions_take_numbers_from_tensors_too() -> None:
    logits, target = sample("softmax")
    half = torch.tensor(0.5)
    for function, name in (
        (focal_loss, "gamma"),
        (cross_entropy, "label_smoothing"),
        (ohem_cross_entropy, "fraction"),
        (tversky_loss, "alpha"),
    ):
        expected = function(logits, target, **{name: 0.5})
        torch.testing.assert_close(function(logits, target, **{name: half}), expected)
    labels = (logits > 0.3).long()
    for name, function in (("alpha", binary_focal_loss), ("pos_weight", binary_cross_entropy)):
        expected = function(logits, labels, **{name: 0.5})
        assert torch.equal(function(logits, labels, **{name: half}), expected)


def test_the_factors_of_a_sum_may_be_tensors_and_belong_to_names() -> None:
    logits, target = sample("softmax")
    parts = {"dice": DiceLoss(), "ce": CrossEntropyLoss()}
    expected = CompoundLoss(parts, {"dice": 0.5})
    for factor in (torch.tensor(0.5), np.float32(0.5), torch.tensor([0.5])):
        loss = CompoundLoss(parts, {"dice": factor})
        assert loss.weights == expected.weights
        assert torch.equal(loss(logits, target), expected(logits, target))
    for weights in ([0.5, 1.0], torch.tensor([0.5, 1.0]), np.array([0.5, 1.0])):
        with pytest.raises(ValueError, match="expected a factor by the name of its part"):
            CompoundLoss(parts, weights)  # type: ignore[arg-type]


@pytest.mark.parametrize("hold", [tuple, np.array, torch.tensor, np.uint32, torch.IntTensor])
def test_pixel_counts_are_taken_from_whatever_holds_them(hold: Callable[[list[int]], Any]) -> None:
    pixels, images = [900, 80, 15], [1000, 400, 200]
    loss, expected = CrossEntropyLoss("median_frequency"), CrossEntropyLoss("median_frequency")
    loss.set_class_counts(hold(pixels), hold(images))
    expected.set_class_counts(pixels, images)
    assert torch.equal(loss.weight, expected.weight)
    assert torch.equal(
        class_weights("log_frequency", hold(pixels)), class_weights("log_frequency", pixels)
    )
    assert torch.equal(log_priors(hold(pixels)), log_priors(pixels))


@pytest.mark.parametrize("pixels", [5, torch.tensor(5), np.array(5), "many", [1, None]])
def test_counts_that_are_not_one_a_class_are_refused_in_one_line(pixels: Any) -> None:
    for call in (
        CrossEntropyLoss("inverse_frequency").set_class_counts,
        lambda counts: class_weights("inverse_frequency", counts),
        log_priors,
    ):
        with pytest.raises(ValueError, match=r"pixels.*one count a class") as caught:
            call(pixels)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("CrossEntropyLoss.weight", "[1, 2.5]", [1.0, 2.5]),
        ("CrossEntropyLoss.weight", "median_frequency", "median_frequency"),
        ("FocalLoss.gamma", "[0.5, 2]", [0.5, 2.0]),
        ("FocalLoss.gamma", "1.5", 1.5),
        ("OhemCrossEntropyLoss.weight", "[1, 2]", [1.0, 2.0]),
        ("BinaryCrossEntropyLoss.pos_weight", "3", 3.0),
        ("LogitAdjustedCrossEntropyLoss.priors", "[0.9, 0.1]", [0.9, 0.1]),
        ("CompoundLoss.weights", "{dice: 0.5}", {"dice": 0.5}),
    ],
)
def test_a_configuration_still_says_values_as_lists(path: str, text: str, value: object) -> None:
    name, argument = path.split(".")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--loss", type=SegmentationLoss)
    given = ["--loss", f"seg.losses.{name}", f"--loss.{argument}={text}"]
    if name == "CompoundLoss":
        given.append("--loss.parts={dice: {class_path: seg.losses.DiceLoss}}")
    parsed = parser.parse_args(given)
    assert parsed.loss.init_args[argument] == value
    assert type(parser.instantiate(parsed).loss).__name__ == name


@pytest.mark.parametrize("build", [CrossEntropyLoss, FocalLoss, LogitAdjustedCrossEntropyLoss])
def test_the_help_shows_what_a_configuration_can_say(build: type[SegmentationLoss]) -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(build, "loss")
    text = parser.format_help()
    assert "list[float]" in text
    assert not [word for word in ("Tensor", "ndarray", "Sequence") if word in text]


def test_a_module_with_a_tensor_of_weights_saves_a_checkpoint_that_loads(tmp_path: Any) -> None:
    weight = torch.tensor([1.0, 5.0], dtype=torch.float64)
    batch = {"image": torch.zeros(2, 3, 8, 8).byte(), "mask": torch.ones(2, 8, 8).byte()}

    def build(weight: Any) -> SegmentationModule:
        loss = CrossEntropyLoss(weight=weight)
        module = SegmentationModule(
            nn.Conv2d(3, 2, 1), loss, ["a", "b"], mean=[0.5] * 3, std=[0.5] * 3
        )
        return module

    module = build(weight)
    silent = ("enable_progress_bar", "enable_model_summary", "enable_checkpointing", "logger")
    trainer = L.Trainer(
        accelerator="cpu", max_steps=1, default_root_dir=tmp_path, **dict.fromkeys(silent, False)
    )
    trainer.fit(module, torch.utils.data.DataLoader([batch], batch_size=None))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    fresh = build(np.array([1.0, 1.0]))
    fresh.load_state_dict(saved)
    assert fresh.loss.weight.tolist() == weight.tolist()
    buffer = io.BytesIO()
    torch.save(fresh.loss, buffer)  # the loss itself, as a pickle
    buffer.seek(0)
    assert torch.load(buffer, weights_only=False).weight.tolist() == weight.tolist()
