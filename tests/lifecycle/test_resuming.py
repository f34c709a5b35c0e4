"""A run resumed from a checkpoint of any moment does what the run that was not stopped did."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, Dataset

from seg.data.loading import TrainLoader
from seg.data.sampling.batch_samplers import Key, TrainBatchSampler
from seg.lifecycle.resuming import ExactResume

EPOCH = 4  # steps


class Keys(Dataset[Key]):
    def __getitem__(self, key: Key) -> Key:
        return key


class Data(L.LightningDataModule):
    def train_dataloader(self) -> TrainLoader:
        sampler = TrainBatchSampler(3 * EPOCH + 1, 3)
        return TrainLoader(Keys(), batch_sampler=sampler, collate_fn=list)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader([0, 1])  # type: ignore[arg-type]


class Recorder(L.LightningModule):
    """Notes all that happens, with the step that loggers are given."""

    def __init__(self, schedule: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.events: list[tuple[Any, ...]] = []
        self.schedule = schedule

    def note(self, *what: Any) -> None:
        logged = self.trainer.fit_loop.epoch_loop._batches_that_stepped
        self.events.append((*what, self.current_epoch, self.global_step, logged))

    def training_step(self, batch: list[Key], index: int) -> torch.Tensor:
        self.note("train", index, *batch)
        return self.weight * sum(key[1] for key in batch)

    def validation_step(self, batch: Any, index: int) -> None:
        self.note("validation", index)

    def on_train_epoch_start(self) -> None:
        self.note("epoch starts")

    def on_validation_epoch_end(self) -> None:
        self.log("value", 1.0)
        self.note("validation ends")

    def on_train_epoch_end(self) -> None:
        self.note("epoch ends", sorted(self.trainer.callback_metrics))

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        super().lr_scheduler_step(scheduler, metric)
        self.events.append(("rate", scheduler.get_last_lr(), self.global_step))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)
        if self.schedule == "one cycle":
            # asked for the number of steps, Lightning makes the loader before it reads the place
            steps = self.trainer.estimated_stepping_batches
            scheduler = OneCycleLR(optimizer, 0.1, total_steps=int(steps))
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]
        if self.schedule == "epochs":
            return [optimizer], [StepLR(optimizer, 1, 0.7)]
        halving = ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": halving, "monitor": "value"}}


class Saver(Checkpoint):
    """Saves wherever Lightning, or a signal, might; remembers what had happened by then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.points: list[tuple[Path, str, int]] = []

    def save(self, trainer: L.Trainer, module: Recorder, moment: str) -> None:
        path = self.folder / f"{len(self.points)}_{moment}.ckpt"
        trainer.save_checkpoint(path)
        events = [event[0] for event in module.events]
        if moment == "in_validation":  # which is done again from its start
            while events[-1] == "validation":
                events.pop()
        self.points.append((path, moment, len(events)))

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *args: Any) -> None:
        self.save(trainer, module, "step")

    def on_validation_batch_end(self, trainer: L.Trainer, module: Any, *args: Any) -> None:
        self.save(trainer, module, "in_validation")

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        self.save(trainer, module, "validation_end")

    def on_train_epoch_end(self, trainer: L.Trainer, module: Any) -> None:
        self.save(trainer, module, "epoch_end")


def fit(
    options: dict[str, Any], callbacks: Sequence[L.Callback], resumed: Path | None = None
) -> Recorder:
    settings = {"max_epochs": 3, **options}
    module = Recorder(settings.pop("schedule", "one cycle"))
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=bool(callbacks),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=[ExactResume(), *callbacks],
        **settings,
    )
    trainer.fit(module, datamodule=Data(), ckpt_path=resumed, weights_only=True)
    return module


OPTIONS: dict[str, dict[str, Any]] = {
    "epochs": {},
    "plateau": {"schedule": "plateau"},
    "max_steps": {"max_steps": 2 * EPOCH + 2, "max_epochs": -1},
    "two validations an epoch": {"val_check_interval": 0.5},
    "a validation every 3 steps": {"val_check_interval": 3, "check_val_every_n_epoch": None},
    "a validation every 2 epochs": {"check_val_every_n_epoch": 2},
    "no validation": {"limit_val_batches": 0},
    "short epochs": {"limit_train_batches": EPOCH - 1, "max_steps": 2 * EPOCH},
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # as the test wants it
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_run_resumed_from_any_moment_does_what_is_left_and_nothing_twice(
    options: dict[str, Any], tmp_path: Path
) -> None:
    saver = Saver(tmp_path)
    whole = fit(options, [saver])
    assert {"step", "epoch_end"} <= {moment for _, moment, _ in saver.points}
    for path, moment, done in saver.points:
        resumed = fit(options, [], path)
        assert torch.equal(resumed.weight, whole.weight), path.name
        left = whole.events[done:]
        if path.name.startswith(f"{len(saver.points) - 1}_") or whole.global_step == steps(path):
            # nothing is left to train: a run at its max_steps ends at once
            continue
        events = resumed.events
        if moment != "epoch_end":
            # a module that prepares for an epoch does so for the rest of one as well
            assert events.pop(0)[0] == "epoch starts"
        assert events == left, path.name


def steps(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])
