"""Losses under the transforms of torch.func, with tensors without values, and in graphs."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from seg.distributed.ranks import ALONE
from seg.losses import RecallLoss
from seg.losses.tracing import traced, transformed, unreadable
from seg.training.step import Share, step_loss
from tests.losses.test_losses import CASES, IGNORE_INDEX, Case, every_loss, gradient, sample

pytestmark = pytest.mark.slow

SOME = [x for x in CASES if x.name in ("weighted", "focal", "dice", "binary", "recall")]
close = {"rtol": 1e-9, "atol": 1e-12}
RANKING = ("ohem", "lovasz", "lovasz_per_image")


def skip_where_torch_maps_no_bits(case: Case) -> None:
    if case.name in RANKING and torch.__version__ < (2, 13):
        pytest.skip(
            "torch before 2.13 has no vmap of Tensor.view(dtype), by which pixels are ranked"
        )


@every_loss
def test_the_gradient_by_torch_func_is_that_of_autograd(case: Case) -> None:
    logits, target = sample(case)
    expected = gradient(case.build(), logits, target)
    slope, value = torch.func.grad_and_value(case.build())(logits, target)
    torch.testing.assert_close((value, slope), expected, **close)


@every_loss
def test_vmap_gives_the_losses_and_gradients_of_one_image_after_the_other(case: Case) -> None:
    skip_where_torch_maps_no_bits(case)
    logits, target = sample(case)
    target[1] = IGNORE_INDEX

    def image(scores: Tensor, labels: Tensor) -> Tensor:
        return case.build()(scores[None], labels[None])

    slopes, values = torch.vmap(torch.func.grad_and_value(image))(logits, target)
    for i in range(len(logits)):
        expected = gradient(case.build(), logits[i : i + 1], target[i : i + 1])
        torch.testing.assert_close((values[i], slopes[i][None]), expected, **close)


@pytest.mark.parametrize("dims", [(0, None), (None, 0), (1, 2)])
@every_loss
def test_vmap_maps_the_logits_the_target_or_both(
    case: Case, dims: tuple[int | None, int | None]
) -> None:
    skip_where_torch_maps_no_bits(case)
    pair = sample(case)
    loss = case.build(reduction="none")
    mapped = list(zip(pair, dims, strict=True))
    several = [x if d is None else torch.stack([x, x.flip(0)], d) for x, d in mapped]
    found = torch.vmap(loss, dims)(*several)
    for i, value in enumerate(found):
        one = [x if d is None else x.select(d, i) for x, d in zip(several, dims, strict=True)]
        torch.testing.assert_close(value, loss(*one), **close)


@every_loss
def test_probabilities_are_mapped_as_ids_are(case: Case) -> None:
    skip_where_torch_maps_no_bits(case)
    logits, _ = sample(case)
    soft = torch.rand(logits.shape, generator=torch.Generator().manual_seed(1)).double()
    soft = soft if case.channels == 1 else soft / soft.sum(1, keepdim=True)
    loss = case.build()
    found = torch.vmap(lambda z, q: loss(z[None], q[None]))(logits, soft)
    expected = torch.stack([loss(z[None], q[None]) for z, q in zip(logits, soft, strict=True)])
    torch.testing.assert_close(found, expected, **close)


# torch.func.jvp scripts its decompositions at the first use
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
@every_loss
def test_a_jacobian_forward_and_a_hessian_are_those_of_autograd(case: Case) -> None:
    logits, target = sample(case, (2, 2, 2))
    target = target.clamp(max=case.labels - 1)
    loss = case.build()
    forward = torch.func.jvp(lambda z: loss(z, target), (logits,), (torch.ones_like(logits),))[1]
    slope = gradient(loss, logits, target)[1]
    torch.testing.assert_close(forward, slope.sum(), rtol=1e-9, atol=1e-9)
    leaf = logits.clone().requires_grad_()
    expected = torch.autograd.functional.hessian(lambda z: loss(z, target), leaf)
    found = torch.func.jacrev(torch.func.grad(loss))(logits, target)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@every_loss
def test_a_label_that_is_no_class_is_refused_with_its_value_under_a_transform(case: Case) -> None:
    logits, target = sample(case)
    target[1, 2, 3] = 17
    loss = case.build()
    with pytest.raises(ValueError, match=r"\b17\b.*255"):
        torch.func.grad(loss)(logits, target)
    with pytest.raises(ValueError, match=r"\b17\b.*255"):
        torch.vmap(lambda z, t: loss(z[None], t[None]))(logits, target)


def counts_of(call: Callable[[RecallLoss], object], bound: bool) -> Tensor:
    """The counts of a recall loss in training after one call."""
    loss = RecallLoss(0.5)
    if bound:
        loss.bind(4)
        loss.counts += 10
    call(loss)
    return copy.deepcopy(loss).state_dict()["counts"].clone()


@pytest.mark.parametrize("bound", [True, False])
def test_a_recall_loss_counts_its_pixels_under_a_transform(bound: bool) -> None:
    logits, target = sample(CASES[0])
    expected = counts_of(lambda loss: loss(logits, target), bound)
    assert expected.sum() > 0
    found = counts_of(lambda loss: torch.func.grad(loss)(logits, target), bound)
    assert torch.equal(found, expected)

    def each(loss: RecallLoss) -> object:
        return torch.vmap(torch.func.grad(lambda z, t: loss(z[None], t[None])))(logits, target)

    assert torch.equal(counts_of(each, bound), expected)  # the images are one batch


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@every_loss
def test_on_the_meta_device_shapes_are_right(case: Case, reduction: str) -> None:
    logits, target = sample(case)
    expected, slope = gradient(case.build(reduction=reduction), logits, target)
    for loss in (case.build(reduction=reduction), case.build(reduction=reduction).to("meta")):
        for training in (True, False):
            pair = logits.to("meta"), target.to("meta")
            value, found = gradient(loss.train(training), *pair)
            assert value.is_meta and found.is_meta
            assert (value.shape, value.dtype) == (expected.shape, expected.dtype)
            assert (found.shape, found.stride()) == (slope.shape, slope.stride())


@pytest.mark.parametrize("inside", [True, False], ids=["made_inside", "made_outside"])
@every_loss
def test_fake_tensors_have_the_shape_of_the_loss(case: Case, inside: bool) -> None:
    logits, target = sample(case)
    before = None if inside else case.build()
    with FakeTensorMode() as mode:
        loss = before or case.build()
        value, slope = gradient(loss, mode.from_tensor(logits), mode.from_tensor(target))
        assert value.shape == ()
        assert slope.shape == logits.shape


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "mode"), [*((case, "fake") for case in CASES), *((case, "real") for case in SOME)]
)
def test_a_graph_of_value_and_gradient_serves_other_inputs(case: Case, mode: str) -> None:
    logits, target = sample(case)

    def value_and_gradient(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return gradient(case.build(), scores, labels)

    graph = make_fx(value_and_gradient, tracing_mode=mode, _allow_non_fake_inputs=True)(
        logits.flip(0), target.flip(0)
    )
    torch.testing.assert_close(graph(logits, target), value_and_gradient(logits, target), **close)


class Step(nn.Module):
    """A training step of a small network as a module, which can be exported."""

    def __init__(self, case: Case, micro_batch_size: int | None = None) -> None:
        super().__init__()
        self.loss = case.build()
        self.network = nn.Conv2d(3, case.channels, 1)
        self.sizes = case.channels, micro_batch_size

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        share = Share(images, target, ALONE)
        parts = self.loss.components()
        return step_loss(self.network, self.network, parts, share, *self.sizes).loss


@pytest.mark.slow
@pytest.mark.parametrize("case", SOME, ids=lambda case: case.name)
def test_a_training_step_is_exported(case: Case) -> None:
    _, target = sample(case)
    images = torch.randn(3, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    step = Step(case)
    program = torch.export.export(step, (images.flip(0), target.flip(0))).module()
    value = program(images, target)
    torch.testing.assert_close(value, step(images, target), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("micro_batch_size", [None, 1])
@every_loss
def test_a_training_step_on_the_meta_device_has_gradients_of_the_right_shape(
    case: Case, micro_batch_size: int | None
) -> None:
    _, target = sample(case)
    step = Step(case, micro_batch_size).to("meta")
    loss = step(torch.empty(3, 3, 6, 5, device="meta"), target.to("meta"))
    assert loss.is_meta and loss.shape == ()
    loss.backward()
    assert step.network.weight.grad.shape == step.network.weight.shape


@pytest.mark.parametrize("micro_batch_size", [None, 1])
@every_loss
def test_a_training_step_of_fake_tensors_reads_no_value(
    case: Case, micro_batch_size: int | None
) -> None:
    _, target = sample(case)
    with FakeTensorMode() as mode:
        step = Step(case, micro_batch_size)
        step(torch.empty(3, 3, 6, 5), mode.from_tensor(target)).backward()
        assert step.network.weight.grad.shape == step.network.weight.shape


def test_what_hides_the_values_is_told_apart() -> None:
    """A canary for the private names of torch that this asks."""
    values, found = torch.ones(3), {}

    def look(name: str) -> Callable[[Tensor], Tensor]:
        def function(x: Tensor) -> Tensor:
            found[name] = traced(), transformed(), unreadable(x)
            return x.sum()

        return function

    look("eager")(values)
    torch.func.grad(look("grad"))(values)
    torch.vmap(look("vmap"))(torch.ones(2, 3))
    make_fx(look("graph"))(values)
    look("meta")(values.to("meta"))
    with FakeTensorMode() as mode:
        look("fake")(mode.from_tensor(values))
    look("after")(values)
    assert found == {
        "eager": (False, False, False),
        "grad": (False, True, True),
        "vmap": (False, True, True),
        "graph": (True, False, True),
        "meta": (False, False, True),
        "fake": (False, False, True),
        "after": (False, False, False),
    }
