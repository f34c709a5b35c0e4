"""The folder of a run, and the loggers that write into it."""

import csv
import re
import warnings
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from seg.checkpoint_files.contents import read_checkpoint
from seg.errors import InputError
from seg.lifecycle.checkpoint import run_folder
from seg.lifecycle.resuming import epoch_is_over

MOST_CURVES = 30
"""Classes up to which loggers other than the CSV get a curve of each class."""


class RunFolder:
    """`<root>/<name>/version_N`, a folder that no other run writes into.

    Args:
        root: Where the runs of all names lie.
        name: Name of the run.
        checkpoint: What the run is resumed from. From a checkpoint of a folder of this name, it
            goes on in that folder.
    """

    def __init__(self, root: str | Path, name: str, checkpoint: str | None = None) -> None:
        self.root = Path(root).expanduser()
        self.name = name
        self.checkpoint = checkpoint
        own = run_folder(checkpoint) if checkpoint else None
        same = own is not None and own.parent == (self.root / name).resolve()
        self.resumed = own if same else None
        """The folder to go on in, if there is one."""

    @cached_property
    def progress(self) -> tuple[int, bool]:
        """Optimiser steps of the checkpoint, and whether its epoch is trained no further."""
        saved = read_checkpoint(self.checkpoint or "")
        return int(saved["global_step"]), "loops" not in saved or epoch_is_over(saved)

    @cached_property
    def version(self) -> str:
        """`version_N`, made when first asked for; the first rank's is that of all."""
        if self.resumed is not None:
            return self.resumed.name
        if getattr(rank_zero_only, "rank", 0) != 0:
            return ""
        runs = self.root / self.name
        try:
            return self._new_version(runs)
        except OSError as error:
            raise InputError(
                f"{runs}: the run's folder cannot be made there: {error}; set "
                "--trainer.default_root_dir to a folder that can be written to."
            ) from error

    def _new_version(self, runs: Path) -> str:
        runs.mkdir(parents=True, exist_ok=True)
        found = (re.fullmatch(r"version_(\d+)", path.name) for path in runs.iterdir())
        number = max((int(match[1]) + 1 for match in found if match), default=0)
        while True:
            try:
                (runs / f"version_{number}").mkdir()
            except FileExistsError:  # taken by a run that began at the same moment
                number += 1
            else:
                return f"version_{number}"


class RunCSVLogger(CSVLogger):
    """Writes `metrics.csv`; a resumed run's holds on to what was logged up to its checkpoint."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder.root, folder.name)
        self._folder = folder

    @property
    def version(self) -> str:
        """Name of the folder in that of the run's name."""
        return self._folder.version

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """What writes the file."""
        if self._experiment is None and self._folder.resumed is not None:
            rows = _rows_before(self._folder.resumed / "metrics.csv", *self._folder.progress)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Experiment logs directory")  # meant to be there
                writer = super().experiment  # deletes the file
            writer.metrics = rows
            writer.save()
        return super().experiment

    @rank_zero_only
    def save(self) -> None:
        """Write what was logged, also where the folder was deleted during the run."""
        Path(self.log_dir).mkdir(parents=True, exist_ok=True)
        super().save()


class RunTensorBoardLogger(TensorBoardLogger):
    """Writes TensorBoard's events beside `metrics.csv`."""

    def __init__(self, folder: RunFolder) -> None:
        given: dict[str, Any] = {}
        if folder.resumed is not None:  # what was logged after the checkpoint will be logged again
            given["purge_step"], _ = folder.progress
        super().__init__(folder.root, folder.name, default_hp_metric=False, **given)
        self._folder = folder

    @property
    def version(self) -> str:
        """Name of the folder in that of the run's name."""
        return self._folder.version

    @rank_zero_only
    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        """Log, also where the folder was deleted during the run."""
        Path(self.log_dir).mkdir(parents=True, exist_ok=True)
        super().log_metrics(*args, **kwargs)


def _name_of(data: Namespace) -> str:
    """Name of data that have no folder."""
    own = data.get("dataset")
    path = getattr(own, "class_path", None) or getattr(own, "__name__", None)
    return "quickstart" if own is None else str(path).rpartition(".")[2]


def run_loggers(config: Namespace, given: Any) -> list[Logger]:
    """The loggers of a run: its own, whose folder is the run's, and those that were configured.

    Args:
        config: The configuration of `fit`.
        given: What `trainer.logger` was instantiated to; False leaves TensorBoard out. All but the
            CSV get the curves of each class only up to 30 classes, unless `config.class_curves`.
    """
    name = config.name
    if name is None:
        name = Path(config.data.root).resolve().name if config.data.root else _name_of(config.data)
    folder = RunFolder(config.trainer.default_root_dir or "runs", name, config.ckpt_path)
    others: list[Logger] = [] if given is False else [RunTensorBoardLogger(folder)]
    if isinstance(given, Logger):
        others.append(given)
    elif given is not None and not isinstance(given, bool):
        others += given
    if not config.class_curves:
        for logger in others:
            _leave_out_many_curves(logger)
    return [RunCSVLogger(folder), *others]


def _leave_out_many_curves(logger: Logger) -> None:
    """Keep hundreds of curves from a logger that draws each of them."""
    log_metrics = logger.log_metrics

    def log_few(metrics: dict[str, float], *args: Any, **kwargs: Any) -> None:
        log_metrics(_few_curves(metrics), *args, **kwargs)

    logger.log_metrics = log_few  # type: ignore[method-assign]


def _few_curves(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics without kinds that have a curve for each of more than `MOST_CURVES` classes."""
    kinds = {name: "/".join(name.split("/", 2)[:2]) for name in metrics if name.count("/") > 1}
    counts = Counter(kinds.values())
    return {k: v for k, v in metrics.items() if counts.get(kinds.get(k, ""), 0) <= MOST_CURVES}


def _rows_before(file: Path, done: int, epoch_is_over: bool) -> list[dict[str, Any]]:
    """What a file of metrics holds up to a checkpoint of so many steps.

    The means of an epoch that goes on are left out: they are of a part of it.
    """
    rows: list[dict[str, Any]] = []
    if file.is_file():
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    part = None if epoch_is_over else done - 1
    return [
        {key: value for key, value in row.items() if value}
        for row in rows
        if int(row["step"]) < done and not (int(row["step"]) == part and row.get("train/loss"))
    ]
