"""`seg export`: what the program decides, where neither `seg` nor the network's package is."""

import json
import subprocess
import sys

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from seg.errors import InputError
from seg.lifecycle.checkpoint import load_module
from seg.losses import BinaryCrossEntropyLoss, CrossEntropyLoss
from seg.module import SegmentationModule
from seg.prediction.program import CLASSES, export
from tests.cli.test_app import run_of, seg
from tests.conftest import LIGHT, SYNTHETIC

pytestmark = pytest.mark.slow

BIAS = [0.0, 0.1, 0.2, 0.4, 0.8]
SIZES = [(64, 96), (50, 70)]  # the second has to be padded
ALONE = f"""
import sys, torch
for target, images, labels in zip(*[iter(sys.argv[1:])] * 3):
    files = {{"{CLASSES}": ""}}
    program = torch.export.load(target, extra_files=files).module()
    torch.save(program(torch.load(images)), labels)
    print(files["{CLASSES}"])
assert not {{"seg", "segmentation_models_pytorch", "timm"}} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint with biases, of a run whose images have no common size."""
    folder = tmp_path_factory.mktemp("runs")
    assert seg("fit", *SYNTHETIC, *LIGHT, "--trainer.default_root_dir", folder) == 0
    path = run_of(folder) / "checkpoints/last.ckpt"
    held = torch.load(path, weights_only=True)
    torch.save({**held, "calibration": {"logit_bias": BIAS}}, path)
    return path


def pictures(count, channels=3, size=(64, 96)):
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(0, 256, (count, channels, 8, 8), generator=generator).float()
    return nn.functional.interpolate(small, size=size, mode="bilinear").round().byte()


@pytest.fixture(scope="module")
def decided(checkpoint, tmp_path_factory):
    """By size, what the exported program decided in a process of its own, and its classes."""
    folder, files = tmp_path_factory.mktemp("programs"), []
    for i, size in enumerate(SIZES):
        target, images, found = (folder / f"{i}{name}" for name in (".pt2", ".pt", "_labels.pt"))
        given = ["--size", str([*size]), "--output", target]
        assert seg("export", "--ckpt_path", checkpoint, *given) == 0
        torch.save(pictures(3, size=size), images)
        files += [target, images, found]
    command = [sys.executable, "-I", "-W", "ignore", "-c", ALONE, *files]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = [json.loads(line) for line in done.stdout.splitlines()]
    labels = [torch.load(found) for found in files[2::3]]
    return dict(zip(SIZES, zip(labels, names, strict=True), strict=True))


@pytest.mark.parametrize("size", SIZES)
def test_a_program_decides_alone_as_the_checkpoint_does(checkpoint, decided, size):
    found, names = decided[size]
    module = load_module(str(checkpoint))
    assert names == module.class_names
    expected = module.labels(pictures(3, size=size))
    assert torch.equal(found, expected)
    module.set_calibration(None)
    assert not torch.equal(module.labels(pictures(3, size=size)), expected)


def test_the_size_is_that_of_the_run_where_it_has_one(checkpoint, tmp_path, capsys):
    held = torch.load(checkpoint, weights_only=True)
    held["config"]["data"]["resize"] = [32, 64]
    path = tmp_path / "resized.ckpt"
    torch.save(held, path)
    assert seg("export", "--ckpt_path", path) == 0
    assert "(N, 3, 32, 64) to class ids, with the biases" in capsys.readouterr().out
    program = torch.export.load(tmp_path / "resized.pt2").module()
    assert program(pictures(1, size=(32, 64))).shape == (1, 32, 64)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "give --ckpt_path FILE"),
        (["--ckpt_path", "CHECKPOINT"], "such as --size [480,640]"),
        (["--ckpt_path", "CHECKPOINT", "--size", "[0,32]"], "expected a height and a width"),
        (["--ckpt_path", "nothing.ckpt", "--size", "[32,32]"], "no such checkpoint"),
    ],
)
def test_what_is_missing_is_said(checkpoint, capsys, args, said):
    given = [checkpoint if arg == "CHECKPOINT" else arg for arg in args]
    assert seg("export", *given) == 2
    assert said in capsys.readouterr().err
    assert not list(checkpoint.parent.glob("*.pt2"))


@pytest.mark.parametrize("loss", [CrossEntropyLoss, BinaryCrossEntropyLoss])
def test_two_classes_by_two_logits_or_one(loss):
    torch.manual_seed(0)
    logits = loss.channels(2)
    light = {"encoder_weights": None, "encoder_depth": 3, "decoder_channels": [16, 8, 8]}
    network = smp.Unet("tu-test_resnet", **light, in_channels=4, classes=logits)
    module = SegmentationModule(
        network, loss(), ["ground", "crack"], in_channels=4, mean=[0.5] * 4, std=[0.2] * 4
    ).eval()
    bias = torch.linspace(0.01, 0.05, logits)
    module.set_calibration({"logit_bias": bias.tolist()})
    images = pictures(5, 4)
    found = export(module, 64, 96).module()(images)
    assert found.dtype == torch.uint8
    assert torch.equal(found, module.labels(images))


class Branching(nn.Conv2d):
    """What it computes hangs on a value."""

    def forward(self, images):
        return super().forward(images if images.sum() > 0 else -images)


def test_a_network_that_cannot_be_traced_is_refused():
    module = SegmentationModule(Branching(3, 2, 1), CrossEntropyLoss(), ["ground", "crack"])
    with pytest.raises(InputError, match="Branching cannot be exported for images of 8 x 8: "):
        export(module, 8, 8)
