"""A run that ends within an epoch and is resumed goes on as the run that was not ended."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from seg.errors import InputError
from seg.lifecycle.run_checkpoint import RunCheckpoint
from tests.lifecycle.test_resuming import EPOCH, Recorder, fit
from tests.moments import SIGNALLED, differences, outcome
from tests.processes import start

FOLDER = Path("runs/run/version_0")
LAST = FOLDER / "checkpoints" / "last.ckpt"
WHOLE = {"max_epochs": 3}
"""Three epochs of four steps; what ends them early, and what raises that, is added."""

KINDS: dict[str, dict[str, Any]] = {
    "plateau": {"schedule": "plateau"},
    "rates by epoch": {"schedule": "epochs"},
    "two validations an epoch": {"schedule": "plateau", "val_check_interval": 0.5},
    "a validation every 3 steps": {
        "schedule": "plateau",
        "val_check_interval": 3,
        "check_val_every_n_epoch": None,
    },
    "a validation every 2 epochs": {"schedule": "epochs", "check_val_every_n_epoch": 2},
    "no validation": {"schedule": "epochs", "limit_val_batches": 0},
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),  # as the test wants it
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty"),  # of the same run
]


class StopAt(L.Callback):
    """Asks for the end of the run, as a limit of time does, in a step or in a validation."""

    def __init__(self, step: int, hook: str = "on_train_batch_end") -> None:
        self.step = step
        setattr(self, hook, self.stop)

    def stop(self, trainer: L.Trainer, *args: Any) -> None:
        trainer.should_stop |= trainer.global_step == self.step


def saver(folder: Path, **settings: Any) -> RunCheckpoint:
    return RunCheckpoint(
        folder, "best", **{"save_last": True, "enable_version_counter": False, **settings}
    )


def trained(*runs: Recorder) -> list[str]:
    """Steps and new rates; a plateau's, of after the saving, comes again in the resumed run."""
    events = [event for run in runs for event in run.events if event[0] in ("train", "rate")]
    return list(dict.fromkeys(map(str, events)))


def saved(folder: Path) -> dict[str, Any]:
    return dict(torch.load(folder / "last.ckpt", weights_only=True))


def state(folder: Path) -> dict[str, Any]:
    checkpoint = saved(folder)
    names = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch")
    return {name: checkpoint[name] for name in names}


def resume(options: dict[str, Any], folder: Path, *callbacks: L.Callback) -> Recorder:
    return fit(options, [*callbacks, saver(folder)], folder / "last.ckpt")


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("raised", [{}, {"max_steps": 3 * EPOCH}], ids=["epochs", "steps"])
def test_a_run_resumed_after_max_steps_trains_the_rest_of_its_epoch(
    options: dict[str, Any], raised: dict[str, int], tmp_path: Path
) -> None:
    whole = fit({**WHOLE, **options}, [saver(tmp_path / "whole")])
    ends = [event for event in whole.events if event[0] == "epoch ends"]
    expected = state(tmp_path / "whole")
    for steps in range(1, 3 * EPOCH):  # the first and last of an epoch, and those between
        folder = tmp_path / str(steps)
        ended = fit({**WHOLE, **options, "max_steps": steps}, [saver(folder)])
        assert ended.global_step == saved(folder)["global_step"] == steps
        resumed = resume({**WHOLE, **options, **raised}, folder)
        assert trained(ended, resumed) == trained(whole), steps
        left = [event for event in resumed.events if event[0] == "epoch ends"]
        assert left == ends[-len(left) :], steps
        assert len(left) >= 3 - steps // EPOCH, steps
        assert differences(expected, state(folder)) == [], steps


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_end"])
def test_a_run_resumed_after_a_callback_ended_it_trains_the_rest_of_its_epoch(
    options: dict[str, Any], hook: str, tmp_path: Path
) -> None:
    whole = fit({**WHOLE, **options}, [saver(tmp_path / "whole")])
    expected = state(tmp_path / "whole")
    for step in range(1, 3 * EPOCH):
        folder = tmp_path / str(step)
        stopped = fit({**WHOLE, **options}, [StopAt(step, hook), saver(folder)])
        if hook == "on_train_batch_end" or stopped.global_step < 3 * EPOCH:
            assert stopped.global_step == saved(folder)["global_step"] == step
        resumed = resume({**WHOLE, **options}, folder)
        assert trained(stopped, resumed) == trained(whole), step
        assert differences(expected, state(folder)) == [], step


@pytest.mark.parametrize("options", [{}, {"val_check_interval": 0.5}], ids=["one", "two"])
@pytest.mark.parametrize("ended_by", ["steps", "callback"])
def test_the_end_of_a_run_within_an_epoch_does_not_use_up_patience(
    options: dict[str, Any], ended_by: str, tmp_path: Path
) -> None:
    def patient() -> EarlyStopping:
        return EarlyStopping("value", patience=3)  # the value never improves

    settings = {"schedule": "epochs", "max_epochs": 6, **options}
    whole = fit(settings, [patient(), saver(tmp_path / "whole")])
    assert whole.global_step < 6 * EPOCH
    for steps in (1, EPOCH + 1, EPOCH + 3):
        folder = tmp_path / str(steps)
        limit = {"max_steps": steps} if ended_by == "steps" else {}
        stop = [StopAt(steps)] if ended_by == "callback" else []
        ended = fit({**settings, **limit}, [*stop, patient(), saver(folder)])
        assert ended.global_step == steps
        resumed = resume(settings, folder, patient())
        assert resumed.global_step == whole.global_step
        assert differences(state(tmp_path / "whole"), state(folder)) == []


def test_a_limit_of_time_ends_a_run_that_goes_on_within_its_epoch(tmp_path: Path) -> None:
    class Slow(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
            if trainer.global_step == EPOCH + 2:
                time.sleep(1.1)

    settings = {"schedule": "epochs", **WHOLE}
    whole = fit(settings, [saver(tmp_path / "whole")])
    ended = fit({**settings, "max_time": {"seconds": 1}}, [Slow(), saver(tmp_path / "ended")])
    assert 0 < ended.global_step < 3 * EPOCH
    resumed = resume({**settings, "max_time": {"minutes": 10}}, tmp_path / "ended")
    assert trained(ended, resumed) == trained(whole)
    assert differences(state(tmp_path / "whole"), state(tmp_path / "ended")) == []


def test_a_run_may_end_within_the_same_epoch_again_and_again(tmp_path: Path) -> None:
    settings = {"schedule": "plateau", **WHOLE}
    whole = fit(settings, [saver(tmp_path / "whole")])
    folder = tmp_path / "ended"
    runs = [fit({**settings, "max_steps": 1}, [saver(folder)])]
    runs += [resume({**settings, "max_steps": n}, folder) for n in (2, 3, 5, 7, 10)]
    runs.append(resume(settings, folder))
    assert trained(*runs) == trained(whole)
    assert differences(state(tmp_path / "whole"), state(folder)) == []


def from_step(run: Recorder, step: int) -> list[tuple[Any, ...]]:
    """All that happened from the beginning of a step on."""
    steps = [event[0] == "train" and event[-2] == step for event in run.events]
    return run.events[steps.index(True) :]


@pytest.mark.parametrize("step", [1, EPOCH, EPOCH + 2, 2 * EPOCH - 1])
@pytest.mark.parametrize("more", [{}, {"val_check_interval": 0.5}], ids=["one", "two"])
def test_a_step_that_an_exception_ended_is_made_by_the_resumed_run(
    step: int, more: dict[str, Any], tmp_path: Path
) -> None:
    class Fails(L.Callback):
        def on_before_backward(self, trainer: L.Trainer, *args: Any) -> None:
            if trainer.global_step == step:
                raise OSError("out of luck")

    settings = {"schedule": "epochs", **WHOLE, **more}
    whole = fit(settings, [saver(tmp_path / "whole")])
    saving = partial(
        ModelCheckpoint,
        tmp_path,
        save_last=True,
        save_on_exception=True,
        enable_version_counter=False,
    )
    with pytest.raises(OSError, match="out of luck"):
        fit(settings, [Fails(), saving()])
    assert saved(tmp_path)["global_step"] == step
    resumed = fit(settings, [saving()], tmp_path / "last.ckpt")
    left = from_step(whole, step)
    # saved at a validation of the same step, it has the end of that epoch before
    assert resumed.events[-len(left) :] == left
    assert {event[0] for event in resumed.events[: -len(left)]} <= {"epoch starts", "epoch ends"}
    assert differences(state(tmp_path / "whole"), state(tmp_path)) == []


def test_a_run_goes_on_with_shorter_epochs_unless_more_of_its_epoch_is_done(tmp_path: Path) -> None:
    settings = {"schedule": "epochs", **WHOLE}
    fit({**settings, "max_steps": EPOCH + 3}, [saver(tmp_path)])
    with pytest.raises(InputError, match=r"of 2 steps, and the checkpoint is of step 3 of its"):
        resume({**settings, "limit_train_batches": 2}, tmp_path)
    resumed = resume({**settings, "limit_train_batches": 3}, tmp_path)
    epochs = [event[2][0] for event in resumed.events if event[0] == "train"]
    assert epochs == [2, 2, 2]


# three epochs of twelve steps of a real network with dropout, its rate by epoch
RUN = [*SIGNALLED, "--data.synthetic_length=48", "--trainer.limit_val_batches=2"]
RUN += ["--model.lr_scheduler=lightning.pytorch.cli.ReduceLROnPlateau"]
RUN += ["--model.lr_scheduler.monitor=val/loss", "--model.lr_scheduler.patience=0"]
RUN += ["--model.lr_scheduler.threshold=0.5", "--checkpoint.save_top_k=1"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was never ended."""
    folder = tmp_path_factory.mktemp("whole")
    run = start("fit", *RUN, cwd=folder)
    assert run.wait() == 0, run.text
    return folder / FOLDER


@pytest.mark.parametrize("steps", [13, 17, 24, 35])
def test_the_files_of_a_run_resumed_after_max_steps_are_those_of_one_never_ended(
    steps: int, whole: Path, tmp_path: Path
) -> None:
    ended = start("fit", *RUN, f"--trainer.max_steps={steps}", cwd=tmp_path)
    assert ended.wait() == 0, ended.text
    rows = (tmp_path / FOLDER / "metrics.csv").read_text().splitlines()
    assert set(rows) - set((whole / "metrics.csv").read_text().splitlines()) or steps == 24
    on = ["--ckpt_path", LAST, "--trust=[tests]", "--trainer.max_steps=-1"]
    resumed = start("fit", *on, cwd=tmp_path)
    assert resumed.wait() == 0, resumed.text
    assert differences(outcome(whole), outcome(tmp_path / FOLDER)) == []
