"""A network that diverged: the run ends, and its weights and labels are not taken for good ones."""

import math
import shlex
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from seg.constants import IGNORE_INDEX
from seg.distributed.ranks import Ranks
from seg.errors import NonFiniteError
from seg.lightning_compat.trainer import is_fitting, trainer_of

PATIENCE = 3
"""Optimiser steps in a row whose loss is not finite that end a run; fewer are passed over."""

INTERVAL = 50
"""Steps after which the losses of a GPU are read at the latest, if nothing is logged before."""

_NAMED = 4  # files, or weights, in a message


class _Step(NamedTuple):
    number: int  # from 1
    files: Sequence[str]  # of this rank's share of the batch
    loss: Any  # of the whole batch: a tensor until it is read, then a float


class Divergence:
    """Ends a run whose loss, weights or logits are not finite, on all ranks after the same step.

    The loss of a step is that of the batch of all ranks, so that they decide alike. On a CPU it is
    read in its step; on a GPU, which a step must not wait for, where the program waits anyway:
    every `log_every_n_steps`, before a validation, at the end of an epoch, and before a save.
    """

    def __init__(self) -> None:
        self._unread: list[_Step] = []
        self._newest: _Step | None = None
        self._bad: list[_Step] = []
        self._unlabelled: list[tuple[Sequence[str], Tensor]] = []

    def add_step(self, module: L.LightningModule, batch: Mapping[str, Any], loss: Tensor) -> None:
        """Take in a step.

        Raises:
            NonFiniteError: If the loss was not finite in `PATIENCE` steps in a row.
        """
        number = module.global_step + 1
        self._unread.append(_Step(number, batch.get("name", ()), loss.detach()))
        trainer = trainer_of(module)
        logged = INTERVAL if trainer is None else trainer.log_every_n_steps  # type: ignore[attr-defined]
        every = 1 if loss.device.type == "cpu" else min(logged or INTERVAL, INTERVAL)
        if number % every == 0:
            self._read(module)

    def check(self, module: L.LightningModule) -> None:
        """Look at what is not read yet and at the weights; all ranks do so together.

        Raises:
            NonFiniteError: If they are not finite.
        """
        self._read(module)
        names = _of_all_ranks(module, non_finite(module))
        if not names:
            return
        which = _list(list(dict.fromkeys(names)))
        trainer = trainer_of(module)
        if not is_fitting(module) or self._newest is None:
            source = trainer and trainer.ckpt_path
            raise NonFiniteError(
                f"{source or 'the network'}: weights are not finite: {which}. Use a checkpoint "
                "that was saved before the run diverged."
            )
        step = (self._bad or [self._newest])[0]
        self._stop(
            module,
            f"after optimiser step {self._newest.number} the weights are not finite: {which}",
            f"; the loss of step {step.number} was {step.loss:g}",
            step,
        )

    def add_labels(self, batch: Mapping[str, Any], labels: Tensor) -> None:
        """Take in the labels (N, H, W) of a batch of an evaluation; no device is waited for."""
        missing = (labels == IGNORE_INDEX) & (batch["mask"] != IGNORE_INDEX)
        self._unlabelled.append((batch.get("name", ()), missing.flatten(1).sum(1)))

    def check_labels(self, module: L.LightningModule) -> None:
        """Look at the labels of an evaluation that is over; all ranks do so together.

        Raises:
            NonFiniteError: If a pixel that counts has none, as a logit there is NaN.
        """
        batches, self._unlabelled = self._unlabelled, []
        names = [name for files, n in batches for name in files or ["an image"] * len(n)]
        counts = torch.cat([n for _, n in batches]).tolist() if batches else []
        own = [f"{name} ({n} pixels)" for name, n in zip(names, counts, strict=True) if n]
        found = _of_all_ranks(module, own)
        if not found:
            return
        what = f"the network's logits are NaN in {_list(found)}, so there are no scores"
        if module.trainer.state.fn == "fit":
            self._stop(module, f"{what} of the validation after step {module.global_step}")
        raise NonFiniteError(f"{what}. The weights are finite: use --trainer.precision 32-true.")

    def _read(self, module: L.LightningModule) -> None:
        unread, self._unread = self._unread, []
        losses = torch.stack([step.loss for step in unread]).tolist() if unread else []
        for step, loss in zip(unread, losses, strict=True):
            self._newest = step._replace(loss=loss)
            self._bad = [] if math.isfinite(loss) else [*self._bad, self._newest]
            if len(self._bad) == PATIENCE:
                first = self._bad[0]
                steps = f"{PATIENCE} optimiser steps in a row, {first.number} to {step.number}"
                self._stop(module, f"the loss was {first.loss:g} in {steps}", "", first)

    def _stop(
        self, module: L.LightningModule, what: str, more: str = "", step: _Step | None = None
    ) -> None:
        """End the run, with what is wrong, the files of a step, what to do, and where to go on."""
        if step is not None:
            files = _list(_of_all_ranks(module, list(step.files)))
            more += f" (files of step {step.number}: {files})" if files else ""
        half = any(p.dtype == torch.float16 for p in module.parameters())
        eps = ", raise model.optimizer.eps, as 1e-8 is 0 in float16," if half else ""
        raise NonFiniteError(
            f"{what}{more}. Lower model.optimizer.lr, set --trainer.gradient_clip_val 1{eps} or "
            f"use --trainer.precision 32-true. {_where_to_go_on(module)}"
        )


def non_finite(module: nn.Module) -> list[str]:
    """Names of the parameters and running statistics that hold NaN or inf, and of buffers with NaN.

    Other buffers may hold inf, such as a mask that is added to logits.
    """
    parameters = dict(module.named_parameters())
    tensors = {
        name: tensor.to_local() if isinstance(tensor, DTensor) else tensor
        for name, tensor in {**parameters, **dict(module.named_buffers())}.items()
        if tensor.is_floating_point()
    }
    # sums read each value once; one that overflows, or is of such a mask, is looked into
    sums = [tensor.detach().sum(dtype=torch.float32) for tensor in tensors.values()]
    finite = torch.stack(sums).isfinite().tolist() if sums else []
    found = []
    for (name, tensor), known in zip(tensors.items(), finite, strict=True):
        learnt = name in parameters or name.endswith(("running_mean", "running_var"))
        if not known and not (tensor.isfinite().all() if learnt else not tensor.isnan().any()):
            found.append(name)
    return found


def _of_all_ranks(module: L.LightningModule, own: list[str]) -> list[str]:
    """The ranks' lists as one, in which they take turns, as they do in a batch."""
    trainer = trainer_of(module)
    ranks = Ranks(1 if trainer is None else trainer.world_size)
    if ranks.size == 1 or not ranks.sum(torch.tensor(float(len(own)), device=module.device)):
        return own
    lists: list[Any] = [None] * ranks.size
    dist.all_gather_object(lists, own)
    return [name for turn in zip_longest(*lists) for name in turn if name is not None]


def _list(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _where_to_go_on(module: L.LightningModule) -> str:
    trainer = trainer_of(module)
    path = None if trainer is None else _newest_checkpoint(trainer)
    if path is None:
        return "No checkpoint was saved before."
    path = shlex.quote(path)
    return (
        f"The last finite weights are in {path}. To go on from there: seg fit --ckpt_path {path} "
        "--trainer.gradient_clip_val 1, which keeps the optimiser's lr and eps; with others, start "
        f"a run with --model.init_from {path}."
    )


def _newest_checkpoint(trainer: L.Trainer) -> str | None:
    """The file that was saved last, or else the one that the run began with."""
    kinds = ("best_model_path", "last_model_path")
    saved = (getattr(c, kind, "") for c in trainer.checkpoint_callbacks for kind in kinds)
    files = [path for path in saved if path and Path(path).exists()]
    if not files:
        return None if trainer.ckpt_path is None else str(trainer.ckpt_path)
    return str(max(files, key=lambda path: Path(path).stat().st_mtime_ns))
