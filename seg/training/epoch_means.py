"""What of a run's progress is a function of (seed, step): random numbers, and means of an epoch."""

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seg.exact_sums import add_to, pair_of, value_of, zeros_pair


def reseed(step: int, rank: int) -> None:
    """Seed torch's generators by (seed, step, rank), where the run was given a seed.

    So dropout draws the same in a run that was resumed, without any state being saved.
    """
    seed = os.environ.get("PL_GLOBAL_SEED")  # of lightning's seed_everything
    if seed is not None:
        state = np.random.SeedSequence([int(seed), step, rank]).generate_state(2)
        torch.manual_seed(int(state[0]) << 32 | int(state[1]))


class EpochMeans:
    """Means over the steps of an epoch that survive a restart within it."""

    def __init__(self) -> None:
        self.epoch = 0
        self.steps = 0
        self._sums: Tensor | None = None  # (2, K), a pair of `exact_sums`

    @property
    def sums(self) -> Tensor | None:
        """The sums (K,) over the steps of the epoch so far, float64."""
        return None if self._sums is None else value_of(self._sums)

    def add(self, epoch: int, values: Tensor) -> None:
        """Add the values (K,) of a step; those of another epoch are forgotten."""
        if epoch != self.epoch or self._sums is None:
            self.epoch, self.steps = epoch, 0
            self._sums = zeros_pair(len(values), values.device)
        elif self._sums.device != values.device:  # as after a restart
            self._sums = pair_of(value_of(self._sums), values.device)
        self.steps += 1
        add_to(self._sums, values)

    def means(self) -> Tensor:
        """The means (K,) over the steps of the epoch so far, float64."""
        assert self.sums is not None, "no step yet"
        return self.sums / self.steps

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it, in primitives."""
        sums = None if self.sums is None else self.sums.tolist()
        return {"epoch": self.epoch, "steps": self.steps, "sums": sums}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.epoch, self.steps = state["epoch"], state["steps"]
        sums = state["sums"]
        self._sums = None
        if sums is not None:
            self._sums = pair_of(torch.tensor(sums, dtype=torch.float64), torch.device("cpu"))
