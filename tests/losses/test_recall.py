"""Recall loss against weighted cross-entropy and scikit-learn's recall."""

import copy

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import recall_score
from torch import Tensor

from seg.losses.recall import FLOOR, RecallLoss, false_negative_rate, recall_loss


def sample(seed: int = 0, shape: tuple[int, ...] = (3, 6, 5)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 4, shape, generator=generator, dtype=torch.uint8)
    logits = torch.randn(shape[0], 4, *shape[1:], generator=generator, dtype=torch.float64)
    logits = logits + 1.5 * F.one_hot(target.long(), 4).movedim(-1, 1)
    target[torch.rand(shape, generator=generator) < 0.2] = 255
    return logits, target


def sklearn_rates(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """One minus scikit-learn's recall over all pixels of all pairs that count."""
    labels = torch.cat([target.flatten() for _, target in pairs])
    found = torch.cat([logits.argmax(1).flatten() for logits, _ in pairs])
    kept = labels != 255
    recall = recall_score(labels[kept], found[kept], labels=range(4), average=None)
    return torch.from_numpy(1 - recall).float()


def trained(momentum: float, batches: list[tuple[Tensor, Tensor]]) -> RecallLoss:
    loss = RecallLoss(momentum=momentum)
    for batch in batches:
        loss(*batch)
    return loss


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_it_is_cross_entropy_weighed_by_the_rates(reduction: str) -> None:
    logits, target = sample()
    rates = torch.tensor([0.9, 0.5, 0.25, FLOOR], dtype=torch.float64)
    reference = F.cross_entropy(logits, target.long(), rates, ignore_index=255, reduction=reduction)
    loss = recall_loss(logits, target, rates, reduction=reduction)
    torch.testing.assert_close(loss, reference, rtol=1e-12, atol=1e-14)


def test_a_class_that_is_always_found_keeps_a_small_weight() -> None:
    logits, target = sample()
    found = recall_loss(logits, target, torch.tensor([1.0, 0.0, 1.0, 1.0]))
    floored = recall_loss(logits, target, torch.tensor([1.0, FLOOR, 1.0, 1.0]))
    assert torch.equal(found, floored)
    everything = recall_loss(logits, target, torch.zeros(4))
    torch.testing.assert_close(everything, F.cross_entropy(logits, target.long(), ignore_index=255))


def test_a_pixel_with_equal_logits_counts_as_found_whichever_its_class() -> None:
    loss = trained(1.0, [(torch.zeros(1, 3, 4), torch.tensor([[0, 1, 2, 2]]))])
    assert loss.counts.tolist() == [[1, 1, 2], [0, 0, 0]]


def test_before_anything_was_counted_it_is_cross_entropy() -> None:
    logits, target = sample()
    reference = F.cross_entropy(logits, target.long(), ignore_index=255)
    for loss in (RecallLoss(), RecallLoss().eval()):
        torch.testing.assert_close(loss(logits, target), reference, rtol=1e-12, atol=0)


def test_with_momentum_one_the_rates_are_those_of_all_batches_together() -> None:
    batches = [sample(seed, (2, 4 + seed, 5)) for seed in range(4)]
    loss = trained(1.0, batches)
    torch.testing.assert_close(false_negative_rate(loss.counts), sklearn_rates(batches))


def test_with_momentum_zero_the_rates_are_those_of_the_last_batch() -> None:
    batches = [sample(seed) for seed in range(3)]
    loss = trained(0.0, batches)
    torch.testing.assert_close(false_negative_rate(loss.counts), sklearn_rates(batches[-1:]))


def test_momentum_forgets_geometrically() -> None:
    # eight pixels of class 0, of which the batch finds so many, in turn
    batches = []
    for found in (8, 2, 5):
        logits = torch.zeros(1, 2, 8)
        logits[:, 1, found:] = 1
        batches.append((logits, torch.zeros(1, 8, dtype=torch.long)))
    rate = false_negative_rate(trained(0.5, batches).counts)[0]
    expected = (0.25 * 0 + 0.5 * 6 + 3) / (8 * (0.25 + 0.5 + 1))
    assert rate.item() == pytest.approx(expected, rel=1e-6)


def test_a_class_that_a_batch_does_not_show_keeps_its_rate() -> None:
    loss = trained(1e-3, [sample(0)])
    before = false_negative_rate(loss.counts)
    logits = torch.tensor([1.0, 0, 0, 0]).view(1, 4, 1).repeat(1, 1, 4)
    logits[0, 3, 0] = 2  # one of four pixels of class 0 is missed
    for _ in range(30):  # 1e-90 is 0 in fp32
        loss(logits, torch.zeros(1, 4, dtype=torch.uint8))
    after = false_negative_rate(loss.counts)
    assert torch.equal(after[1:], before[1:])
    assert after[0].item() == pytest.approx(0.25)


def test_a_class_that_was_never_seen_has_rate_one() -> None:
    logits, target = sample()
    loss = trained(0.9, [(logits, target.masked_fill(target == 2, 255))])
    rates = false_negative_rate(loss.counts)
    assert rates[2] == 1
    assert (rates[[0, 1, 3]] < 1).all()


def test_a_batch_is_weighed_by_what_was_counted_before_it() -> None:
    first, second = sample(0), sample(1)
    loss = trained(1.0, [first])
    expected = recall_loss(*second, sklearn_rates([first]))
    torch.testing.assert_close(loss(*second), expected)
    later = recall_loss(*second, sklearn_rates([first, second]))
    torch.testing.assert_close(loss(*second), later)


def test_evaluation_counts_nothing() -> None:
    loss = trained(1.0, [sample(0)]).eval()
    before = loss.counts.clone()
    value = loss(*sample(1))
    loss.terms(*sample(2))
    assert torch.equal(loss.counts, before)
    assert torch.equal(loss(*sample(1)), value)


def test_terms_give_the_loss_and_leave_counting_to_adapt() -> None:
    by_terms, by_loss = trained(1.0, [sample(0)]), trained(1.0, [sample(0)])
    before = by_terms.counts.clone()
    value = by_terms.value(by_terms.terms(*sample(1)))
    assert torch.equal(by_terms.counts, before)
    torch.testing.assert_close(value, by_loss(*sample(1)), rtol=1e-12, atol=0)
    by_terms.adapt(by_terms.observed(*sample(1)))
    assert torch.equal(by_terms.counts, by_loss.counts)


def test_parts_of_a_batch_count_as_the_batch_does() -> None:
    whole, parts = trained(0.5, [sample(0)]), trained(0.5, [sample(0)])
    logits, target = sample(1)
    whole(logits, target)
    pairs = zip(logits.split(1), target.split(1), strict=True)
    parts.adapt(sum(parts.observed(*pair) for pair in pairs))
    assert torch.equal(whole.counts, parts.counts)


def test_ignored_pixels_never_count() -> None:
    logits, target = sample()
    poisoned = logits.masked_fill((target == 255).unsqueeze(1), torch.nan).requires_grad_()
    clean = trained(1.0, [(logits, target)])
    loss = trained(1.0, [(poisoned, target)])
    assert torch.equal(loss.counts, clean.counts)
    assert loss.counts.sum() == (target != 255).sum()
    loss(poisoned, target).backward()
    assert (poisoned.grad.movedim(1, -1)[target == 255] == 0).all()
    assert poisoned.grad.isfinite().all()


def test_a_batch_that_is_all_ignored_is_zero_and_counts_nothing() -> None:
    logits, target = sample()
    loss = trained(0.5, [(logits, target)])
    before = loss.counts.clone()
    leaf = torch.full_like(logits, torch.inf).requires_grad_()
    value = loss(leaf, torch.full_like(target, 255))
    value.backward()
    assert value == 0 and (leaf.grad == 0).all()
    assert torch.equal(loss.counts, before)


def test_the_most_likely_class_of_probabilities_is_counted() -> None:
    logits, target = sample()
    ids = target.long().masked_fill(target == 255, 0)
    soft = 0.6 * F.one_hot(ids, 4).movedim(-1, 1).double() + 0.1
    soft = soft.masked_fill((target == 255).unsqueeze(1), 255)
    assert torch.equal(
        trained(1.0, [(logits, soft)]).counts, trained(1.0, [(logits, target)]).counts
    )


def test_one_hot_probabilities_weigh_as_ids_do() -> None:
    logits, target = sample()
    one_hot = F.one_hot(target.long() % 255, 4).movedim(-1, 1).double()
    one_hot = one_hot.masked_fill((target == 255).unsqueeze(1), 255)
    loss = trained(1.0, [(logits, target)]).eval()
    loss.reduction = "none"
    torch.testing.assert_close(loss(logits, one_hot), loss(logits, target), rtol=1e-12, atol=1e-14)


def test_the_counts_are_saved_and_load_into_a_bound_loss() -> None:
    loss = trained(0.9, [sample(0), sample(1)])
    fresh = RecallLoss(momentum=0.9)
    fresh.bind(4)
    assert (fresh.counts == 0).all()
    fresh.load_state_dict(loss.state_dict())
    assert list(loss.state_dict()) == ["counts"] and list(loss.parameters()) == []
    assert torch.equal(fresh(*sample(2)), loss(*sample(2)))
    assert torch.equal(fresh.counts, loss.counts)
    assert copy.deepcopy(loss).to("meta").counts.is_meta
    assert RecallLoss().state_dict() == {}


def test_another_number_of_classes_is_refused() -> None:
    loss = trained(0.9, [sample(0)])
    loss.bind(4)
    with pytest.raises(ValueError, match=r"counts of shape \(4,\) for logits of 3 channels"):
        loss.bind(3)
    with pytest.raises(ValueError, match=r"shape \(4,\) for logits of 3 channels"):
        loss(torch.zeros(1, 3, 2), torch.zeros(1, 2, dtype=torch.long))


@pytest.mark.parametrize("momentum", [-0.1, 1.1, float("nan")])
def test_a_momentum_that_is_no_share_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match=rf"momentum={momentum}.*\[0, 1\], such as 0.99"):
        RecallLoss(momentum=momentum)


def test_a_label_that_is_no_class_is_refused_and_leaves_the_counts_alone() -> None:
    logits, target = sample()
    loss = trained(0.9, [(logits, target)])
    before = loss.counts.clone()
    target[0, 0, 0] = 17
    with pytest.raises(ValueError, match=r"\b17\b.*255"):
        loss(logits, target)
    assert torch.equal(loss.counts, before)


def test_the_gradient_takes_the_rates_as_constants() -> None:
    loss = trained(1.0, [sample(0)]).eval()
    logits, target = sample(1, (2, 3))
    leaf = logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, target), leaf)
    assert torch.autograd.gradgradcheck(lambda z: loss(z, target), leaf)


def test_extreme_logits_in_half_precision_stay_finite() -> None:
    logits, target = sample()
    loss = trained(1.0, [(logits, target)])
    for dtype in (torch.float16, torch.bfloat16):
        leaf = (1e4 * logits.sign()).to(dtype).requires_grad_()
        value = loss(leaf, target)
        value.backward()
        assert value.dtype == torch.float32 and value.isfinite() and leaf.grad.isfinite().all()


def test_channels_last_logits_give_the_same_with_a_channels_last_gradient() -> None:
    logits, target = sample()
    last = logits.to(memory_format=torch.channels_last).requires_grad_()
    ours, reference = trained(1.0, [sample(1)]), trained(1.0, [sample(1)])
    value = ours(last, target)
    (slope,) = torch.autograd.grad(value, last)
    torch.testing.assert_close(value, reference(logits, target), rtol=1e-12, atol=0)
    assert torch.equal(ours.counts, reference.counts)
    assert slope.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.parametrize("bound", [True, False])
def test_compiled_it_agrees_and_counts(bound: bool) -> None:
    torch.compiler.reset()
    eager, loss = RecallLoss(), RecallLoss()
    if bound:
        loss.bind(4)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for seed in range(3):
        torch.testing.assert_close(compiled(*sample(seed)), eager(*sample(seed)))
    assert torch.equal(loss.counts, eager.counts)


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
def test_exported_it_agrees(training: bool) -> None:
    loss = trained(0.9, [sample(0)]).train(training)
    exported = torch.export.export(copy.deepcopy(loss), sample(1)).module()
    for seed in (1, 2):
        torch.testing.assert_close(exported(*sample(seed)), loss(*sample(seed)))
