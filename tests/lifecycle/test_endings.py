"""No process outlives a run, whatever signal ends it, and when.

`scripts/stress_signals.py` does each of these many times.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

import pytest

from tests.endings import HOOKS, MOMENTS, SIGNALS, WORKERS, ending, prepare

pytestmark = pytest.mark.slow

CASES = [(command, moment) for command in HOOKS for moment in MOMENTS[command]]
CASES.append(("audit", "scan"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    prepare(folder)
    return folder


@pytest.mark.parametrize(("command", "moment"), CASES)
def test_a_signal_ends_a_run_and_its_workers(command, moment, prepared, tmp_path):
    def faults(signalled, workers):
        folder = tmp_path / signalled
        folder.mkdir()
        for path in prepared.iterdir() if command != "fit" else ():
            (folder / path.name).symlink_to(path)
        return ending(command, moment, signalled, workers, folder).faults

    first = CASES.index((command, moment)) % len(WORKERS)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(faults, SIGNALS, cycle(WORKERS[first:] + WORKERS[:first])))
    assert found == [[]] * len(SIGNALS)


@pytest.mark.parametrize("moment", MOMENTS["fit, 2 ranks"])
def test_the_second_rank_does_not_outlive_the_first_one_that_was_killed(moment, tmp_path):
    assert ending("fit, 2 ranks", moment, "SIGKILL", "1", tmp_path).faults == []
