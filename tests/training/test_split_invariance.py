"""An optimiser step has one gradient, however its batch is split over ranks and micro-batches."""

import pytest
import torch
import torch.nn.functional as F

from tests.processes import LIMIT, context, free_port
from tests.split_worker import LOSSES, SPLITS, WEIGHTS, batch_of_step, build_module, main

pytestmark = pytest.mark.slow


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients])


def relative_difference(gradients, reference):
    return ((flat(gradients) - flat(reference)).norm() / flat(reference).norm()).item()


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """What real processes made of one step: by number of ranks, loss and micro-batches."""
    folder = tmp_path_factory.mktemp("steps")
    results = {}
    for ranks in sorted({ranks for ranks, _ in SPLITS}):
        place = ranks, free_port()
        processes = [context().Process(target=main, args=(folder, r, *place)) for r in range(ranks)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(LIMIT)
        assert [process.exitcode for process in processes] == [0] * ranks
        found = [torch.load(folder / f"{ranks}.{r}.pt", weights_only=True) for r in range(ranks)]
        for key, step in found[0].items():
            step["logged_by_others"] = [other[key]["logged"] for other in found[1:]]
        results[ranks] = found[0]
    return results


def whole_batch(name):
    """Gradients, value and loss of the whole batch by the loss's ordinary forward and autograd."""
    module = build_module(name)
    images, masks = batch_of_step(len(module.class_names))
    value = module.loss(module(images), masks)
    parameters = list(module.network.parameters())
    return torch.autograd.grad(value, parameters), value.item(), module.loss


def means_of_parts(name, parts):
    """Gradients of the mean of the parts' losses, which is what averaging them comes to."""
    module = build_module(name)
    images, masks = batch_of_step(len(module.class_names))
    pairs = zip(images.chunk(parts), masks.chunk(parts), strict=True)
    value = sum(module.loss(module(x), y) for x, y in pairs) / parts
    return torch.autograd.grad(value, list(module.network.parameters()))


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_that_of_the_whole_batch_for_any_split(name, steps):
    reference = whole_batch(name)[0]
    assert flat(reference).norm() > 1e-3
    for ranks, micro in SPLITS:
        gradients = steps[ranks][name, micro]["gradients"]
        assert relative_difference(gradients, reference) <= 1e-6, (ranks, micro)


LEARNERS = ["scaled", "scaled_known", "learnt_weights", "learnt_weights_known"]
LEARNERS += ["compound_of_learners"]


@pytest.mark.parametrize("name", LEARNERS)
def test_what_a_loss_learns_has_the_gradient_of_the_whole_batch_for_any_split(name, steps):
    module = build_module(name)
    images, masks = batch_of_step(len(module.class_names))
    value = module.loss(module(images), masks)
    reference = torch.autograd.grad(value, list(module.loss.parameters()))
    assert flat(reference).norm() > 1e-3
    # one step of SGD, whose weight decay is not theirs
    stepped = [p - 0.1 * g for p, g in zip(module.loss.parameters(), reference, strict=True)]
    for ranks, micro in SPLITS:
        step = steps[ranks][name, micro]
        assert relative_difference(step["of_loss"], reference) <= 1e-6, (ranks, micro)
        found = [step["buffers"][key] for key, _ in module.loss.named_parameters()]
        torch.testing.assert_close(found, stepped, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_the_logged_loss_is_that_of_the_whole_batch_for_any_split(name, steps):
    value = whole_batch(name)[1]
    for ranks, micro in SPLITS:
        logged = steps[ranks][name, micro]["logged"]
        assert logged["train/loss_step"] == pytest.approx(value, rel=1e-6), (ranks, micro)
        assert logged["train/loss"] == pytest.approx(value, rel=1e-6), (ranks, micro)
        # what stops a run early, or chooses a checkpoint, must be one number
        assert steps[ranks][name, micro]["logged_by_others"] == [logged] * (ranks - 1)


@pytest.mark.parametrize("name", ["cross_entropy", "weighted", "focal", "dice", "compound"])
def test_the_mean_of_the_parts_is_another_gradient(name):
    naive = means_of_parts(name, 4)
    assert relative_difference(naive, whole_batch(name)[0]) > 1e-2


def test_the_gradient_is_that_of_torchs_cross_entropy(steps):
    module = build_module("weighted")
    images, masks = batch_of_step()
    weight = torch.tensor(WEIGHTS, dtype=torch.float64)
    value = F.cross_entropy(module(images), masks.long(), weight, ignore_index=255)
    reference = torch.autograd.grad(value, list(module.network.parameters()))
    gradients = steps[4]["weighted", 2]["gradients"]
    assert relative_difference(gradients, reference) <= 1e-6


@pytest.mark.parametrize("name", ["recall", "compound_of_all_kinds"])
def test_a_loss_that_counts_the_batch_counts_it_once_for_any_split(name, steps):
    loss = whole_batch(name)[2]
    expected = loss.state_dict()
    assert any(values.sum() > 0 for values in expected.values())
    for ranks, micro in SPLITS:
        torch.testing.assert_close(steps[ranks][name, micro]["buffers"], expected)


def shares_of_classes(amounts, masks, classes):
    """Share of each class in what the pixels that count amount to."""
    of_class = torch.stack([amounts[masks == c].sum() for c in range(classes)])
    return (of_class / of_class.sum()).tolist()


@pytest.mark.parametrize("name", LOSSES)
def test_each_class_has_its_share_of_the_gradient_at_the_logits_for_any_split(name, steps):
    module = build_module(name)
    images, masks = batch_of_step(len(module.class_names))
    logits = module(images)
    (gradient,) = torch.autograd.grad(module.loss(logits, masks), logits)
    expected = shares_of_classes(gradient.abs().sum(1), masks, len(module.class_names))
    for ranks, micro in SPLITS:
        logged = steps[ranks][name, micro]["logged"]
        found = [logged[f"train/grad_share/{c}"] for c in module.class_names]
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-9), (ranks, micro)


OF_PIXELS = ["cross_entropy", "weighted", "smoothed", "sum", "focal", "logit_adjusted"]


@pytest.mark.parametrize("name", [*OF_PIXELS, "binary_cross_entropy", "binary_focal"])
def test_each_class_has_the_share_of_the_loss_of_its_pixels_for_any_split(name, steps):
    module = build_module(name)
    images, masks = batch_of_step(len(module.class_names))
    module.loss.reduction = "none"
    losses = module.loss(module(images), masks).detach()
    expected = shares_of_classes(losses, masks, len(module.class_names))
    for ranks, micro in SPLITS:
        logged = steps[ranks][name, micro]["logged"]
        found = [logged[f"train/loss_share/{c}"] for c in module.class_names]
        assert found == pytest.approx(expected, rel=1e-6), (ranks, micro)


@pytest.mark.parametrize("name", ["lovasz", "ohem", "boundary", "compound_of_all_kinds"])
def test_a_loss_that_does_not_tell_classes_apart_logs_no_shares_of_it(name, steps):
    logged = steps[4][name, 2]["logged"]
    assert not [metric for metric in logged if metric.startswith("train/loss_share")]


@pytest.mark.parametrize("name", ["dice", "dice_per_image", "jaccard", "tversky"])
def test_each_class_has_the_share_of_the_loss_of_its_overlap_for_any_split(name, steps):
    module = build_module(name)
    images, masks = batch_of_step()
    exponent = {"tversky": 3 / 4}.get(name, 1)
    alpha, beta = {"tversky": (0.3, 0.7), "jaccard": (1.0, 1.0)}.get(name, (0.5, 0.5))
    groups = images.split(1 if name == "dice_per_image" else 8)
    total = torch.zeros(3, dtype=torch.float64)
    for image, mask in zip(groups, masks.split(len(groups[0])), strict=True):
        p = module(image).detach().softmax(1).movedim(1, -1)[mask != 255]
        q = F.one_hot(mask[mask != 255].long(), 3).double()
        hits, over, under = (p * q).sum(0), (p * (1 - q)).sum(0), ((1 - p) * q).sum(0)
        index = hits / (hits + alpha * over + beta * under)
        seen = q.sum(0) > 0
        if seen.any():
            total += torch.where(seen, (1 - index) ** exponent, 0) / seen.sum()
    expected = (total / total.sum()).tolist()
    for ranks, micro in SPLITS:
        logged = steps[ranks][name, micro]["logged"]
        found = [logged[f"train/loss_share/{c}"] for c in module.class_names]
        assert found == pytest.approx(expected, rel=1e-6), (ranks, micro)
