"""The folder of a run, and the loggers that write into it."""

import csv
import warnings
from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from seg.lifecycle.checkpoint import read_checkpoint, run_folder
from seg.lifecycle.resuming import epoch_is_over


def run_loggers(config: Namespace) -> list[Logger]:
    """One CSV and one TensorBoard logger over the same folder `<root>/<name>/version_N`.

    The folder is a new one, unless a run is resumed from its own checkpoint: then it goes on there.
    """
    root = config.trainer.default_root_dir or "runs"
    name = config.name
    if name is None:
        name = Path(config.data.root).resolve().name if config.data.root else "quickstart"
    resumed = config.ckpt_path and run_folder(config.ckpt_path)
    if resumed and resumed.parent == (Path(root) / name).resolve():
        first = resumed_csv_logger(root, name, resumed.name, config.ckpt_path)
    else:
        first = CSVLogger(root, name)
    return [first, TensorBoardLogger(root, name, first.version, default_hp_metric=False)]


def resumed_csv_logger(root: str, name: str, version: str, checkpoint: str) -> CSVLogger:
    """A CSV logger that keeps what its file holds up to the checkpoint.

    The means of an epoch that goes on are left out: they are of a part of it.
    """
    file = Path(root) / name / version / "metrics.csv"
    rows = list(csv.DictReader(file.read_text().splitlines())) if file.is_file() else []
    saved = read_checkpoint(checkpoint)
    done = int(saved["global_step"])
    part = None if epoch_is_over(saved) else done - 1
    logger = CSVLogger(root, name, version)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Experiment logs directory")  # it is meant to be there
        logger.experiment.metrics = [
            {key: value for key, value in row.items() if value}
            for row in rows
            if int(row["step"]) < done and not (int(row["step"]) == part and row.get("train/loss"))
        ]
    return logger
