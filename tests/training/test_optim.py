import math
from functools import partial

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LRSchedulerCallable
from torch import nn

from seg.errors import InputError
from seg.training.optim import (
    build_scheduler,
    loss_group,
    parameter_groups,
    scale_group,
)
from seg.training.schedules import CosineDecay, PolynomialDecay


def rates(scheduler, optimizer, steps, group=0):
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[group]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def sgd(lr=0.1, groups=1):
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))]} for _ in range(groups)], lr)


def test_polynomial_decay_follows_its_formula():
    optimizer = sgd(0.1)
    found = rates(PolynomialDecay(optimizer, total_steps=10, power=0.9), optimizer, 10)
    assert found == pytest.approx([0.1 * (1 - t / 10) ** 0.9 for t in range(10)])


def test_polynomial_decay_equals_torchs_where_there_is_no_warm_up():
    ours, theirs = sgd(), sgd()
    reference = torch.optim.lr_scheduler.PolynomialLR(theirs, total_iters=12, power=2.0)
    scheduler = PolynomialDecay(ours, total_steps=12, power=2.0)
    assert rates(scheduler, ours, 12) == pytest.approx(rates(reference, theirs, 12))


def test_warm_up_rises_linearly_to_the_full_rate_and_the_decay_ends_at_zero():
    optimizer = sgd(1.0)
    found = rates(
        PolynomialDecay(optimizer, total_steps=8, power=1.0, warmup_steps=4), optimizer, 9
    )
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 0.75, 0.5, 0.25, 0.0])


def test_cosine_decay_equals_torchs_where_there_is_no_warm_up():
    ours, theirs = sgd(), sgd()
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=12)
    found = rates(CosineDecay(ours, total_steps=12), ours, 12)
    assert found == pytest.approx(rates(reference, theirs, 12))


def test_cosine_decay_rises_linearly_and_falls_by_half_a_cosine_to_zero():
    optimizer = sgd(1.0)
    found = rates(CosineDecay(optimizer, total_steps=7, warmup_steps=3), optimizer, 8)
    half = [(1 + math.cos(math.pi * t / 4)) / 2 for t in range(5)]
    assert found == pytest.approx([0.25, 0.5, 0.75, *half])


@pytest.mark.parametrize("schedule", [PolynomialDecay, CosineDecay])
@pytest.mark.parametrize("warmup_steps", [10, -1])
def test_a_schedule_that_does_not_fit_the_run_is_refused(schedule, warmup_steps):
    with pytest.raises(InputError, match=f"^{schedule.__name__}: .* total_steps=10"):
        schedule(sgd(), total_steps=10, warmup_steps=warmup_steps)


def test_a_decay_with_a_negative_power_is_refused():
    with pytest.raises(InputError, match="power=-1"):
        PolynomialDecay(sgd(), total_steps=10, power=-1.0)


def test_the_length_of_the_run_is_filled_in_where_it_is_left_out():
    one_cycle = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1)
    assert build_scheduler(one_cycle, sgd(), 40).total_steps == 40
    assert build_scheduler(partial(one_cycle, total_steps=7), sgd(), 40).total_steps == 7
    given = partial(one_cycle, epochs=2, steps_per_epoch=4)
    assert build_scheduler(given, sgd(), 40).total_steps == 8
    plain = build_scheduler(lambda o: torch.optim.lr_scheduler.StepLR(o, 3), sgd(), 40)
    assert plain.step_size == 3


def test_the_length_of_the_run_reaches_a_scheduler_that_was_configured_in_yaml():
    parser = ArgumentParser()
    parser.add_argument("--schedule", type=LRSchedulerCallable)
    config = parser.parse_args(["--schedule=OneCycleLR", "--schedule.max_lr=0.1"])
    factory = parser.instantiate(config).schedule
    assert build_scheduler(factory, sgd(), 40).total_steps == 40


@pytest.mark.parametrize(
    "factory",
    [
        partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.2),
        partial(PolynomialDecay, warmup_steps=3),
        partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=20),
    ],
    ids=["one-cycle", "polynomial", "cosine"],
)
def test_a_scaled_group_keeps_its_factor_over_the_whole_schedule(factory):
    optimizer = sgd(0.2, groups=2)
    scheduler = build_scheduler(factory, optimizer, 20)
    scale_group(optimizer, scheduler, 1, 0.1)
    for _ in range(19):
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert second == pytest.approx(0.1 * first, rel=1e-6, abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_what_a_loss_learns_is_a_group_without_weight_decay():
    loss = nn.Module()
    assert loss_group(loss) == []
    loss.scale = nn.Parameter(torch.ones(3))
    (group,) = loss_group(loss)
    assert group["params"] == [loss.scale]
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(3))]}, group], 0.1, 0, 0, 0.5)
    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
        parameter.grad = torch.zeros(3)
    optimizer.step()
    first, second = (group["params"][0].tolist() for group in optimizer.param_groups)
    assert first == pytest.approx([0.95] * 3)
    assert second == [1.0] * 3


def test_parameter_groups_hold_every_parameter_once_and_the_encoder_second():
    network = nn.ModuleDict({"encoder": nn.Linear(2, 3), "head": nn.Linear(3, 4)})
    rest, encoder = parameter_groups(network, network["encoder"])
    assert list(map(id, encoder["params"])) == list(map(id, network["encoder"].parameters()))
    assert list(map(id, rest["params"])) == list(map(id, network["head"].parameters()))
    assert len(parameter_groups(network, None)) == 1
