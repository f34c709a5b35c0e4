"""What is seen of a run as it goes on: a bar in a terminal, else a line an epoch."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn

from seg.module import SegmentationModule
from seg.report.terminal import print_lines

_SHORT = {"train/loss_step": "loss", "val/miou": "IoU", "v_num": ""}
_SCORES = {"train/loss": "loss", "val/miou": "mean IoU", "val/miou_rare": "rare IoU"}


def progress(given: Any, fits: bool) -> tuple[dict[str, Any], list[L.Callback]]:
    """Options of the Trainer that was not given them, and callbacks, that show how a run goes on.

    Args:
        given: The configuration of the Trainer; a bar or a summary that it asks for stays.
        fits: Whether it will train.
    """
    callbacks = given.callbacks if isinstance(given.callbacks, list) else [given.callbacks]
    is_wanted = given.enable_progress_bar is not False
    has_own = any(isinstance(callback, ProgressBar) for callback in callbacks)
    in_terminal = Console().is_terminal
    options = {"enable_model_summary": bool(given.enable_model_summary)}
    shown: list[L.Callback] = [FitLines(is_wanted and not in_terminal)] if fits else []
    if not has_own and is_wanted and in_terminal:
        shown.append(NarrowBar())
    elif not has_own and given.enable_progress_bar is None:
        options["enable_progress_bar"] = False
    return options, shown


class NarrowBar(RichProgressBar):
    """Lightning's bar, in one line of 80 columns."""

    def configure_columns(self, trainer: L.Trainer) -> list[ProgressColumn]:
        """Leave out the speed in steps, and shorten the bar."""
        description, bar, batches, times, _ = super().configure_columns(trainer)
        assert isinstance(bar, BarColumn)
        bar.bar_width = 12
        return [description, bar, batches, times]

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The loss and the mean IoU by short names; what a network of one's own logs as it is."""
        found = super().get_metrics(trainer, pl_module).items()
        return {short: value for name, value in found if (short := _SHORT.get(name, name))}


class FitLines(L.Callback):
    """Prints what is trained, and a line an epoch: for logs, pipes and jobs of a cluster.

    Args:
        each_epoch: Whether to print the line of each epoch.
    """

    def __init__(self, each_epoch: bool) -> None:
        self._each_epoch = each_epoch
        self._start = self._mark = self._training = 0.0
        self._first_step = self._images = 0
        self._epoch: int | None = None
        self._is_judged = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print what is trained."""
        assert isinstance(pl_module, SegmentationModule)
        if trainer.is_global_zero:
            print_lines([summary(trainer, pl_module)])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the time."""
        self._start, self._first_step, self._epoch = time.monotonic(), trainer.global_step, None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line of the epoch before, whose figures are complete by now."""
        self._print(trainer)
        self._epoch, self._images, self._training = trainer.current_epoch, 0, 0.0
        self._mark = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images of all ranks, and the time without validation."""
        now = time.monotonic()
        self._training += now - self._mark
        self._mark = now
        self._images += len(batch["image"]) * trainer.world_size

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave out the time that it took."""
        self._is_judged = not trainer.sanity_checking
        self._mark = time.monotonic()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line of the last epoch."""
        self._print(trainer)
        self._epoch = None

    def _print(self, trainer: L.Trainer) -> None:
        is_judged, self._is_judged = self._is_judged, False
        if self._epoch is None or not (self._each_epoch and trainer.is_global_zero):
            return
        last = trainer.max_epochs
        parts = [f"epoch {self._epoch + 1}" + (f"/{last}" if last and last > 0 else "")]
        for name, short in _SCORES.items():
            if name in trainer.callback_metrics and (is_judged or name.startswith("train")):
                parts.append(f"{short} {float(trainer.callback_metrics[name]):.3f}")
        parts.append(f"{self._images / max(self._training, 1e-9):.3g} images/s")
        left = self._left(trainer)
        print_lines(["  ".join(parts + ([f"{duration(left)} left"] if left else []))])

    def _left(self, trainer: L.Trainer) -> float:
        """Seconds to the end at the pace so far; 0 at the end, or where there is none in sight."""
        done = trainer.global_step - self._first_step
        ahead = trainer.estimated_stepping_batches - trainer.global_step
        if done <= 0 or ahead <= 0 or ahead == float("inf"):
            return 0.0
        return (time.monotonic() - self._start) / done * ahead


def summary(trainer: L.Trainer, module: SegmentationModule) -> str:
    """One line: network and its size, loss, devices, precision."""
    numbers = [p.numel() for p in module.network.parameters()]
    trained = [p.numel() for p in module.network.parameters() if p.requires_grad]
    size = f"{sum(numbers) / 1e6:.1f} M parameters"
    if len(trained) < len(numbers):
        size += f", of which {sum(trained) / 1e6:.1f} M are trained"
    device = trainer.strategy.root_device.type
    devices = device if trainer.world_size == 1 else f"{trainer.world_size} devices ({device})"
    precision = "" if trainer.precision == "32-true" else f" in {trainer.precision}"
    network, loss = type(module.network).__name__, type(module.loss).__name__
    return f"Training {network} ({size}) with {loss} on {devices}{precision}."


def duration(seconds: float) -> str:
    """A duration as one says it: 45 s, 12 min, 3.4 h."""
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 3600:.1f} h"
