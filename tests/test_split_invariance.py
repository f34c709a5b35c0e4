"""An optimiser step has one gradient, however its batch is split over ranks and micro-batches."""

import pytest
import torch
import torch.nn.functional as F

from tests.processes import CONTEXT, LIMIT, free_port
from tests.split_worker import LOSSES, WEIGHTS, batch_of_step, build_module, main

RANKS, MICRO_BATCHES = (1, 2, 4), (1, 2, 4)


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients])


def relative_difference(gradients, reference):
    return ((flat(gradients) - flat(reference)).norm() / flat(reference).norm()).item()


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """What real processes made of one step: by number of ranks, loss and micro-batches."""
    folder = tmp_path_factory.mktemp("steps")
    results = {}
    for ranks in RANKS:
        place = ranks, free_port()
        processes = [CONTEXT.Process(target=main, args=(folder, r, *place)) for r in range(ranks)]
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
    for ranks in RANKS:
        for micro in MICRO_BATCHES:
            gradients = steps[ranks][name, micro]["gradients"]
            assert relative_difference(gradients, reference) <= 1e-6, (ranks, micro)


@pytest.mark.parametrize("name", LOSSES)
def test_the_logged_loss_is_that_of_the_whole_batch_for_any_split(name, steps):
    value = whole_batch(name)[1]
    for ranks in RANKS:
        for micro in MICRO_BATCHES:
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
    gradients = steps[4]["weighted", 4]["gradients"]
    assert relative_difference(gradients, reference) <= 1e-6


@pytest.mark.parametrize("name", ["recall", "compound_of_all_kinds"])
def test_a_loss_that_counts_the_batch_counts_it_once_for_any_split(name, steps):
    loss = whole_batch(name)[2]
    expected = loss.state_dict()
    assert any(values.sum() > 0 for values in expected.values())
    for ranks in RANKS:
        for micro in MICRO_BATCHES:
            torch.testing.assert_close(steps[ranks][name, micro]["buffers"], expected)
