"""Dice, Jaccard and Tversky against their formulas in NumPy."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score
from torch import Tensor

from seg.losses import TverskyLoss, dice_loss, jaccard_loss, tversky_loss

CLASSES = 5


def sample(classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    """Logits and ids of three images; the last class occurs in the first image alone."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(3, classes, 7, 6, generator=generator, dtype=torch.float64)
    target = torch.randint(0, classes, (3, 7, 6), generator=generator)
    target[1:][target[1:] == classes - 1] = 0
    target[torch.rand(target.shape, generator=generator) < 0.2] = 255
    return logits.requires_grad_(), target


def formula(logits: Tensor, target: Tensor, alpha: float, beta: float, gamma: float) -> float:
    """Eq. 3 of Salehi et al. and eq. 4 of Abraham & Khan, class by class."""
    z = logits.detach().movedim(1, -1).reshape(-1, logits.shape[1]).numpy()
    labels = target.reshape(-1).numpy()
    z, labels = z[labels != 255], labels[labels != 255]
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    losses = []
    for c in np.unique(labels):
        q = labels == c
        hits = p[q, c].sum()
        index = hits / (hits + alpha * p[~q, c].sum() + beta * (1 - p[q, c]).sum())
        losses.append((1 - index) ** (1 / gamma))
    return float(np.mean(losses))


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(
    ("alpha", "beta", "gamma"), [(0.5, 0.5, 1), (1, 1, 1), (0.3, 0.7, 4 / 3), (0, 1, 0.5)]
)
def test_it_equals_its_formula_per_batch_and_per_image(
    alpha: float, beta: float, gamma: float, classes: int
) -> None:
    logits, target = sample(classes)
    batch = tversky_loss(logits, target, alpha, beta, gamma)
    images = tversky_loss(logits, target, alpha, beta, gamma, per_image=True, reduction="none")
    expected = formula(logits, target, alpha, beta, gamma)
    assert batch.item() == pytest.approx(expected, rel=1e-12)
    for i, loss in enumerate(images.tolist()):
        expected = formula(logits[i : i + 1], target[i : i + 1], alpha, beta, gamma)
        assert loss == pytest.approx(expected, rel=1e-12)


def test_on_certain_predictions_they_are_one_minus_the_scores_of_scikit_learn() -> None:
    logits, target = sample()
    certain = 1e4 * torch.nn.functional.one_hot(logits.argmax(1), CLASSES).movedim(-1, 1).double()
    valid = target != 255
    truth, guess = target[valid].numpy(), logits.argmax(1)[valid].numpy()
    assert dice_loss(certain, target).item() == pytest.approx(
        1 - f1_score(truth, guess, average="macro"), rel=1e-9
    )
    assert jaccard_loss(certain, target).item() == pytest.approx(
        1 - jaccard_score(truth, guess, average="macro"), rel=1e-9
    )


@pytest.mark.parametrize("classes", [2, 5])
def test_the_sweep_equals_the_plain_formula_in_value_and_in_both_derivatives(classes: int) -> None:
    logits, target = sample(classes)
    ids = target.masked_fill(target == 255, 0)
    soft = torch.nn.functional.one_hot(ids, classes).movedim(-1, 1).double()
    soft[(target == 255).unsqueeze(1).expand_as(soft)] = 255
    found = []
    for labels in (target, soft):  # ids are swept, probabilities are not
        loss = tversky_loss(logits, labels, 0.2, 0.9, per_image=True)
        (slope,) = torch.autograd.grad(loss, logits, retain_graph=True)
        (twice,) = torch.autograd.grad(loss, logits, create_graph=True)
        (second,) = torch.autograd.grad(twice.square().sum(), logits)
        found.append((loss.detach(), slope, second))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-16)


def test_an_image_larger_than_a_chunk_equals_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 19, 300, 260, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 19, (1, 300, 260), generator=generator)
    expected = formula(logits, target, 0.5, 0.5, 1)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        loss = dice_loss(logits.to(memory_format=memory_format), target)
        assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_a_wrong_prediction_is_as_bad_however_many_classes_there_are() -> None:
    target = torch.zeros(1, 4, 4, dtype=torch.long)
    for classes in (2, 5, 20):
        logits = torch.zeros(1, classes, 4, 4)
        logits[:, 1] = 1e4
        assert dice_loss(logits, target) == jaccard_loss(logits, target) == 1


def test_parts_of_a_batch_add_up_to_the_loss_of_the_batch_in_their_terms() -> None:
    logits, target = sample()
    loss = TverskyLoss(gamma=4 / 3)
    terms = sum(loss.terms(logits[i : i + 1], target[i : i + 1]) for i in range(3))
    assert len(terms) == loss.num_terms(CLASSES) == 3 * CLASSES
    torch.testing.assert_close(loss.value(terms), loss(logits, target), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -0.1}, r"alpha=-0.1.*>= 0"),
        ({"beta": float("nan")}, "beta=nan"),
        ({"alpha": 0.0, "beta": 0.0}, "no error counts"),
        ({"gamma": 0.0}, r"gamma=0.0.*> 0"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TverskyLoss(**options)
    with pytest.raises(ValueError, match=message):
        tversky_loss(*sample(), **options)
