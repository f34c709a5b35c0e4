"""The precision of a command: set, chosen by the device, or that of the checkpoint's run."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import Namespace

from seg.cli import app as cli
from seg.cli.precision import link_precision
from tests.conftest import LIGHT, SYNTHETIC

SYNTHETIC = [arg for arg in SYNTHETIC if "precision" not in arg]
CHOOSES = "seg.cli.precision.precision_of_device"


def given(**changes):
    trainer = Namespace(precision=None, plugins=None, strategy="auto", accelerator="cpu")
    trainer.devices = "auto"
    for name, value in changes.items():
        trainer[name] = value
    return trainer


def of_class(path, **init_args):
    return Namespace(class_path=path, init_args=Namespace(**init_args))


_PLUGINS = "lightning.pytorch.plugins"
_SHARDED = of_class("seg.sharding.ShardedStrategy")
_OWN = of_class("lightning.pytorch.strategies.DDPStrategy", precision_plugin=of_class("x"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "16-mixed"),
        ({"precision": "64"}, "64"),
        ({"precision": 32}, 32),
        ({"strategy": "ddp"}, "16-mixed"),
        ({"strategy": _SHARDED}, "32-true"),
        ({"strategy": "ddp_fork", "accelerator": "gpu"}, "32-true"),
        ({"strategy": _OWN}, None),
        ({"plugins": of_class(f"{_PLUGINS}.DoublePrecision")}, None),
        ({"plugins": [of_class(f"{_PLUGINS}.AsyncCheckpointIO")]}, "16-mixed"),
    ],
)
def test_what_was_set_stays_and_what_the_strategy_cannot_do_is_not_chosen(
    changes, expected, monkeypatch
):
    monkeypatch.setattr(CHOOSES, lambda *given: ("16-mixed", "a GPU"))
    trainer = given(**changes)
    link_precision(trainer, "fit", None)
    assert trainer.precision == expected


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run in which bf16-mixed was chosen, and what it printed."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CHOOSES, lambda *given: ("bf16-mixed", "a CPU with bf16"))
        patch.setattr("seg.training.precision.has_fast_bf16", lambda: True)
        patch.chdir(folder)
        assert cli.main(["fit", *SYNTHETIC, *LIGHT, "--name=run"]) == 0
    return folder / "runs" / "run" / "version_0"


@pytest.fixture
def checkpoint(run, tmp_path, monkeypatch):
    """A copy of its last checkpoint, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "runs" / "run" / "version_0")
    return str(tmp_path / "runs/run/version_0/checkpoints/last.ckpt")


def precision_in(folder):
    return yaml.safe_load((Path(folder) / "config.yaml").read_text())["trainer"]["precision"]


@pytest.mark.slow
def test_what_was_chosen_is_stored_for_those_who_go_on_elsewhere(run):
    assert precision_in(run) == "bf16-mixed"
    stored = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert stored["config"]["trainer"]["precision"] == "bf16-mixed"


@pytest.mark.slow
def test_a_resumed_run_keeps_its_precision_on_a_slower_machine_and_is_warned(
    checkpoint, monkeypatch, caplog, capsys
):
    monkeypatch.setattr("seg.training.precision.has_fast_bf16", lambda: False)
    given = ["--ckpt_path", checkpoint, "--trainer.max_epochs=2"]
    assert cli.main(["fit", *given]) == 0
    assert "trainer.precision=bf16-mixed: this processor has no instructions" in caplog.text
    assert "in bf16-mixed." in capsys.readouterr().out
    assert precision_in("runs/run/version_0") == "bf16-mixed"


@pytest.mark.slow
@pytest.mark.parametrize("fast", [True, False])
def test_validate_and_calibrate_take_the_precision_of_the_run_where_it_is_fast(
    fast, run, checkpoint, monkeypatch, caplog
):
    monkeypatch.setattr("seg.training.precision.has_fast_bf16", lambda: fast)
    best = checkpoint.replace("last", "best")
    assert cli.main(["validate", "--ckpt_path", best, "--output=out"]) == 0
    said = "Precision 32-true: the run had bf16-mixed"
    assert (said in caplog.text) != fast
    figures = [json.loads((folder / "per_class.json").read_text()) for folder in (run, Path("out"))]
    fits, here = ([c["iou"] for c in record["classes"]] for record in figures)
    assert (fits == here) == fast
    assert cli.main(["calibrate", "--ckpt_path", best, "--data.num_workers=0"]) == 0
    record = torch.load(best.replace("best", "best-calibrated"), weights_only=True)["calibration"]
    assert record["iou"] == here
    assert ("Using bfloat16 Automatic Mixed Precision" in caplog.text) == fast


@pytest.mark.slow
def test_a_precision_that_is_given_wins_over_device_and_checkpoint(
    checkpoint, monkeypatch, caplog, capsys
):
    monkeypatch.setattr("seg.training.precision.has_fast_bf16", lambda: True)
    wanted = "--trainer.precision=32-true"
    assert cli.main(["fit", "--ckpt_path", checkpoint, wanted, "--trainer.max_epochs=2"]) == 0
    assert precision_in("runs/run/version_0") == "32-true"
    assert cli.main(["fit", *SYNTHETIC, *LIGHT, "--name=new", "--trainer.precision=64-true"]) == 0
    assert precision_in("runs/new/version_0") == "64-true"
    assert "chosen for" not in caplog.text


@pytest.mark.slow
def test_the_choice_is_told_in_one_line(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(CHOOSES, lambda *given: ("32-true", "a CPU without bf16"))
    assert cli.main(["fit", *SYNTHETIC, *LIGHT, "--trainer.fast_dev_run=true"]) == 0
    (line,) = [text for text in caplog.text.splitlines() if "Precision" in text]
    expected = "Precision 32-true, chosen for a CPU without bf16; --trainer.precision sets another."
    assert line.endswith(expected)
