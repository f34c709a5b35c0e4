"""Ends runs with workers by signals, at every moment, and prints how they ended.

    python scripts/stress_signals.py --times 20
    python scripts/stress_signals.py --only "fit validation"

Each row is a command, a moment of it and a signal, to the run alone or to its whole process group,
as Ctrl-C in a terminal is; the runs of a row take in turn one and two workers, kept over the epochs
or fresh in each, with quick and with slow batches. It is well when the run ends with the signal's
status, says so without a traceback, has saved where there was something to save, and leaves no
process. The last two columns are the slowest run, in seconds: from the signal to its end, and from
there to the end of its last worker.
"""

import argparse
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.endings import WORKERS, combinations, ending, prepare

SHARED_MEMORY = Path("/dev/shm")


def main() -> int:
    """Run what the command line asks for; 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20, help="runs of each row")
    parser.add_argument("--only", default="", help="rows that begin so")
    args = parser.parse_args()
    bad = 0
    print(f"{'command, moment, signal':44} runs  well  ends  left", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for row in combinations():
            if " ".join(row).startswith(args.only):
                bad += judge(row, args.times, folder)
    left = [path.name for path in SHARED_MEMORY.glob("torch_*")]
    print(f"{bad} faults; files of torch in {SHARED_MEMORY}: {left or 'none'}")
    return min(bad, 1)


def judge(row: tuple[str, str, str], times: int, folder: Path) -> int:
    """Print a row and the faults of its runs; how many runs had some."""
    ends = []
    for number, workers in enumerate(islice(cycle(WORKERS), times)):
        own = folder / f"{'_'.join(row)}_{number}".replace(" ", "_")
        own.mkdir()
        for path in folder.iterdir() if row[0] != "fit" else ():
            if path.name in ("runs", "images", "train", "trainannot"):
                (own / path.name).symlink_to(path)
        end = ending(*row, workers, own)
        ends.append(end)
        for fault in end.faults:
            print(f"{', '.join(row)}, workers {workers}: {fault}", flush=True)
    bad = sum(bool(end.faults) for end in ends)
    slowest = max(end.seconds for end in ends), max(end.left for end in ends)
    figures = f"{times:5} {times - bad:5} {slowest[0]:5.1f} {slowest[1]:5.1f}"
    print(f"{', '.join(row):44}{figures}", flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(main())
