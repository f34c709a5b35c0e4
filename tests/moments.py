"""A callback that sends its own process a signal, really, at one moment of a run."""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn

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

    To this process, as the hook of that rank (or of "all") begins, and with SEG_TEST_GROUP to the
    loaders' workers, as a terminal does. SEG_TEST_SLEEP is how many seconds the hook then takes.
    """

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        wanted = os.environ.get("SEG_TEST_MOMENT")
        if wanted is None or not name.startswith("on_") or wanted.split(":")[0] != name:
            return found
        _, step, number, rank = wanted.split(":")

        def send(trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
            of_rank = rank in ("all", str(trainer.global_rank))
            sanity = trainer.sanity_checking and "sanity" not in name
            if trainer.global_step == int(step) and of_rank and not sanity:
                workers = multiprocessing.active_children()
                assert workers or "SEG_TEST_GROUP" not in os.environ
                for worker in workers if "SEG_TEST_GROUP" in os.environ else []:
                    for _ in range(2):  # to the process, and to its group
                        os.kill(worker.pid or 0, signal.Signals[number])
                        time.sleep(0.1)
                os.kill(os.getpid(), signal.Signals[number])
                if "SEG_TEST_SLEEP" in os.environ:
                    print("in its sleep")
                    time.sleep(float(os.environ["SEG_TEST_SLEEP"]))

        return send


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
