"""A checkpoint of version 0.1 serves as one of today.

`tests/files/version_0_1.ckpt` was written at the end of the fourth epoch of

    seg fit --data.synthetic_length=16 --data.synthetic_size=[64,64] --data.crop_size=[32,32]
        --data.batch_size=4 --trainer.max_epochs=4 --model.optimizer=torch.optim.SGD
        --model.optimizer.lr=0.1 --model.optimizer.momentum=0.9

with a U-Net of 5,013 parameters and the sum of two losses; `version_0_1.logits.pt` has what its
network then made of `image()`.
"""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from seg.checkpoint import load_module
from tests.cli.test_app import run_of, seg

pytestmark = pytest.mark.slow

FILES = Path(__file__).resolve().parents[1] / "files"
CHECKPOINT = FILES / "version_0_1.ckpt"
ON_CPU = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


def image():
    ramp = torch.arange(3 * 64 * 64, dtype=torch.float64).view(1, 3, 64, 64)
    return (127.5 + 127.5 * torch.sin(ramp * 0.37)).round().to(torch.uint8)


def test_its_network_gives_the_logits_of_then():
    expected = torch.load(FILES / "version_0_1.logits.pt", weights_only=True)["logits"]
    with torch.no_grad():
        logits = load_module(str(CHECKPOINT))(image())
    assert torch.allclose(logits[..., ::4, ::4], expected.float(), atol=2e-3)  # kept in fp16


def test_it_is_resumed_with_its_optimiser_and_schedule(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    last = Path("runs/old/version_0/checkpoints/last.ckpt")
    last.parent.mkdir(parents=True)
    shutil.copy(CHECKPOINT, last)
    assert seg("fit", *ON_CPU, "--ckpt_path", last, "--trainer.max_epochs=6") == 0
    new, old = (torch.load(path, weights_only=True) for path in (last, CHECKPOINT))
    assert (old["epoch"], old["global_step"]) == (3, 16)
    assert (new["epoch"], new["global_step"]) == (5, 24)
    moments = [c["optimizer_states"][0]["state"][0]["momentum_buffer"] for c in (old, new)]
    assert moments[0].shape == moments[1].shape and not torch.equal(*moments)


@pytest.mark.parametrize("command", ["validate", "test"])
def test_it_is_evaluated(command, tmp_path):
    assert seg(command, *ON_CPU, "--ckpt_path", CHECKPOINT, "--output", tmp_path) == 0
    assert (tmp_path / "per_class.json").exists()


def test_it_is_calibrated_and_the_result_is_read(tmp_path):
    target = tmp_path / "calibrated.ckpt"
    assert seg("calibrate", "--ckpt_path", CHECKPOINT, "--output", target) == 0
    bias = load_module(str(target)).logit_bias
    assert bias is not None and len(bias) == 5


def test_it_is_exported(tmp_path):
    target = tmp_path / "program.pt2"
    given = ["--ckpt_path", CHECKPOINT, "--size=[64,64]", "--output", target]
    assert seg("export", *given) == 0
    labels = torch.export.load(target).module()(image())
    assert torch.equal(labels, load_module(str(CHECKPOINT)).labels(image()))


def test_a_new_run_starts_from_its_network(tmp_path):
    sizes = [
        "--data.synthetic_length=8",
        "--data.synthetic_size=[64,64]",
        "--data.crop_size=[32,32]",
    ]
    given = ["--data.batch_size=4", "--data.num_workers=0", "--trainer.max_epochs=1"]
    start = ["--model.init_from", CHECKPOINT, "--trainer.default_root_dir", tmp_path]
    assert seg("fit", *ON_CPU, *sizes, *given, *start) == 0
    config = yaml.safe_load((run_of(tmp_path) / "config.yaml").read_text())
    assert config["model"]["network"]["init_args"]["encoder_name"] == "tu-repghostnet_050"
