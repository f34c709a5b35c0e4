"""Boundary loss and its distances against SciPy's distance transform."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from seg.losses import boundary
from seg.losses.boundary import BoundaryLoss, boundary_loss, signed_distances

SHAPES = [(2, 40), (3, 17, 23), (2, 1, 9), (2, 9, 1), (2, 6, 7, 5), (1, 3, 4, 3, 2)]


def blocks(shape: tuple[int, ...], classes: int = 4, ignored: float = 0.1) -> Tensor:
    """Seeded uint8 ids (N, *d), coarse areas with a few stray and ignored pixels."""
    rng = np.random.default_rng(len(shape))
    coarse = rng.integers(0, classes, [shape[0], *(-(-size // 4) for size in shape[1:])])
    for dim, size in enumerate(shape[1:], 1):
        coarse = coarse.repeat(4, axis=dim).take(range(size), axis=dim)
    stray = rng.random(shape) < 0.03
    coarse[stray] = rng.integers(0, classes, stray.sum())
    coarse[rng.random(shape) < ignored] = 255
    return torch.from_numpy(coarse.astype(np.uint8))


def by_scipy(target: Tensor, classes: int) -> Tensor:
    """φ with one transform outside and one inside each class, float64."""
    phi = np.zeros([target.shape[0], classes, *target.shape[1:]])
    for image, labels in enumerate(target.numpy()):
        for c in range(classes):
            own, other = labels == c, (labels != c) & (labels != 255)
            if own.any() and other.any():
                outside = distance_transform_edt(~own)
                inside = distance_transform_edt(~other) - 1
                phi[image, c] = np.where(own, -inside, outside)
        phi[image][:, labels == 255] = 0
    return torch.from_numpy(phi)


def sample(shape: tuple[int, ...] = (3, 6, 5)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape[0], 4, *shape[1:], generator=generator, dtype=torch.float64)
    return 3 * logits, blocks(shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_distances_are_those_of_scipy(shape: tuple[int, ...]) -> None:
    target = blocks(shape)
    phi = signed_distances(target, 5)  # class 4 never occurs
    assert phi.dtype == torch.float32
    torch.testing.assert_close(phi.double(), by_scipy(target, 5), rtol=1e-6, atol=0)


def test_distances_are_right_to_the_last_bit_each_time() -> None:
    target = blocks((2, 190, 254))
    expected = by_scipy(target, 4).float()
    outside = expected > 0
    for _ in range(5):
        phi = signed_distances(target, 4)
        assert torch.equal(phi[outside], expected[outside])


@pytest.mark.parametrize("candidates", [1, 1000, 2**25])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_distances_by_tensor_operations_are_those_of_scipy(
    shape: tuple[int, ...], candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what runs where there is no kernel of its own, such as on CUDA, here on the CPU
    monkeypatch.setattr(boundary, "CANDIDATES", candidates)
    target = blocks(shape)
    phi = boundary._by_tensor_operations(target.long(), 5, 255)
    torch.testing.assert_close(phi.double(), by_scipy(target, 5), rtol=1e-6, atol=0)


def test_far_pixels_keep_their_exact_distance() -> None:
    target = torch.zeros(1, 300, 2000, dtype=torch.uint8)
    target[0, 3, 5] = 1
    expected = by_scipy(target, 2)
    torch.testing.assert_close(signed_distances(target, 2).double(), expected, rtol=1e-6, atol=0)


def test_distances_of_a_hand_made_row() -> None:
    target = torch.tensor([[0, 0, 0, 1, 1, 255, 2]])
    expected = [
        [-2, -1, 0, 1, 2, 0, 4],
        [3, 2, 1, 0, -1, 0, 2],
        [6, 5, 4, 3, 2, 0, 0],
    ]
    # the second pixel of class 1 is 2 from the one of class 2, over an ignored pixel
    expected[2][6] = -1
    assert signed_distances(target, 3)[0].tolist() == expected


def test_a_class_that_is_absent_or_alone_has_distance_zero() -> None:
    target = torch.tensor([[[1, 1], [1, 255]], [[0, 1], [1, 1]]])
    phi = signed_distances(target, 3)
    assert (phi[0] == 0).all()
    assert (phi[1, 2] == 0).all()
    assert (phi[1, :2] != 0).any()


def test_ignored_pixels_are_neither_the_class_nor_another() -> None:
    target = torch.tensor([[0, 0, 255, 255, 1]])
    assert signed_distances(target, 2)[0, 0].tolist() == [-3, -2, 0, 0, 3]
    assert signed_distances(target.masked_fill(target == 255, -1), 2, -1)[0, 0, 0] == -3


def test_an_ignore_index_may_be_a_class_id() -> None:
    target = torch.tensor([[0, 1, 1, 2]])
    phi = signed_distances(target, 3, ignore_index=0)
    assert phi[0].tolist() == [[0, 0, 0, 0], [0, -1, 0, 1], [0, 2, 1, 0]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_every_integer_dtype_of_the_target_gives_the_same(dtype: torch.dtype) -> None:
    logits, target = sample()
    assert torch.equal(boundary_loss(logits, target.to(dtype)), boundary_loss(logits, target))


@pytest.mark.parametrize("shape", [(2, 30), (3, 6, 5), (2, 4, 3, 5)], ids=str)
def test_it_is_the_sum_of_distances_times_probabilities(shape: tuple[int, ...]) -> None:
    logits, target = sample(shape)
    each = (by_scipy(target, 4) * logits.softmax(1)).sum(1)
    assert torch.equal(each == 0, target == 255)
    torch.testing.assert_close(boundary_loss(logits, target, reduction="none"), each)
    torch.testing.assert_close(boundary_loss(logits, target, reduction="sum"), each.sum())
    mean = each.sum() / (target != 255).sum()
    torch.testing.assert_close(boundary_loss(logits, target), mean)
    loss = BoundaryLoss()
    parts = sum(loss.terms(logits[i : i + 1], target[i : i + 1]) for i in range(shape[0]))
    torch.testing.assert_close(loss.value(parts), mean)


def test_a_perfect_prediction_is_the_least_loss_and_negative() -> None:
    target = torch.zeros(1, 12, 12, dtype=torch.uint8)
    target[0, 3:9, 2:9] = 1
    perfect = 50 * F.one_hot(target.long(), 2).movedim(-1, 1).float()
    shifted = perfect.roll(2, 3)
    assert boundary_loss(perfect, target) < boundary_loss(shifted, target)
    assert boundary_loss(perfect, target) < 0 < boundary_loss(-perfect, target)


def test_the_most_likely_class_of_probabilities_is_taken() -> None:
    logits, target = sample()
    ids = target.long().masked_fill(target == 255, 0)
    soft = 0.6 * F.one_hot(ids, 4).movedim(-1, 1).double() + 0.1
    soft = soft.masked_fill((target == 255).unsqueeze(1), 255)
    for form in (logits, logits.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(
            boundary_loss(form, soft), boundary_loss(logits, target), rtol=1e-12, atol=0
        )


def test_ignored_pixels_may_hold_anything_and_have_no_gradient() -> None:
    logits, target = sample()
    expected = boundary_loss(logits, target)
    mask = (target == 255).unsqueeze(1)
    for value in (torch.inf, -torch.inf, torch.nan):
        poisoned = logits.masked_fill(mask, value).requires_grad_()
        loss = boundary_loss(poisoned, target)
        loss.backward()
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
        assert (poisoned.grad.movedim(1, -1)[target == 255] == 0).all()
        assert poisoned.grad.isfinite().all() and poisoned.grad.any()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_all_ignored_is_zero_with_a_zero_gradient(reduction: str) -> None:
    logits, target = sample()
    leaf = torch.full_like(logits, torch.nan).requires_grad_()
    loss = boundary_loss(leaf, torch.full_like(target, 255), reduction=reduction)
    loss.sum().backward()
    assert (loss == 0).all() and (leaf.grad == 0).all()
    assert boundary_loss(logits[:0], target[:0]) == 0


def test_a_loss_without_a_spatial_dim_is_refused() -> None:
    assert BoundaryLoss.uses_positions
    with pytest.raises(ValueError, match=r"\(6, 4\).*spatial dim.*do not flatten"):
        boundary_loss(torch.zeros(6, 4), torch.zeros(6, dtype=torch.long))
    with pytest.raises(ValueError, match=r"\(6,\).*spatial dim"):
        signed_distances(torch.zeros(6, dtype=torch.long), 4)


def test_a_label_that_is_no_class_is_refused_with_its_value() -> None:
    logits, target = sample()
    target[1, 2, 3] = 17
    with pytest.raises(ValueError, match=r"\b17\b.*255"):
        boundary_loss(logits, target)
    with pytest.raises(ValueError, match=r"\b17\b.*class id 0\.\.3 or ignore_index 255"):
        signed_distances(target, 4)


def test_adding_a_constant_or_renaming_the_classes_changes_nothing() -> None:
    logits, target = sample()
    expected = boundary_loss(logits, target)
    shift = torch.linspace(-50, 50, target.numel(), dtype=torch.float64).view(target.shape)
    torch.testing.assert_close(boundary_loss(logits + shift.unsqueeze(1), target), expected)
    order = torch.tensor([2, 0, 3, 1])
    lookup = torch.full((256,), 255)
    lookup[order] = torch.arange(4)
    torch.testing.assert_close(
        boundary_loss(logits[:, order], lookup[target.long()]), expected, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_fp32(dtype: torch.dtype) -> None:
    logits, target = sample()
    leaf = logits.to(dtype).requires_grad_()
    value = boundary_loss(leaf, target)
    (slope,) = torch.autograd.grad(value, leaf)
    assert value.dtype == torch.float32 and slope.dtype == dtype
    torch.testing.assert_close(value.double(), boundary_loss(logits, target), rtol=0.02, atol=0)
    extreme = (1e4 * logits.sign()).to(dtype).requires_grad_()
    value = boundary_loss(extreme, target)
    assert value.isfinite() and torch.autograd.grad(value, extreme)[0].isfinite().all()


def test_the_gradient_is_that_of_finite_differences() -> None:
    logits, target = sample((1, 3, 3))
    leaf = logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: boundary_loss(z, target), leaf)
    assert torch.autograd.gradgradcheck(lambda z: boundary_loss(z, target), leaf)


@pytest.mark.parametrize("shape", [(3, 6, 5), (2, 4, 3, 5)], ids=str)
def test_channels_last_gives_the_same_with_a_channels_last_gradient(shape: tuple[int, ...]) -> None:
    logits, target = sample(shape)
    memory_format = torch.channels_last if len(shape) == 3 else torch.channels_last_3d
    last = logits.to(memory_format=memory_format).requires_grad_()
    value = boundary_loss(last, target)
    (slope,) = torch.autograd.grad(value, last)
    leaf = logits.requires_grad_()
    (expected,) = torch.autograd.grad(boundary_loss(leaf, target), leaf)
    torch.testing.assert_close(value, boundary_loss(logits, target), rtol=1e-12, atol=0)
    torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-16)
    assert slope.is_contiguous(memory_format=memory_format)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3, 6, 5), (2, 4, 3, 5)], ids=str)
def test_compiled_and_exported_it_agrees(shape: tuple[int, ...]) -> None:
    torch.compiler.reset()
    logits, target = sample(shape)
    loss = BoundaryLoss()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    exported = torch.export.export(loss, (logits, target)).module()
    leaf = logits.clone().requires_grad_()
    torch.testing.assert_close(compiled(leaf, target), loss(leaf, target))
    torch.testing.assert_close(
        torch.autograd.grad(compiled(leaf, target), leaf),
        torch.autograd.grad(loss(leaf, target), leaf),
    )
    torch.testing.assert_close(exported(logits, target), loss(logits, target))


def test_the_distance_operator_keeps_what_torch_asks_of_one() -> None:
    torch.library.opcheck(boundary._signed_distances, (blocks((2, 5, 6)).long(), 4, 255))


def test_it_runs_with_deterministic_algorithms() -> None:
    logits, target = sample()
    expected = boundary_loss(logits, target)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(boundary_loss(logits, target), expected)
        boundary._by_tensor_operations(target.long(), 4, 255)
    finally:
        torch.use_deterministic_algorithms(False)
