"""The `config.yaml` of a run."""

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import SaveConfigCallback

log = logging.getLogger(__name__)


class RunConfig(SaveConfigCallback):
    """Writes `config.yaml` when a run begins, and again where it was deleted during the run."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Write it, and remember where; the ranks agree on the folder together."""
        super().setup(trainer, pl_module, stage)
        self._path = Path(trainer.log_dir) / self.config_filename

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Say that the run's folder was deleted, if it was."""
        if not trainer.is_global_zero or self._path.exists():
            return
        log.warning(
            "%s was deleted during the run. It is written again; other files that were deleted "
            "with it are lost, such as the curves so far.",
            self._path,
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        options = {"skip_none": False, "overwrite": True, "multifile": self.multifile}
        self.parser.save(self.config, str(self._path), **options)
