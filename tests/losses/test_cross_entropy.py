"""Cross-entropy against torch's."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seg.losses import CrossEntropyLoss, cross_entropy

WEIGHT = torch.tensor([0.5, 2.0, 0.0, 1.0, 0.3], dtype=torch.float64)


def sample() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 5, 7, 6, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 5, (2, 7, 6), generator=generator)
    return logits.requires_grad_(), target.masked_fill(torch.rand(2, 7, 6) < 0.2, 255)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_it_equals_torch_in_value_and_gradient(
    weight: Tensor | None, label_smoothing: float, reduction: str
) -> None:
    logits, target = sample()
    options = {"label_smoothing": label_smoothing, "reduction": reduction}
    ours = cross_entropy(logits, target, weight, **options)
    reference = F.cross_entropy(logits, target, weight, ignore_index=255, **options)
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(ours.sum(), logits),
        torch.autograd.grad(reference.sum(), logits),
        rtol=1e-12,
        atol=1e-18,
    )


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_probabilities_equal_torch_but_for_the_divisor_of_the_mean(
    weight: Tensor | None, label_smoothing: float
) -> None:
    logits, _ = sample()
    target = torch.rand(logits.shape, dtype=torch.float64).softmax(1)
    for reduction in ("none", "sum"):
        options = {"label_smoothing": label_smoothing, "reduction": reduction}
        torch.testing.assert_close(
            cross_entropy(logits, target, weight, **options),
            F.cross_entropy(logits, target, weight, **options),
            rtol=1e-12,
            atol=0,
        )
    total = F.cross_entropy(
        logits, target, weight, label_smoothing=label_smoothing, reduction="sum"
    )
    divisor = (target if weight is None else target * weight.view(-1, 1, 1)).sum()
    mean = cross_entropy(logits, target, weight, label_smoothing=label_smoothing)
    torch.testing.assert_close(mean, total / divisor, rtol=1e-12, atol=0)


def test_a_pixel_of_probabilities_is_ignored_where_it_holds_the_ignore_index() -> None:
    logits, _ = sample()
    target = torch.rand(logits.shape, dtype=torch.float64).softmax(1)
    target[:, :, :3] = 255
    kept = F.cross_entropy(logits[:, :, 3:], target[:, :, 3:])
    torch.testing.assert_close(cross_entropy(logits, target), kept, rtol=1e-12, atol=0)


def test_the_mean_leaves_ignored_pixels_out_of_its_divisor() -> None:
    logits, target = sample()
    few = target.clone()
    few.view(-1)[8:] = 255
    kept = target.view(-1)[:8] != 255
    pixels = logits.movedim(1, -1).reshape(-1, 5)[:8][kept]
    expected = F.cross_entropy(pixels, target.view(-1)[:8][kept])
    torch.testing.assert_close(cross_entropy(logits, few), expected, rtol=1e-12, atol=0)


def test_class_weights_do_not_stumble_over_ignored_pixels() -> None:
    logits = torch.zeros(1, 3, 2)
    loss = CrossEntropyLoss(weight=[1.0, 2.0, 4.0])(logits, torch.tensor([[255, 1]]))
    torch.testing.assert_close(loss, torch.tensor(3.0).log())


def test_only_classes_of_weight_zero_give_zero_instead_of_nan() -> None:
    logits = torch.randn(1, 2, 4, requires_grad=True)
    loss = CrossEntropyLoss(weight=[0.0, 1.0])(logits, torch.zeros(1, 4, dtype=torch.long))
    (slope,) = torch.autograd.grad(loss, logits)
    assert loss == 0
    assert (slope == 0).all()


def test_micro_batches_with_unequal_valid_pixels_combine_to_the_gradient_of_the_whole() -> None:
    logits, target = sample()
    target[1].view(-1)[3:] = 255
    loss = CrossEntropyLoss(weight=WEIGHT.tolist())
    (whole,) = torch.autograd.grad(loss(logits, target), logits)
    parts = [loss.terms(logits[i : i + 1], target[i : i + 1]) for i in range(2)]
    divisor = parts[0][1] + parts[1][1]
    (combined,) = torch.autograd.grad(sum(total for total, _ in parts) / divisor, logits)
    torch.testing.assert_close(combined, whole, rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("label_smoothing", [-0.1, 1.5, float("nan")])
def test_a_smoothing_that_is_no_share_is_refused(label_smoothing: float) -> None:
    with pytest.raises(ValueError, match=rf"{label_smoothing}.*\[0, 1\]"):
        CrossEntropyLoss(label_smoothing=label_smoothing)
