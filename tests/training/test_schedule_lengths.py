"""A schedule that does not go with the run, or with the run that is resumed, is refused."""

import csv
import logging
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from seg.errors import InputError
from seg.training.optim import build_scheduler, check_schedule
from seg.training.schedules import PolynomialDecay
from tests.moments import SIGNALLED
from tests.processes import start

pytestmark = pytest.mark.slow

FOLDER = Path("runs/run/version_0")
LAST = FOLDER / "checkpoints" / "last.ckpt"
TORCHS = "torch.optim.lr_scheduler."
RUN = [*SIGNALLED, "--trainer.max_epochs=2", "--trainer.limit_val_batches=1"]  # of 8 steps


def refused(run) -> str:
    """The one line that a run ends with."""
    assert run.wait() == 2, run.text
    assert "Traceback" not in run.text
    return run.text.splitlines()[-1]


def schedule(name, **settings):
    return [f"--model.lr_scheduler={name}"] + [
        f"--model.lr_scheduler.{key}={value}" for key, value in settings.items()
    ]


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Folders of runs that ended at step 8, by schedule."""
    given = {
        "OneCycleLR": schedule(TORCHS + "OneCycleLR", max_lr=0.01),
        "CosineAnnealingLR": schedule(TORCHS + "CosineAnnealingLR", T_max=8),
        "PolynomialLR": schedule(TORCHS + "PolynomialLR", total_iters=8),
        "PolynomialDecay": schedule("seg.optim.PolynomialDecay"),
    }
    folders = {name: tmp_path_factory.mktemp(name) for name in given}
    runs = [start("fit", *RUN, *args, cwd=folders[name]) for name, args in given.items()]
    assert [run.wait() for run in runs] == [0] * len(runs), [run.text for run in runs]
    return folders


def resume(folder, *args):
    """Go on in another folder, as the runs are shared."""
    given = ["--ckpt_path", folder / LAST, "--trust=[tests]", "--name=other", *args]
    return start("fit", *given, cwd=folder)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("OneCycleLR", [], "OneCycleLR: total_steps 8, and the run makes 12 steps; after step 8 "
         "there is no rate: start a new run from the checkpoint's weights with --model.init_from"),
        ("PolynomialLR", [], "PolynomialLR: total_iters 8, and the run makes 12 steps; after step "
         "8 the rate is 0: start a new run"),
        ("CosineAnnealingLR", ["--model.lr_scheduler.T_max=12"], "T_max is 12, and the checkpoint "
         "was written with 8, which a schedule keeps; resume with 8, or start a new run"),
        ("OneCycleLR", schedule("seg.optim.PolynomialDecay"), "PolynomialDecay: the checkpoint "
         "was written with another schedule; resume with that one, or start a new run"),
        ("PolynomialDecay", schedule(TORCHS + "OneCycleLR", max_lr=0.1), "OneCycleLR: the "
         "checkpoint was written with another schedule"),
        ("PolynomialDecay", ["--model.lr_scheduler.total_steps=10"], "PolynomialDecay: total_steps "
         "10, and the run makes 12 steps; after step 10 the rate is 0: set total_steps to 12."),
    ],
)  # fmt: skip
def test_a_run_resumed_for_longer_than_its_schedule_is_refused(name, args, message, ended):
    line = refused(resume(ended[name], "--trainer.max_epochs=3", *args))
    assert line.startswith("seg: error: model.lr_scheduler ")
    assert message in line


def test_polynomial_decay_goes_on_with_the_curve_of_the_longer_run(ended):
    folder = ended["PolynomialDecay"]
    run = resume(folder, "--trainer.max_epochs=3")
    assert run.wait() == 0, run.text
    (metrics,) = folder.glob("runs/other/*/metrics.csv")  # the refused ones have none
    with metrics.open() as file:
        rows = {
            int(row["step"]): row["lr-AdamW"] for row in csv.DictReader(file) if row["lr-AdamW"]
        }
    found = {step: float(rate) for step, rate in rows.items()}
    assert sorted(found) == [8, 9, 10, 11]
    assert found == pytest.approx({t: 1e-3 * (1 - t / 12) ** 0.9 for t in found})


def test_a_cosine_that_rises_again_within_the_run_is_named(ended):
    run = resume(ended["CosineAnnealingLR"], "--trainer.max_epochs=3")
    assert run.wait() == 0, run.text
    assert "T_max counts optimiser steps and is 8; the run makes 12" in run.text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (schedule(TORCHS + "OneCycleLR", max_lr=0.01, total_steps=5), "total_steps 5, and the run "
         "makes 8 steps; after step 5 there is no rate: set total_steps to 8."),
        (schedule(TORCHS + "PolynomialLR"), "total_iters 5, and the run makes 8 steps; after step "
         "5 the rate is 0: set total_iters to 8."),
        ([*schedule("seg.optim.PolynomialDecay"), "--trainer.max_epochs=-1"], "trainer.max_epochs "
         "-1 without trainer.max_steps: PolynomialDecay needs the length of the run; set "
         "--trainer.max_steps."),
    ],
)  # fmt: skip
def test_a_schedule_shorter_than_the_run_is_refused_before_the_first_step(args, message, tmp_path):
    assert message in refused(start("fit", *RUN, *args, cwd=tmp_path))
    assert not (tmp_path / LAST).exists()


def sgd():
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)


FITTING = [
    PolynomialDecay,
    partial(PolynomialDecay, total_steps=30),
    partial(lr_scheduler.OneCycleLR, max_lr=0.1),
    partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=30),
    partial(lr_scheduler.PolynomialLR, total_iters=20),
    partial(lr_scheduler.CosineAnnealingLR, T_max=20),
    partial(lr_scheduler.CosineAnnealingWarmRestarts, T_0=3),
    partial(lr_scheduler.CyclicLR, base_lr=0.1, max_lr=0.2, cycle_momentum=False),
    partial(lr_scheduler.MultiStepLR, milestones=[3, 6]),
    partial(lr_scheduler.StepLR, step_size=3),
    partial(lr_scheduler.ExponentialLR, gamma=0.9),
    partial(lr_scheduler.LinearLR, total_iters=5),
    partial(lr_scheduler.ConstantLR, total_iters=5),
]


@pytest.mark.parametrize("factory", FITTING)
def test_a_schedule_that_fits_the_run_is_taken_up_where_it_was(factory, caplog):
    optimizer = sgd()
    before = build_scheduler(factory, optimizer, 20)
    for _ in range(7):
        optimizer.step()
        before.step()
    with caplog.at_level(logging.WARNING):
        check_schedule(build_scheduler(factory, sgd(), 20), 20, None)
        check_schedule(build_scheduler(factory, sgd(), 20), 20, before.state_dict())
    assert caplog.text == ""


def test_a_changed_setting_is_named_with_both_values():
    saved = lr_scheduler.StepLR(sgd(), 3).state_dict()
    with pytest.raises(InputError, match=r"StepLR: step_size is 4, .* written with 3, which"):
        check_schedule(lr_scheduler.StepLR(sgd(), 4), 20, saved)
