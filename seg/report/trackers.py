"""What the run's loggers get beside its metrics: its configuration, and the pictures at its end."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image


def log_settings(loggers: Iterable[Logger], config: Mapping[str, Any]) -> None:
    """Give the loggers the configuration: to TensorBoard as a text, to others as parameters.

    Args:
        loggers: Of the run; its CSV has `config.yaml` beside it.
        config: What config.yaml holds.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            import yaml

            text = yaml.safe_dump(dict(config), sort_keys=False)
            indented = text.replace("\n", "\n    ")  # Markdown's code
            logger.experiment.add_text("config", f"    {indented}", 0)
        elif isinstance(logger, WandbLogger | MLFlowLogger):
            logger.log_hyperparams(dict(config))


def log_pictures(loggers: Iterable[Logger], paths: Iterable[Path], step: int) -> None:
    """Give pictures to the loggers that show them; others have them in the run's folder.

    Args:
        loggers: Of the run.
        paths: Of PNG files.
        step: The optimiser step that they are of.
    """
    paths = list(paths)
    for logger in loggers if paths else ():
        if isinstance(logger, TensorBoardLogger):
            for path in paths:
                pixels = np.asarray(Image.open(path).convert("RGB"))
                logger.experiment.add_image(path.stem, pixels, step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image("pictures", [str(path) for path in paths], step)
        elif isinstance(logger, MLFlowLogger):
            for path in paths:
                logger.experiment.log_artifact(logger.run_id, str(path), "pictures")
