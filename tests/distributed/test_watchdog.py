"""A rank that fails ends the run on every rank, with its error; real processes over gloo."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from seg.errors import InputError, describe
from tests.conftest import LIGHT, SMALL, SYNTHETIC
from tests.processes import LIMIT, free_port, start, start_ranks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """Case to the exit statuses of its ranks, and to what each of them said."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, ROOT / "tests" / "watched_ranks.py", folder]
    subprocess.run(command, cwd=folder, env=ENVIRONMENT, timeout=LIMIT, check=True)
    found = {}
    for case, rank, status in json.loads((folder / "ends.json").read_text()):
        said = (folder / f"{case}.{rank}").read_text(errors="replace")
        found.setdefault(case, {})[rank] = (status, said)
    return found


def test_ranks_blocked_in_a_collective_end_with_the_error_and_status_of_the_one_that_failed(ends):
    for rank in (0, 2):
        status, said = ends["raises_and_hangs"][rank]
        assert status == 2
        host = socket.gethostname()
        line = f"seg: rank 1 on {host} failed: 07.jpg is broken (this is rank {rank})\n"
        assert line in said


def test_a_failed_rank_whose_own_end_hangs_is_ended(ends):
    status, said = ends["raises_and_hangs"][1]
    assert status == 1
    assert "Timeout" in said


def test_a_lost_connection_is_blamed_on_the_rank_that_was_killed(ends):
    assert ends["lost"][1][0] == -9
    for rank in (0, 2):
        status, said = ends["lost"][rank]
        assert status == 1
        assert "failed: no sign of life" in said
        assert "seg: rank 1 on " in said


def test_a_rank_that_gives_no_sign_of_life_ends_the_others_although_no_connection_is_lost(ends):
    for rank in (0, 2):
        status, said = ends["silent"][rank]
        assert status == 1
        assert "seg: rank 1 on " in said
        (seconds,) = re.findall(r"failed: no sign of life for (\d+) s", said)
        assert int(seconds) >= 5


def test_the_end_of_rank_0_that_holds_the_store_ends_the_others(ends):
    assert ends["first_killed"][0][0] == -9
    for rank in (1, 2):
        status, said = ends["first_killed"][rank]
        assert status == 1
        assert "seg: rank 0 or its launcher failed: the store at 127.0.0.1:" in said


def test_a_rank_that_is_slow_and_keeps_pythons_lock_is_not_given_up(ends):
    assert ends["slow"] == {rank: (0, "") for rank in range(3)}


def test_a_rank_that_was_told_to_stop_has_not_failed(ends):
    assert ends["leaves_early"] == {0: (0, ""), 1: (143, ""), 2: (0, "")}


def seg(*args, cwd, launcher=()):
    command = [sys.executable, "-m", *launcher, "seg", *map(str, args)]
    return subprocess.Popen(
        command, cwd=cwd, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def end_of(process):
    try:
        said = process.communicate(timeout=LIMIT)[1]
    finally:
        process.kill()
    return process.returncode, said.decode(errors="replace").splitlines()


SHARDED = '{"class_path": "seg.sharding.ShardedStrategy"}'


@pytest.fixture
def cut(camvid_like, tmp_path):
    """Arguments of a run of two ranks on data in which rank 1, and no other, cannot read 01.jpg."""
    root = shutil.copytree(camvid_like, tmp_path / "data")
    image = root / "val" / "01.jpg"  # rank 0 takes 00 and 02
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    return ["-c", ROOT / "configs/data/camvid.yaml", "--data.root", root, *SMALL, *LIGHT]


@pytest.mark.parametrize("strategy", ["ddp", SHARDED], ids=["ddp", "sharded"])
def test_an_image_that_only_one_rank_reads_ends_the_run_with_its_name_and_status(
    strategy, cut, tmp_path
):
    ranks = ["--trainer.devices=2", f"--trainer.strategy={strategy}"]
    run = start("fit", *cut, *ranks, cwd=tmp_path)
    assert run.wait() == 2, run.text
    lines = run.text.splitlines()
    (own,) = [line for line in lines if line.startswith("seg: error: ")]
    (told,) = [line for line in lines if line.startswith("seg: rank 1 on ")]
    for line in (own, told):
        assert "01.jpg" in line
    assert told.endswith("(this is rank 0)")
    assert not [line for line in lines if "Traceback" in line]


@pytest.mark.parametrize("slurm", [False, True], ids=["torchrun", "srun"])
@pytest.mark.parametrize("strategy", ["ddp", SHARDED], ids=["ddp", "sharded"])
def test_under_an_outer_launcher_all_ranks_end_with_the_error_of_the_one_that_failed(
    strategy, slurm, cut, tmp_path
):
    ranks = start_ranks(2, "fit", *cut, cwd=tmp_path, strategy=strategy, slurm=slurm)
    assert [rank.wait() for rank in ranks] == [2, 2], [rank.text for rank in ranks]
    told, own = ([s for s in rank.text.splitlines() if s.startswith("seg: ")] for rank in ranks)
    assert re.fullmatch("seg: error: .*01.jpg.*", "".join(own))
    assert re.fullmatch(r"seg: rank 1 on .* failed: .*01.jpg.* \(this is rank 0\)", "".join(told))
    assert not [rank.text for rank in ranks if "Traceback" in rank.text]


def test_a_node_that_fails_before_the_ranks_have_met_ends_the_other_node(tmp_path):
    port = str(free_port())
    nodes = ["--trainer.num_nodes=2", "--trainer.devices=1", "--trainer.strategy=ddp"]
    processes = []
    for node, more in enumerate(([], ["--model.init_from=missing.ckpt"])):
        agent = ["torch.distributed.run", "--nnodes=2", f"--node_rank={node}", "--master_addr"]
        launcher = [*agent, "127.0.0.1", "--master_port", port, "-m"]
        processes.append(seg("fit", *SYNTHETIC, *nodes, *more, cwd=tmp_path, launcher=launcher))
    for process, beginning in zip(
        processes, ("seg: rank 1 on ", "seg: error: missing.ckpt"), strict=True
    ):
        status, lines = end_of(process)
        assert status == 1  # the agent's
        (line,) = [line for line in lines if line.startswith("seg: ")]
        assert line.startswith(beginning)
        assert "missing.ckpt: no such checkpoint" in line


def test_an_error_is_described_by_its_message_alone():
    wrapped = InputError('Traceback:\n  File "x"\nseg.errors.DataError: 03.jpg: cut\nhere')
    assert describe(wrapped) == "03.jpg: cut\nhere"
    assert describe(RuntimeError("Caught in worker\n\nOSError: no file")) == "OSError: no file"
