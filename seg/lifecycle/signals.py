"""SIGTERM, SIGUSR1 and Ctrl-C save the run after the running step and end it on all ranks."""

import os
import shlex
import signal
import threading
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import ModelCheckpoint

from seg.lifecycle.stopped import SIGNALS, Stopped
from seg.lightning_compat.loops import send_no_sigterm, write_step_logs
from seg.lightning_compat.trainer import (
    ScriptLauncher,
    SignalConnector,
    cluster_environment,
    set_signal_connector,
    signal_connector,
)

_SIGKILL = getattr(signal, "SIGKILL", signal.SIGTERM)
_ONE_CALL = 1.0
"""Seconds in which several signals count as one: a terminal's and a launcher's, of one Ctrl-C."""


class StopOnSignal(L.Callback):
    """Ends a fit, after the same step on every rank, when any rank gets a signal.

    The ranks agree without waiting for each other or for a GPU: the flags of a step are reduced
    in the background, on the CPU, and read after the next step. In a validation a rank that has
    got the signal leaves the rest of it out, and all meet at its end. A second signal ends the
    process at once.
    """

    def __init__(self) -> None:
        self.number = 0
        """The signal that this process has got, 0 before."""
        self._since = 0.0
        self._took_steps = False
        self._group: Any = None
        self._flag = torch.zeros(1, dtype=torch.int32)
        self._reduction: Any = None

    def attach(self, trainer: L.Trainer) -> None:
        """Become the trainer's last callback, and its way to handle signals.

        Last, so that what is saved holds what all others did in the step.
        """
        trainer.callbacks.append(self)  # type: ignore[attr-defined]
        set_signal_connector(trainer, _Handlers(trainer, self))

    def receive(self, number: int, trainer: L.Trainer) -> None:
        """Take note of a signal; of a second one, end."""
        now = time.monotonic()
        launcher = trainer.strategy.launcher
        starts_ranks = isinstance(launcher, ScriptLauncher)
        if not self.number:
            self.number, self._since = number, now
            if starts_ranks:
                launcher.kill(number)  # type: ignore[union-attr]
        elif now - self._since > _ONE_CALL:
            if starts_ranks:
                launcher.kill(_SIGKILL)  # type: ignore[union-attr]
            os.write(2, b"seg: stopped at once by a second signal, without saving.\n")
            os._exit(128 + number)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Make a group of the ranks' CPUs."""
        if trainer.world_size > 1 and dist.is_initialized():
            self._group = dist.new_group(backend="gloo")

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Stop when a rank had got a signal by the end of the step before."""
        self._took_steps = True
        number = self._reduced()
        self._reduce()
        if number:
            # what the step has logged, Lightning would write only after this
            write_step_logs(trainer)
        self._stop(trainer, number)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop before a validation that would take the time given to end."""
        self._stop(trainer, self._agreed())

    def on_validation_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Go to the end of the validation, which Lightning's loop takes this exception for."""
        if self.number:
            raise StopIteration

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop when a rank has got a signal during the validation, before scores are made of it."""
        self._stop(trainer, self._agreed())

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Leave no reduction and no group behind."""
        self._reduced()
        if self._group is not None:
            dist.destroy_process_group(self._group)
            self._group = None

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Take along the processes that were started, where a signal came before training."""
        if not isinstance(exception, Stopped):
            return
        launcher = trainer.strategy.launcher
        if self.number:  # agreed on
            self.teardown(trainer, pl_module, "fit")
        elif isinstance(launcher, ScriptLauncher):
            launcher.kill(exception.number)

    def _reduce(self) -> None:
        self._flag = torch.tensor([self.number], dtype=torch.int32)
        if self._group is not None:
            self._reduction = dist.all_reduce(
                self._flag, dist.ReduceOp.MAX, group=self._group, async_op=True
            )

    def _reduced(self) -> int:
        """The signal that some rank had got when `_reduce` was called; at once, when alone."""
        if self._group is None:
            return self.number
        if self._reduction is not None:
            self._reduction.wait()
            self._reduction = None
        return int(self._flag)

    def _agreed(self) -> int:
        """The signal that some rank has got by now; waits for all ranks."""
        before = self._reduced()
        self._reduce()
        return max(before, self._reduced())

    def _stop(self, trainer: L.Trainer, number: int) -> None:
        if not number:
            return
        handlers = signal_connector(trainer)
        assert isinstance(handlers, _Handlers)
        if number == handlers.requeue_signal:
            self.number, self._flag = 0, torch.zeros(1, dtype=torch.int32)
            handlers.requeue(number)
            return
        self.number = number  # of this rank as well: it is no exception of its own any more
        name = signal.Signals(number).name
        path = self._save(trainer) if self._took_steps else trainer.ckpt_path
        if self._took_steps:
            said = f"after step {trainer.global_step}"
            said += f" and saved as {path}." if path else "; without checkpoints, nothing is saved."
        else:
            said = "before the first step; nothing new is to be saved."
        if path:
            said += f" To go on: seg fit --ckpt_path {shlex.quote(str(path))}"
        raise Stopped(number, f"stopped by {name} {said}")

    def _save(self, trainer: L.Trainer) -> Path | None:
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is not None:
                path = Path(callback.dirpath) / "last.ckpt"
                trainer.save_checkpoint(path, weights_only=False)
                return path
        return None


class _Handlers(SignalConnector):
    """Stands in for Lightning's handlers, which save nothing and end with status 0.

    Under SLURM with automatic requeueing, Lightning's own saves and requeues: at the end of the
    step, not within it.
    """

    def __init__(self, trainer: L.Trainer, stopper: StopOnSignal) -> None:
        super().__init__(trainer)
        self.stopper = stopper
        self.requeue_signal: int | None = None

    def register_signal_handlers(self) -> None:
        if self.trainer.state.fn != "fit":
            return
        environment = cluster_environment(self.trainer)
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            self.requeue_signal = environment.requeue_signal
        send_no_sigterm(self.trainer)
        if threading.current_thread() is threading.main_thread():
            requeue = [] if self.requeue_signal is None else [self.requeue_signal]
            for number in {*SIGNALS, *requeue}:
                self._original_handlers[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: Any) -> None:
        self.stopper.receive(number, self.trainer)

    def requeue(self, number: int) -> None:
        self._slurm_sigusr_handler_fn(number, None)  # type: ignore[arg-type]
