"""How long a command takes to answer, and a run to its first step, beside `import torch` alone.

    python scripts/bench_start.py

Every line is a process of its own, on one thread; medians of rounds in which they take turns. Wall
clock and the processor's seconds of that process and its workers, each also relative to those of
`import torch` in the same round, which a busy machine changes little. The run trains the quickstart
on the CPU and ends after its first step; a round that is not counted fills the caches before.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

MINE = Path(__file__)
SEG = [sys.executable, "-m", "seg"]
TORCH = "import torch"
FIT = ["fit", "-c", "data/quickstart", "--trainer.accelerator=cpu"]
FIT += [f"--trainer.callbacks+={MINE.stem}.FirstStep", "--trainer.default_root_dir=runs"]
COMMANDS = {
    TORCH: [sys.executable, "-c", TORCH],
    "seg --help": [*SEG, "--help"],
    "seg fit --help": [*SEG, "fit", "--help"],
    "seg fit --help-all": [*SEG, "fit", "--help-all"],
    "seg audit --help": [*SEG, "audit", "--help"],
    "seg fit, first step": [*SEG, *FIT],
}


class FirstStep(L.Callback):
    """Ends the process at once when a step is done."""

    def on_train_batch_end(self, *args: Any) -> None:
        """The first step is done."""
        os._exit(0)


def main() -> None:
    """Prints a row a command."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            for name, command in COMMANDS.items():
                times = measured(command, folder)
                if number:
                    taken[name].append(times)
    print(f"medians of {rounds} rounds        wall s   x torch    cpu s   x torch")
    for name, times in taken.items():
        cells = (cell for place in (0, 1) for cell in row(times, taken[TORCH], place))
        print(f"{name:28}" + "".join(f"{cell:10.2f}" for cell in cells))


def row(
    times: Sequence[tuple[float, float]], torch: Sequence[tuple[float, float]], place: int
) -> tuple[float, float]:
    """The median of a column, and the median of its ratios."""
    ratios = (own[place] / its[place] for own, its in zip(times, torch, strict=True))
    return statistics.median(own[place] for own in times), statistics.median(ratios)


def measured(command: Sequence[str], folder: str) -> tuple[float, float]:
    """Seconds on the clock and on the processor until a command has ended."""
    paths = (str(MINE.parents[1]), str(MINE.parent), os.environ.get("PYTHONPATH", ""))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(
            f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}"
        )
    process.returncode = 0
    return wall, used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
