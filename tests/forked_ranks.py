"""Runs of the command on several ranks as torchrun starts them, for the price of one import.

`python forked_ranks.py RUNS.json` reads `[[ranks, [argument, …]], …]`, makes the runs one after
the other in the current folder, each rank a process over gloo, and writes their exit statuses to
RUNS.json. What rank R of run N says goes to N.R.log.
"""

import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path

from seg.cli import app as cli
from tests.processes import free_port

LIMIT = 600
"""Seconds after which a rank is ended."""
ROOT = Path(__file__).resolve().parents[1]


def make_runs(folder, runs):
    """Make the runs in `folder`; all of them must end well."""
    (folder / "runs.json").write_text(json.dumps(runs))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "runs.json"]
    subprocess.run(command, cwd=folder, env=environment, check=True)
    for number, statuses in enumerate(json.loads((folder / "runs.json").read_text())):
        said = "".join(path.read_text() for path in sorted(folder.glob(f"{number}.*.log")))
        assert not any(statuses), said


def live(log, rank, size, port, args):
    signal.alarm(LIMIT)
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    places = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": size}
    if size > 1:
        os.environ.update({key: str(value) for key, value in places.items()}, **address)
        os.environ.update(LOCAL_WORLD_SIZE=str(size), TORCHELASTIC_RUN_ID="none")
        args = [*args, f"--trainer.devices={size}", "--trainer.strategy=ddp"]
    return cli.main(args)


def start(log, rank, size, port, args):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = live(log, rank, size, port, args)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return child


def run(number, size, args):
    port = free_port()
    children = [start(f"{number}.{r}.log", r, size, port, args) for r in range(size)]
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


if __name__ == "__main__":
    runs = Path(sys.argv[1])
    made = [run(n, size, args) for n, (size, args) in enumerate(json.loads(runs.read_text()))]
    runs.write_text(json.dumps(made))
