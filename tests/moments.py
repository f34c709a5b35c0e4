"""A callback that sends its own process a signal, really, at one moment of a run."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn
from torch.utils.data import default_collate

from tests.conftest import SMALL

# 3 epochs of 4 steps, of a network with dropout and batch norm
SIGNALLED = [
    *SMALL,
    "--data.synthetic_length=16",
    "--data.synthetic_size=[64,64]",
    "--data.eval_batch_size=2",
    "--trainer.max_epochs=3",
    "--trainer.log_every_n_steps=1",
    "--trainer.deterministic=true",
    "--trust=[tests]",
    "--model.network=tests.moments.DropoutNetwork",
    "--model.network.classes=5",
    "--trainer.callbacks+=tests.moments.SignalAt",
    "--name=run",
]


class SignalAt(L.Callback):
    """Sends signals at the moment of SEG_TEST_MOMENT, "hook:global_step:signal:rank"; else none.

    To this process, as the hook of that rank (or of "all") first begins, and with SEG_TEST_GROUP to
    its whole group, as a terminal does, twice. SEG_TEST_SLEEP is how many seconds the hook then
    takes.
    """

    sent = False

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        wanted = os.environ.get("SEG_TEST_MOMENT")
        if wanted is None or not name.startswith("on_") or wanted.split(":")[0] != name:
            return found
        _, step, number, rank = wanted.split(":")

        def send(trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
            of_rank = rank in ("all", str(trainer.global_rank))
            sanity = trainer.sanity_checking and "sanity" not in name
            if trainer.global_step == int(step) and of_rank and not sanity and not self.sent:
                self.sent = True  # a step's second save may come a second later
                print(f"signalled at {time.monotonic()}")
                to_group = "SEG_TEST_GROUP" in os.environ
                for _ in range(1 + to_group):
                    (os.killpg if to_group else os.kill)(os.getpid(), signal.Signals[number])
                    time.sleep(0.1 * to_group)
                if "SEG_TEST_SLEEP" in os.environ:
                    print("in its sleep")
                    time.sleep(float(os.environ["SEG_TEST_SLEEP"]))

        return send


class Workers(L.Callback):
    """Workers as SEG_TEST_WORKERS says: "fresh" for every epoch, "slow" at every batch, or both."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        kinds = os.environ.get("SEG_TEST_WORKERS", "")
        make = trainer.datamodule._loader  # type: ignore[attr-defined]

        def loader(*args: Any) -> Any:
            made = make(*args)
            assert made.num_workers > 0
            if "fresh" in kinds:
                made.__dict__["persistent_workers"] = False
            if "slow" in kinds:
                made.collate_fn = _collate_slowly
            return made

        trainer.datamodule._loader = loader  # type: ignore[attr-defined]


def _collate_slowly(samples: Any) -> Any:
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        torch.ones(1000, 1000).sum()  # without Python's lock
    return default_collate(samples)


class DropoutNetwork(nn.Sequential):
    """A small network whose output depends on random numbers."""

    def __init__(self, classes: int, in_channels: int = 3, width: int = 8) -> None:
        super().__init__(
            nn.Conv2d(in_channels, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout2d(0.3),
            nn.Conv2d(width, classes, 1),
        )


def outcome(run: Path) -> dict[str, Any]:
    """What a run comes to, in its folder: all that decides a further step, and what is reported."""
    names = ["state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch"]
    names += ["current_model_state", "averaging_state"]
    found = {}
    for name in ("last", "best"):
        checkpoint = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        found |= {f"{name} {key}": checkpoint.get(key) for key in names}
    # what was logged between the checkpoint and the kill is logged again
    found["metrics"] = list(dict.fromkeys((run / "metrics.csv").read_text().splitlines()))
    return found | {"per_class": (run / "per_class.json").read_text()}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what is not bitwise the same in two outcomes."""
    return [name for name in one if not _same(one[name], other[name])]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        pairs = zip(one, other, strict=True)
        return len(one) == len(other) and all(_same(a, b) for a, b in pairs)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)
