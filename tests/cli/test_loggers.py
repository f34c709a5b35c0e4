"""The shipped loggers: what they hold at the end of a run, and what is said of a missing one."""

import csv
import importlib
import importlib.util
import sqlite3
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seg.cli import app as cli
from tests.conftest import LIGHT, SYNTHETIC

pytestmark = pytest.mark.slow

FIT = ["fit", *SYNTHETIC, *LIGHT, "--name=run", "--trainer.log_every_n_steps=1"]
RUN = Path("runs/run/version_0")


def need(package):
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None, reason=f"{package} is not installed"
    )


def lacking(package):
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is not None, reason=f"{package} is installed"
    )


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def names(folder):
    return {path.name for path in Path(folder).iterdir()}


def rows():
    return list(csv.DictReader((RUN / "metrics.csv").read_text().splitlines()))


def pictures():
    return {path.stem for path in [*RUN.glob("previews/*.png"), *RUN.glob("curves.png")]}


def test_the_csv_alone_leaves_no_events():
    assert cli.main([*FIT, "-c", "logger/csv"]) == 0
    assert {"metrics.csv", "config.yaml", "previews"} <= names(RUN)
    assert not [name for name in names(RUN) if name.startswith("events.")]
    assert {"train/loss", "val/miou"} <= rows()[0].keys()


def test_tensorboard_has_the_curves_the_pictures_and_the_configuration():
    assert cli.main([*FIT, "-c", "logger/tensorboard"]) == 0
    events = EventAccumulator(str(RUN)).Reload()
    logged = [float(row["val/miou"]) for row in rows() if row["val/miou"]]
    assert [scalar.value for scalar in events.Scalars("val/miou")] == pytest.approx(logged)
    assert set(events.Tags()["images"]) == pictures()
    assert len(pictures()) > 1
    (text,) = events.Tensors("config/text_summary")
    (markdown,) = text.tensor_proto.string_val
    stored = yaml.safe_load("\n".join(line[4:] for line in markdown.decode().splitlines()))
    assert stored["trainer"] == yaml.safe_load((RUN / "config.yaml").read_text())["trainer"]


@need("wandb")
def test_wandb_has_the_run_offline_in_its_folder(monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    given = ["-c", "logger/wandb", "--trainer.logger.offline=true", "--trainer.logger.name=mine"]
    assert cli.main([*FIT, *given]) == 0
    importlib.import_module("wandb").finish()
    (run,) = Path("wandb").glob("offline-run-*")
    shown = list((run / "files" / "media" / "images").glob("pictures_*.png"))
    assert len(shown) == len(pictures())
    (log,) = run.glob("*.wandb")
    assert all(name.encode() in log.read_bytes() for name in ("val/miou", "mine"))
    assert rows()


@need("mlflow")
@pytest.mark.filterwarnings("ignore")  # of what MLflow itself imports
def test_mlflow_has_the_run_in_its_data_base(monkeypatch):
    assert cli.main([*FIT, "-c", "logger/mlflow"]) == 0
    (artifacts,) = Path("mlruns").glob("*/*/artifacts/pictures")
    assert {path.stem for path in artifacts.iterdir()} == pictures()
    with sqlite3.connect("mlflow.db") as base:
        (found,) = base.execute("select value from metrics where key = 'val/miou'")
        (lr,) = base.execute("select value from params where key = 'model/optimizer/init_args/lr'")
    assert found == pytest.approx([float(row["val/miou"]) for row in rows() if row["val/miou"]])
    assert float(lr[0]) == 1e-3


def test_several_loggers_leave_the_runs_folder_as_it_is():
    for name in ("one", "two"):
        logger = {"class_path": "CSVLogger", "init_args": {"save_dir": "more", "name": name}}
        Path(f"{name}.yaml").write_text(yaml.safe_dump({"trainer": {"logger+": logger}}))
    assert cli.main([*FIT, "-c", "one.yaml", "-c", "two.yaml"]) == 0
    assert names("more") == {"one", "two"}
    assert {"metrics.csv", "config.yaml", "checkpoints"} <= names(RUN)
    assert [name for name in names(RUN) if name.startswith("events.")]


@pytest.mark.parametrize(
    "package", [pytest.param(name, marks=lacking(name)) for name in ("wandb", "mlflow")]
)
def test_a_logger_whose_package_is_missing_is_told_with_the_command_that_installs_it(
    package, capsys
):
    assert cli.main([*FIT, "-c", f"logger/{package}"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("seg: error: lightning.pytorch.loggers.")
    assert f"needs another package: pip install '{package}" in line
    assert not Path("runs").exists()
