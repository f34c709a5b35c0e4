"""Logit-adjusted cross-entropy against its formula and against what it is for."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jsonargparse import ArgumentParser
from torch import Tensor

from seg.losses.base import SegmentationLoss
from seg.losses.logit_adjusted import LogitAdjustedCrossEntropyLoss, logit_adjusted_cross_entropy

PRIORS = [0.7, 0.2, 0.06, 0.04]
LOG_PRIOR = torch.tensor(PRIORS, dtype=torch.float64).log()


def sample(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 4, 5, 6, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 4, (2, 5, 6), generator=generator, dtype=torch.uint8)
    target[torch.rand(2, 5, 6, generator=generator) < 0.2] = 255
    return logits.to(dtype), target


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_it_equals_its_formula(tau: float) -> None:
    logits, target = sample()
    losses = []
    pixels = logits.movedim(1, -1).reshape(-1, 4).numpy()
    for scores, label in zip(pixels, target.flatten().tolist(), strict=True):
        if label != 255:  # -log(e^z_t π_t^τ / Σ e^z π^τ), as in eq. 10
            odds = np.exp(scores) * np.array(PRIORS) ** tau
            losses.append(-np.log(odds[label] / odds.sum()))
    loss = logit_adjusted_cross_entropy(logits, target, LOG_PRIOR, tau)
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-6)  # fp32 priors


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_equal_priors_and_zero_tau_are_cross_entropy(reduction: str) -> None:
    logits, target = sample()
    reference = F.cross_entropy(logits, target.long(), ignore_index=255, reduction=reduction)
    equal = LogitAdjustedCrossEntropyLoss(priors=[3.0] * 4, reduction=reduction)
    without = LogitAdjustedCrossEntropyLoss(tau=0.0, priors=PRIORS, reduction=reduction)
    for loss in (equal, without):
        torch.testing.assert_close(loss(logits, target), reference, rtol=1e-12, atol=1e-14)


def test_raw_logits_find_the_class_that_is_likeliest_under_equal_priors() -> None:
    # Four kinds of pixel; likelihood[x, c] is how often class c looks like x.
    likelihood = torch.tensor(
        [[0.7, 0.2, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1], [0.1, 0.1, 0.6, 0.2], [0.1, 0.1, 0.1, 0.6]],
        dtype=torch.float64,
    )
    posterior = likelihood * LOG_PRIOR.exp()
    kinds, shares = posterior.sum(1, keepdim=True), posterior / posterior.sum(1, keepdim=True)
    learnt = {}
    for tau in (0.0, 1.0):
        logits = torch.zeros(4, 4, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-10)

        def step(
            tau: float = tau, z: Tensor = logits, opt: torch.optim.LBFGS = optimiser
        ) -> Tensor:
            opt.zero_grad()
            each = logit_adjusted_cross_entropy(z, shares, LOG_PRIOR, tau, reduction="none")
            risk = (each * kinds.squeeze(1)).sum()
            risk.backward()
            return risk

        optimiser.step(step)
        learnt[tau] = logits.detach()
    torch.testing.assert_close(learnt[0.0].softmax(1), shares, rtol=1e-3, atol=1e-4)
    balanced = likelihood / likelihood.sum(1, keepdim=True)
    torch.testing.assert_close(learnt[1.0].softmax(1), balanced, rtol=1e-3, atol=1e-4)
    assert learnt[1.0].argmax(1).tolist() == [0, 1, 2, 3]
    assert learnt[0.0].argmax(1).tolist() == [0, 1, 0, 0]  # the rare classes are never found


def test_priors_come_from_the_training_pixels() -> None:
    logits, target = sample()
    loss = LogitAdjustedCrossEntropyLoss()
    assert loss.needs_class_counts
    loss.bind(4)
    for call in (loss, loss.terms):
        with pytest.raises(RuntimeError, match=r"log_prior='training pixels'.*set_class_counts"):
            call(logits, target)
    loss.set_class_counts([70, 20, 6, 4], [100, 100, 50, 50])
    assert not loss.needs_class_counts
    given = LogitAdjustedCrossEntropyLoss(priors=[7.0, 2.0, 0.6, 0.4])
    torch.testing.assert_close(loss.log_prior, LOG_PRIOR.float())
    torch.testing.assert_close(loss(logits, target), given(logits, target), rtol=1e-6, atol=0)


def test_a_class_without_a_training_pixel_counts_as_one_pixel() -> None:
    loss = LogitAdjustedCrossEntropyLoss()
    with pytest.warns(UserWarning, match=r"class bicyclist: its prior is that of a single pixel"):
        loss.set_class_counts([98, 0, 1], class_names=["sky", "bicyclist", "car"])
    torch.testing.assert_close(loss.log_prior.exp(), torch.tensor([0.98, 0.01, 0.01]))


def test_priors_are_a_buffer_that_is_saved_and_loads_into_a_bound_loss() -> None:
    logits, target = sample()
    loss = LogitAdjustedCrossEntropyLoss()
    loss.set_class_counts([70, 20, 6, 4])
    fresh = LogitAdjustedCrossEntropyLoss()
    fresh.bind(4)
    fresh.load_state_dict(loss.state_dict())
    assert list(loss.state_dict()) == ["log_prior"] and list(loss.parameters()) == []
    assert not fresh.needs_class_counts
    assert torch.equal(fresh(logits, target), loss(logits, target))
    assert copy.deepcopy(loss).to("meta").log_prior.is_meta


@pytest.mark.parametrize("priors", [[0.5, 0.0], [1.0, -1.0], [1.0, float("inf")]])
def test_priors_without_a_finite_logarithm_are_refused(priors: list[float]) -> None:
    with pytest.raises(ValueError, match=r"priors=.*no finite logarithm; give positive numbers"):
        LogitAdjustedCrossEntropyLoss(priors=priors)


def test_priors_of_another_number_of_classes_are_refused() -> None:
    loss = LogitAdjustedCrossEntropyLoss(priors=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"log_prior of shape \(2,\).*expected \(4,\)"):
        loss.bind(4)
    with pytest.raises(ValueError, match=r"log_prior of shape \(2,\).*expected \(4,\)"):
        loss(*sample())


@pytest.mark.parametrize("tau", [-1.0, float("nan"), float("inf")])
def test_a_tau_that_favours_common_classes_is_refused(tau: float) -> None:
    with pytest.raises(ValueError, match=rf"tau={tau}.*>= 0"):
        LogitAdjustedCrossEntropyLoss(tau=tau)


def test_classes_last_is_refused_although_the_priors_would_broadcast() -> None:
    logits, target = sample()
    with pytest.raises(ValueError, match=r"logits\.movedim\(-1, 1\)"):
        logit_adjusted_cross_entropy(logits.movedim(1, -1), target, LOG_PRIOR)


def test_renaming_the_classes_changes_nothing() -> None:
    logits, target = sample()
    order = torch.tensor([2, 0, 3, 1])
    lookup = torch.full((256,), 255)
    lookup[order] = torch.arange(4)
    renamed = LogitAdjustedCrossEntropyLoss(priors=[PRIORS[i] for i in order])
    torch.testing.assert_close(
        renamed(logits[:, order], lookup[target.long()]),
        LogitAdjustedCrossEntropyLoss(priors=PRIORS)(logits, target),
    )


def test_ignored_pixels_may_hold_anything() -> None:
    logits, target = sample()
    loss = LogitAdjustedCrossEntropyLoss(priors=PRIORS)
    expected = loss(logits, target)
    poisoned = logits.masked_fill((target == 255).unsqueeze(1), torch.nan).requires_grad_()
    value = loss(poisoned, target)
    value.backward()
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    assert (poisoned.grad.movedim(1, -1)[target == 255] == 0).all()
    assert loss(poisoned, torch.full_like(target, 255)) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_with_the_priors_in_fp32(dtype: torch.dtype) -> None:
    logits, target = sample(dtype)
    loss = LogitAdjustedCrossEntropyLoss(priors=[1.0, 1e-3, 1e-6, 1e-9])
    assert torch.equal(loss(logits, target), loss(logits.float(), target))


def test_channels_last_logits_stay_as_they_lie_in_memory() -> None:
    logits, target = sample(torch.float32)
    last = logits.to(memory_format=torch.channels_last).requires_grad_()
    loss = LogitAdjustedCrossEntropyLoss(priors=PRIORS)
    value = loss(last, target)
    (slope,) = torch.autograd.grad(value, last)
    torch.testing.assert_close(value, loss(logits, target))
    assert slope.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_compiled_and_exported_it_agrees() -> None:
    logits, target = sample(torch.float32)
    loss = LogitAdjustedCrossEntropyLoss(priors=PRIORS)
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    exported = torch.export.export(loss, (logits, target)).module()
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))
    torch.testing.assert_close(exported(logits, target), loss(logits, target))


def test_the_gradient_is_that_of_finite_differences() -> None:
    logits, target = sample()
    loss = LogitAdjustedCrossEntropyLoss(priors=PRIORS)
    leaf = logits[:1, :, :2, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, target[:1, :2, :2]), leaf)
    assert torch.autograd.gradgradcheck(lambda z: loss(z, target[:1, :2, :2]), leaf)


def test_terms_add_up_to_the_mean() -> None:
    logits, target = sample()
    loss = LogitAdjustedCrossEntropyLoss(priors=PRIORS)
    parts = sum(loss.terms(logits[i : i + 1], target[i : i + 1]) for i in range(2))
    torch.testing.assert_close(loss.value(parts), loss(logits, target), rtol=1e-12, atol=0)
    assert parts.shape == (loss.num_terms(4),)


def test_the_command_line_gives_the_priors_as_a_list() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--loss", type=SegmentationLoss)
    path = "seg.losses.logit_adjusted.LogitAdjustedCrossEntropyLoss"
    parsed = parser.parse_args(["--loss", path, "--loss.tau=2", "--loss.priors=[3, 1]"])
    built = parser.instantiate(parsed).loss
    assert built.tau == 2
    torch.testing.assert_close(built.log_prior.exp(), torch.tensor([0.75, 0.25]))
