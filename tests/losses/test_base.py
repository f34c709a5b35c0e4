"""What a loss of one's own needs, and what it gets."""

import doctest

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seg.losses import (
    CrossEntropyLoss,
    FocalLoss,
    SegmentationLoss,
    base,
    check_loss,
    cross_entropy,
)
from seg.losses.arguments import class_vector


class Squared(SegmentationLoss):
    """The square of cross-entropy, weighed by class: all that a loss has to say."""

    def __init__(self, weight: list[float] | str | None = None, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.add_weights("weight", weight)

    def element_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        options = {"ignore_index": self.ignore_index, "reduction": "none"}
        losses = cross_entropy(logits, target, **options)  # type: ignore[arg-type]
        weight = class_vector("weight", self.weight, logits)
        ignored = target == self.ignore_index
        if target.is_floating_point():
            ignored = ignored.any(1)
            weights = (target * weight.view(-1, *(1 for _ in target.shape[2:]))).sum(1)
        else:
            weights = weight[target.long().masked_fill(ignored, 0)]
        weights = weights.masked_fill(ignored, 0)
        return weights * losses**2, weights


def test_the_example_of_a_loss_gives_what_it_says() -> None:
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(base.SegmentationLoss, globs=vars(base).copy())
    assert len(example.examples) == 4
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.slow
def test_a_loss_that_states_its_elements_alone_keeps_the_contract() -> None:
    loss = Squared([1.0, 2.0, 0.5, 3.0])
    assert check_loss(loss) == []
    logits, target = torch.randn(2, 4, 5, 6), torch.randint(0, 4, (2, 5, 6))
    target[0, :3] = 255
    counts = target != 255
    losses = F.cross_entropy(logits, target, ignore_index=255, reduction="none") ** 2
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])[target[counts]]
    expected = (weights * losses[counts]).sum() / weights.sum()
    torch.testing.assert_close(loss(logits, target), expected)


def test_its_weights_may_wait_for_the_counts_of_the_data() -> None:
    loss = Squared("inverse_frequency")
    with pytest.raises(RuntimeError, match=r"Squared\(weight='inverse_frequency'\)"):
        loss(torch.randn(2, 4, 5), torch.zeros(2, 5).long())
    loss.set_class_counts([10, 20, 30, 40])
    assert loss(torch.randn(2, 4, 5), torch.zeros(2, 5).long()).isfinite()


def test_a_softmax_needs_two_classes() -> None:
    assert CrossEntropyLoss().channels(7) == FocalLoss().channels(7) == 7
    with pytest.raises(ValueError, match=r"1 class.*background"):
        FocalLoss().channels(1)
