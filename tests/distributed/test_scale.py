"""Many ranks: weights divided among them (FSDP2), several nodes, SLURM; real processes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.distributed as dist
from lightning.pytorch.plugins import TorchSyncBatchNorm
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from seg.cli import app as cli
from seg.distributed.sharding import ShardedStrategy, shard
from seg.errors import InputError
from tests.conftest import LIGHT, SYNTHETIC
from tests.processes import LIMIT, free_port, start_ranks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LAST = "version_0/checkpoints/last.ckpt"
UNET = ["-c", str(ROOT / "configs/network/unet_small.yaml")]
CPU = ["--trainer.accelerator=cpu", "--trainer.sync_batchnorm=false", "--trainer.precision=32-true"]
SHARDED = ["-c", str(ROOT / "configs/trainer/fsdp.yaml"), *CPU]
# all that may differ from one device is rounding: no batch norm, no state that divides by itself
EXACT = ["--model.network=tests.distributed.test_scale.Network", "--model.encoder_lr_factor=0.5"]
EXACT += ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.1"]
EXACT += ["--model.optimizer.momentum=0.9"]
EXACT += ["--model.lr_scheduler=torch.optim.lr_scheduler.ConstantLR"]
UNEVEN = ["--data.synthetic_length=12", "--data.eval_batch_size=1"]


class Network(nn.Module):
    """Convolutions and group norm, stored channels-last as every network is."""

    def __init__(self, classes: int = 1, in_channels: int = 3):
        super().__init__()
        self.encoder = nn.ModuleList([self.stage(in_channels, 7), self.stage(7, 9)])
        self.decoder = nn.Sequential(self.stage(9, 5))
        self.head = nn.Conv2d(5, classes, 1)

    @staticmethod
    def stage(width, channels):
        convolution = nn.Conv2d(width, channels, 3, padding=1)
        return nn.Sequential(convolution, nn.GroupNorm(1, channels), nn.ReLU())

    def forward(self, images):
        for stage in self.encoder:
            images = stage(images)
        return self.head(self.decoder(images))


def run_together(commands, environments, cwd):
    """Processes that need each other; their outputs once all have ended, none left behind."""
    processes = []
    shared = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    try:
        for command, environment in zip(commands, environments, strict=True):
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            env = shared | environment
            processes.append(subprocess.Popen(command, cwd=cwd, env=env, **pipes))
        outputs = [process.communicate(timeout=LIMIT)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return outputs


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of one device, and those of two sharded ranks that should equal them."""
    folder = tmp_path_factory.mktemp("scale")
    one = [*SYNTHETIC, *EXACT]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, epochs in (("half", 1), ("whole", 2)):
            given = ["--name", name, f"--trainer.max_epochs={epochs}"]
            assert cli.main(["fit", *one, *given]) == 0
    resume = ["--ckpt_path", f"runs/half/{LAST}", "--trust=[tests]", "--trainer.max_epochs=2"]
    jobs = [
        ["fit", *resume, *SHARDED],
        # three images to validate and to test: two batches for one rank, one for the other
        ["fit", *SHARDED, *SYNTHETIC, *UNET, *UNEVEN, "--name", "unet"],
        ["test", "--ckpt_path", f"runs/unet/{LAST}", *SHARDED, "--output", "both"],
    ]
    for job in jobs:
        ranks = start_ranks(2, *job, cwd=folder, strategy=None)
        assert [rank.wait() for rank in ranks] == [0, 0], [rank.text for rank in ranks]
    return folder / "runs"


def test_sharded_ranks_go_on_with_the_run_of_one_device_as_it_would_itself(runs):
    found, expected = weights(runs / "half" / LAST), weights(runs / "whole" / LAST)
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_a_sharded_checkpoint_is_a_plain_file_that_one_device_judges_alike(runs, monkeypatch):
    monkeypatch.chdir(runs.parent)
    checkpoint = ["--ckpt_path", f"runs/unet/{LAST}", "--data.num_workers=0"]
    assert cli.main(["validate", *checkpoint, "--trainer.accelerator=cpu"]) == 0
    assert cli.main(["test", *checkpoint, "--trainer.accelerator=cpu"]) == 0
    run = runs / "unet" / "version_0"
    folders = (run, run / "validate/last", run / "test/last", runs.parent / "both")
    files = [folder / "per_class.json" for folder in folders]
    ranks, one, test, both = (json.loads(file.read_text()) for file in files)
    assert [record["images"] for record in (ranks, one, test, both)] == [3, 3, 3, 3]
    assert test["pixel_accuracy"] == pytest.approx(both["pixel_accuracy"], abs=1e-3)
    # of running statistics that differed between the ranks, scores would too
    assert one["pixel_accuracy"] == pytest.approx(ranks["pixel_accuracy"], abs=1e-3)


@pytest.fixture
def sharding():
    """A strategy of one rank that is connected."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    strategy = ShardedStrategy()
    names = ("data_parallel", "tensor_parallel")
    strategy._device_mesh = init_device_mesh("cpu", (1, 1), mesh_dim_names=names)
    yield strategy
    dist.destroy_process_group()


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet10t"])
def test_every_parameter_is_sharded_and_large_stages_are_gathered_apart(sharding, encoder):
    network = smp.Unet(encoder, encoder_weights=None, classes=3)
    image = torch.rand(1, 3, 64, 64)
    expected = network.eval()(image)
    shard(network, sharding)
    assert all(isinstance(p, DTensor) for p in network.parameters())
    groups = [module for module in network.modules() if isinstance(module, FSDPModule)]
    assert len(groups) == 1 + 3  # two stages of the encoder and one of the decoder
    torch.testing.assert_close(network(image), expected)
    shard(network, sharding)  # a second stage of the same trainer


def test_sync_batchnorm_reaches_a_sharded_network(sharding):
    sharding._layer_sync = TorchSyncBatchNorm()
    network = smp.Unet("tu-resnet10t", encoder_weights=None, classes=3)
    shard(network, sharding)
    norms = [m for m in network.modules() if "BatchNorm" in type(m).__name__]
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)


def test_a_strategy_that_splits_tensors_is_refused():
    with pytest.raises(InputError, match=r"use seg\.sharding\.ShardedStrategy"):
        shard(Network(), ModelParallelStrategy(tensor_parallel_size=2))


def test_two_nodes_train_one_run_by_the_launch_script(tmp_path):
    command = [ROOT / "scripts/launch_torchrun.sh", *SYNTHETIC, *LIGHT, *CPU, "--name", "nodes"]
    shared = {"HOST": "127.0.0.1", "PORT": str(free_port()), "NODES": "2", "PROCESSES": "1"}
    shared["PYTHON"] = sys.executable
    nodes = [shared | {"NODE_RANK": str(rank)} for rank in range(2)]
    first, second = run_together([command] * 2, nodes, tmp_path)
    assert "Starting with 2 processes" in first
    assert "The run's files: runs/nodes/version_0" in first + second
    assert [path.name for path in (tmp_path / "runs" / "nodes").iterdir()] == ["version_0"]
    checkpoint = torch.load(tmp_path / "runs" / "nodes" / LAST, weights_only=True)
    # 8 images in steps of 4 over both nodes
    assert checkpoint["global_step"] == 2


def test_the_launch_script_asks_for_what_several_nodes_need(tmp_path):
    script = ROOT / "scripts/launch_torchrun.sh"
    environment = {"PATH": os.environ["PATH"], "NODES": "2", "NODE_RANK": "1"}
    result = subprocess.run([script], env=environment, capture_output=True, text=True)
    assert result.returncode == 2
    assert "NODES=2 needs HOST" in result.stderr


SRUN = """#!/usr/bin/env bash
# what srun does for a task: its place in the environment, then the command
while [[ "$1" == --* ]]; do if [[ "$1" == *=* ]]; then shift; else shift 2; fi; done
SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_NTASKS=1 exec "$@"
"""


def test_the_slurm_script_trains_in_a_folder_of_the_job(tmp_path):
    script = ROOT / "scripts/slurm.sbatch"
    given = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)$", script.read_text(), re.M))
    assert given["signal"] == "SIGUSR1@120"
    assert {"requeue", "open-mode"} <= given.keys()
    assert given["ntasks-per-node"] == given["gpus-per-node"]
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    job = {"SLURM_JOB_ID": "4711", "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_NNODES": "1"}
    job |= {"SLURM_NTASKS_PER_NODE": "1", "SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_NAME": "seg"}
    job |= {"PYTHON": sys.executable, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    job |= {"MASTER_PORT": str(free_port())}
    (output,) = run_together([[script, *SYNTHETIC, *LIGHT, *CPU]], [job], "/")
    assert "Starting with 1 processes" in output
    run = tmp_path / "runs" / "slurm-4711" / "quickstart"
    assert torch.load(run / LAST, weights_only=True)["global_step"] == 2
