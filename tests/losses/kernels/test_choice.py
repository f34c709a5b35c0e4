"""One place decides which implementation computes a loss."""

import pytest
import torch
from torch import Tensor, nn

from seg.losses.kernels import choice
from seg.losses.kernels.choice import KERNELS, ChunkKernels, kernels_for
from tests.losses.test_losses import Case, every_loss, gradient, sample

BY_KERNEL = {"cross_entropy", "weighted", "focal", "focal_half", "focal_zero", "ohem", "recall"}
BY_KERNEL |= {"logit_adjusted", "compound", "dice", "dice_per_image", "jaccard", "tversky"}
BY_KERNEL |= {"lovasz", "lovasz_per_image"}


class Counted(ChunkKernels):
    """An implementation that overrides every function, and counts its calls."""

    calls = 0

    def __getattribute__(self, name: str) -> object:
        if not name.startswith("_") and name != "calls":
            type(self).calls += 1
        return super().__getattribute__(name)


@every_loss
def test_another_implementation_for_a_device_serves_every_loss(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, target = sample(case)
    expected = gradient(case.build(), logits, target)
    monkeypatch.setattr(Counted, "calls", 0)
    monkeypatch.setattr(choice, "KERNELS", {"cpu": Counted()})
    torch.testing.assert_close(gradient(case.build(), logits, target), expected, rtol=0, atol=0)
    assert (Counted.calls > 0) == (case.name in BY_KERNEL)


@every_loss
def test_a_device_without_an_implementation_has_plain_operations(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, target = sample(case)
    expected = gradient(case.build(), logits, target)
    monkeypatch.setattr(choice, "KERNELS", {})
    found = gradient(case.build(), logits, target)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    loss = case.build()
    for _, part in loss.components().values():
        divisor = part.divisor(target, case.channels)
        if divisor is not None:
            share = part.share(logits, target, divisor)
            torch.testing.assert_close(share, part.eval()(logits, target), rtol=1e-10, atol=0)


def test_what_a_kernel_cannot_do_is_left_to_plain_operations() -> None:
    logits, ids = torch.randn(2, 3, 4), torch.zeros(2, 4, dtype=torch.long)
    soft = logits.softmax(1)
    learnt = nn.Parameter(torch.ones(3))
    assert kernels_for(logits, ids) is KERNELS["cpu"]
    assert kernels_for(logits, ids, torch.ones(3), 2.0, None) is KERNELS["cpu"]
    assert kernels_for(logits, soft) is None
    assert kernels_for(logits, soft, probabilities=True) is KERNELS["cpu"]
    assert kernels_for(logits, ids, learnt) is None
    assert kernels_for(logits[:0], ids[:0]) is None
    assert kernels_for(logits.to("meta"), ids.to("meta")) is None
    found: list[object] = []

    def look(scores: Tensor) -> Tensor:
        found.append(kernels_for(scores, ids))
        return scores.sum()

    torch.func.grad(look)(logits)
    assert found == [None]
