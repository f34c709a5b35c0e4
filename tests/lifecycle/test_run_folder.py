"""Every run has a folder of its own, with all its files, whatever it logs to besides."""

import csv
import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lightning as L
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seg.lifecycle import run_folder
from seg.lifecycle.run_folder import RunCSVLogger, RunFolder, RunTensorBoardLogger
from tests.cli.test_app import CONVOLUTION, seg
from tests.conftest import SYNTHETIC

pytestmark = pytest.mark.slow

# 2 steps an epoch
RUN = [*SYNTHETIC, *CONVOLUTION, "--model.network.in_channels=3", "--model.network.out_channels=5"]
RUN += ["--name=run", "--trainer.log_every_n_steps=1"]
FIRST = Path("runs/run/version_0")
LAST = FIRST / "checkpoints" / "last.ckpt"
BEST = FIRST / "checkpoints" / "best.ckpt"
FILES = {"config.yaml", "metrics.csv", "curves.png", "per_class.csv", "per_class.json"}
FILES |= {"checkpoints", "previews", "per_image.csv"}
CSV = {
    "class_path": "lightning.pytorch.loggers.CSVLogger",
    "init_args": {"save_dir": "elsewhere", "name": "mine", "version": 0},
}
TENSORBOARD = {
    "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
    "init_args": {"save_dir": "elsewhere", "name": "board"},
}


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def names(folder):
    """Names in a run's folder but TensorBoard's, and whether there are any of those."""
    found = {path.name for path in folder.iterdir()}
    events = {name for name in found if name.startswith("events.")}
    return found - events - {"hparams.yaml"}, bool(events)


def digests(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in files}


def logged(folder):
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def steps(path):
    return torch.load(path, weights_only=True)["global_step"]


@pytest.mark.filterwarnings("ignore:Experiment logs directory elsewhere")  # of version 0 twice
@pytest.mark.parametrize("logger", [False, True, CSV, [TENSORBOARD, CSV]], ids=str)
def test_each_run_has_a_new_folder_with_all_its_files_whatever_loggers_are_configured(
    logger, drawn_curves
):
    Path("logger.yaml").write_text(yaml.safe_dump({"trainer": {"logger": logger}}))
    assert seg("fit", *RUN, "-c", "logger.yaml") == 0
    first = digests(FIRST)
    assert seg("fit", *RUN, "-c", "logger.yaml") == 0
    assert digests(FIRST) == first
    for version in range(2):
        folder = FIRST.with_name(f"version_{version}")
        assert names(folder) == (FILES, logger is not False)
        assert {"train/loss", "val/miou", "lr-AdamW"} <= logged(folder)[0].keys()
    others = set() if isinstance(logger, bool) else {"elsewhere"}
    assert {path.name for path in Path().iterdir()} == {"runs", "logger.yaml"} | others
    if CSV in (logger, *(logger if isinstance(logger, list) else [])):
        assert logged(Path("elsewhere/mine/version_0")) == logged(folder)
    if isinstance(logger, list):
        assert len(list(Path("elsewhere/board").rglob("events.*"))) == 2


def test_runs_that_begin_at_the_same_moment_get_folders_of_their_own(tmp_path):
    (tmp_path / "name" / "version_7").mkdir(parents=True)
    (tmp_path / "name" / "version_x").mkdir()
    with ThreadPoolExecutor(16) as pool:
        claimed = list(pool.map(lambda _: RunFolder(tmp_path, "name").version, range(64)))
    assert sorted(claimed) == sorted(f"version_{number}" for number in range(8, 72))


def test_a_run_refused_before_its_first_step_takes_no_folder_and_no_line_from_the_log():
    assert seg("fit", *RUN) == 0
    before = logged(FIRST)
    assert seg("fit", *RUN, "--checkpoint.monitor=val/other") == 2
    assert seg("fit", "--ckpt_path", LAST, "--checkpoint.monitor=val/other") == 2
    assert seg("fit", "--ckpt_path", LAST, "--data.batch_size=2", "--trainer.max_epochs=2") == 2
    assert [path.name for path in FIRST.parent.iterdir()] == ["version_0"]
    assert logged(FIRST) == before


def test_without_checkpointing_a_run_trains_and_shows_its_last_validation(capsys, drawn_curves):
    given = ["--trainer.enable_checkpointing=false", "--trainer.max_epochs=3"]
    assert seg("fit", *RUN, *given, "--model.optimizer.lr=0.3") == 0
    assert names(FIRST) == (FILES - {"checkpoints"}, True)
    assert list(Path().rglob("*.ckpt")) == []
    scores = [row["val/miou"] for row in logged(FIRST) if row["val/miou"]]
    assert len(scores) == 3
    miou = json.loads((FIRST / "per_class.json").read_text())["miou"]
    assert miou == pytest.approx(float(scores[-1]), rel=1e-6)
    printed = capsys.readouterr().out
    assert "validation split, last validation" in printed
    assert "No checkpoints were kept." in printed
    assert "--ckpt_path" not in printed


def test_a_callback_that_saves_is_refused_in_a_run_that_saves_nothing(capsys):
    saving = "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint"
    assert seg("fit", *RUN, "--trainer.enable_checkpointing=false", saving) == 2
    error = capsys.readouterr().err
    assert "trainer.enable_checkpointing is false, and trainer.callbacks has Model" in error


def test_a_run_that_may_write_nothing_is_refused(capsys):
    assert seg("fit", *RUN, "--trainer.barebones=true") == 2
    assert "trainer.barebones true forbids the logs and" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_a_trial_says_that_nothing_was_kept(capsys):
    assert seg("fit", *RUN, "--trainer.fast_dev_run=true") == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].startswith("A trial by trainer.fast_dev_run: no file was wr")
    assert "None" not in printed
    assert list(Path().iterdir()) == []


# 8 steps an epoch
LONG = ["--data.synthetic_length=32", "--model.lr_scheduler=torch.optim.lr_scheduler.ConstantLR"]


def test_a_run_that_ends_before_its_first_validation_is_validated_at_its_end(capsys):
    assert seg("fit", *RUN, *LONG, "--trainer.max_steps=3") == 0
    assert (steps(BEST), steps(LAST)) == (3, 3)
    printed = capsys.readouterr().out
    assert "validation split, best epoch" in printed
    assert f"seg test --ckpt_path {BEST}" in printed
    assert seg("validate", "--ckpt_path", BEST, "--output", "judged") == 0
    assert Path("judged/per_class.json").read_bytes() == (FIRST / "per_class.json").read_bytes()
    # and trains on as one that was not ended
    assert seg("fit", "--ckpt_path", LAST, "--trainer.max_steps=-1") == 0
    assert seg("fit", *RUN, *LONG, "--name=whole") == 0
    whole = torch.load("runs/whole/version_0/checkpoints/last.ckpt", weights_only=True)
    resumed = torch.load(LAST, weights_only=True)
    assert resumed["global_step"] == whole["global_step"] == 8
    for name, weights in whole["state_dict"].items():
        assert torch.equal(weights, resumed["state_dict"][name])


@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.max_steps=3", "--trainer.check_val_every_n_epoch=2", "--trainer.max_epochs=2"],
        ["--trainer.limit_val_batches=0", "--checkpoint.monitor=null"],
        ["--trainer.limit_val_batches=0", "--checkpoint.monitor=null", "--checkpoint.save_top_k=0"],
    ],
    ids=" ".join,
)
def test_a_run_that_never_validates_says_so_and_how_to(options, capsys):
    assert seg("fit", *RUN, *LONG, *options) == 0
    said = "No validation has scored these weights; to validate them: seg "
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith(said)]
    assert not (FIRST / "per_class.json").exists()
    assert seg(*line.removeprefix(said).split()) == 0
    assert list((FIRST / "validate").glob("*/per_class.json"))


def test_a_given_folder_with_the_checkpoints_of_another_run_is_refused(capsys):
    given = ["--checkpoint.dirpath=kept", "--trainer.max_epochs=1"]
    assert seg("fit", *RUN, *given) == 0
    before = digests(Path("kept"))
    assert seg("fit", *RUN, *given) == 2
    folder = Path("kept").resolve()
    assert f"RunCheckpoint: dirpath {folder} holds best.ckpt of another" in capsys.readouterr().err
    assert digests(Path("kept")) == before
    assert seg("fit", "--ckpt_path=kept/last.ckpt", "--trainer.max_epochs=2") == 0
    assert steps("kept/last.ckpt") == 4


def curves(folder):
    """TensorBoard's curves as it shows them: steps by name."""
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [e.step for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_shows_one_line_after_a_run_that_was_killed_and_resumed(tmp_path):
    assert seg("fit", *RUN) == 0
    shutil.copy(LAST, "before.ckpt")
    more = [*RUN, "--ckpt_path", LAST, "--trainer.max_epochs=3"]
    assert seg("fit", *more) == 0
    shutil.copy("before.ckpt", LAST)  # as after a kill that lost the steps since
    assert seg("fit", *more) == 0
    shown = curves(FIRST)
    assert shown["train/loss_step"] == [0, 1, 2, 3, 4, 5]
    assert shown["val/miou"] == [1, 3, 5]


def test_the_loggers_of_a_resumed_run_read_its_checkpoint_once():
    assert seg("fit", *RUN) == 0
    folder = RunFolder("runs", "run", str(LAST))
    RunTensorBoardLogger(folder)
    rows = logged(FIRST)
    LAST.unlink()
    RunCSVLogger(folder).experiment.save()
    assert logged(FIRST) == rows and len(rows) > 1


@pytest.mark.parametrize("all_classes", [False, True])
def test_beyond_some_classes_their_curves_go_to_the_csv_alone_unless_asked(
    all_classes, monkeypatch
):
    monkeypatch.setattr(run_folder, "MOST_CURVES", 4)
    assert seg("fit", *RUN, f"--class_curves={str(all_classes).lower()}") == 0
    assert "val/iou/crack" in logged(FIRST)[0]
    shown = curves(FIRST)
    assert ("val/iou/crack" in shown) == all_classes
    assert {"val/miou", "val/loss", "train/loss", "val/worst_class_iou"} <= shown.keys()


def test_a_place_where_no_run_can_be_written_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    assert seg("fit", *RUN, f"--trainer.default_root_dir={tmp_path / 'file'}") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"seg: error: {tmp_path / 'file' / 'run'}: the run's folder cannot be")
    assert "--trainer.default_root_dir" in error


class DeletesRun(L.Callback):
    """Deletes the run's folder at the start of the second epoch."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            shutil.rmtree(trainer.log_dir)


def test_a_run_whose_folder_is_deleted_says_so_once_and_writes_its_files_again(
    caplog, drawn_curves
):
    callback = f"--trainer.callbacks+={DeletesRun.__module__}.DeletesRun"
    assert seg("fit", *RUN, "--trainer.max_epochs=3", callback) == 0
    said = [text for text in caplog.messages if "config.yaml was deleted during the run" in text]
    assert len(said) == 1 and "\n" not in said[0]
    assert names(FIRST)[0] >= FILES
    assert yaml.safe_load((FIRST / "config.yaml").read_text())["name"] == "run"
    assert [int(row["step"]) for row in logged(FIRST)][-1] == 5
