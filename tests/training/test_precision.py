"""The precision is that which the device is fast at, and a slow one is told."""

import platform
from pathlib import Path

import pytest
import torch
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator

from seg.losses import CrossEntropyLoss
from seg.module import SegmentationModule
from seg.training.precision import (
    _AVAILABLE,
    device_type,
    has_fast_bf16,
    precision_of_device,
    precision_of_evaluation,
)
from tests.test_module import NAMES, Data, trainer, unet

CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not CPUINFO.exists(),
    reason="the processor's instructions are read from Linux on x86-64",
)
def test_bf16_is_fast_where_the_processor_has_the_instructions():
    line = next(x for x in CPUINFO.read_text().splitlines() if x.startswith("flags"))
    needed = {"avx512bw", "avx512vl", "avx512dq"}
    assert has_fast_bf16() == (needed <= set(line.split()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "fast", "warned"),
    [
        ("bf16-mixed", False, True),
        ("bf16-true", False, True),
        ("bf16-mixed", True, False),
        ("32-true", False, False),
    ],
)
def test_bf16_without_instructions_is_said_with_what_to_set(
    precision, fast, warned, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr("seg.training.precision.has_fast_bf16", lambda: fast)
    runner = trainer(tmp_path, precision=precision, fast_dev_run=True)
    runner.fit(SegmentationModule(unet(), CrossEntropyLoss(), NAMES), Data())
    said = f"trainer.precision={precision}: this processor has no instructions for bf16"
    assert (said in caplog.text and "--trainer.precision 32-true" in caplog.text) == warned
    assert runner.global_step == 1


@pytest.fixture
def machine(monkeypatch):
    """Makes this machine one of these devices."""

    def become(gpus=None, mps=False, bf16_units=False, bf16_instructions=False):
        names = "seg.training.precision"
        monkeypatch.setattr(f"{names}.has_bf16_units", lambda: bf16_units)
        monkeypatch.setattr(f"{names}.has_fast_bf16", lambda: bf16_instructions or bf16_units)
        monkeypatch.setattr(MPSAccelerator, "is_available", lambda: mps)
        monkeypatch.setitem(_AVAILABLE, "mps", lambda: mps)
        monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: bool(gpus))
        monkeypatch.setitem(_AVAILABLE, "cuda", lambda: bool(gpus))
        count = len(gpus or ())
        monkeypatch.setattr("lightning.fabric.accelerators.cuda.num_cuda_devices", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: ((gpus or ())[i], 0))

    return become


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not CPUINFO.exists(),
    reason="the processor's instructions are read from Linux on x86-64",
)
def test_this_processor_trains_in_bf16_where_it_multiplies_matrices_in_it():
    line = next(x for x in CPUINFO.read_text().splitlines() if x.startswith("flags"))
    has_units = {"avx512_bf16", "amx_tile"} & set(line.split())
    (found, _) = precision_of_device("cpu")
    assert found == ("bf16-mixed" if has_units else "32-true")


AMPERE, VOLTA = 8, 7


@pytest.mark.parametrize(
    ("here", "accelerator", "devices", "expected"),
    [
        ({"bf16_units": True}, "auto", "auto", "bf16-mixed"),
        ({}, "auto", "auto", "32-true"),
        ({"bf16_instructions": True}, "cpu", 2, "32-true"),
        ({"gpus": [AMPERE]}, "auto", "auto", "bf16-mixed"),
        ({"gpus": [AMPERE, AMPERE]}, "gpu", -1, "bf16-mixed"),
        ({"gpus": [VOLTA]}, "cuda", 1, "16-mixed"),
        ({"gpus": [AMPERE, VOLTA]}, "gpu", -1, "16-mixed"),
        ({"gpus": [VOLTA, AMPERE]}, "gpu", [1], "bf16-mixed"),
        ({"gpus": [AMPERE]}, "cpu", 1, "32-true"),
        ({"mps": True, "bf16_units": True}, "auto", "auto", "32-true"),
        ({"mps": True}, "gpu", 1, "32-true"),
        ({"gpus": [AMPERE]}, "gpu", [5], None),
        ({}, "gpu", 1, None),
        ({}, "tpu", 1, None),
    ],
)
def test_the_precision_is_that_of_the_device(here, accelerator, devices, expected, machine):
    machine(**here)
    found = precision_of_device(device_type(accelerator), devices)
    assert (found and found[0]) == expected


@pytest.mark.parametrize(
    ("stored", "here", "accelerator", "expected"),
    [
        (None, {"gpus": [AMPERE]}, "gpu", "32-true"),
        ("bf16-mixed", {"gpus": [AMPERE]}, "gpu", "bf16-mixed"),
        ("bf16", {"bf16_units": True}, "cpu", "bf16-mixed"),
        ("bf16-mixed", {"bf16_instructions": True}, "cpu", "bf16-mixed"),
        ("bf16-mixed", {}, "cpu", "32-true"),
        ("bf16-mixed", {"gpus": [VOLTA]}, "gpu", "32-true"),
        ("bf16-mixed", {"mps": True}, "auto", "32-true"),
        ("16-mixed", {"gpus": [AMPERE]}, "gpu", "16-mixed"),
        ("16-mixed", {"bf16_units": True}, "cpu", "32-true"),
        (64, {}, "cpu", "64-true"),
        (32, {"bf16_units": True}, "cpu", "32-true"),
    ],
)
def test_a_checkpoint_is_judged_as_its_run_was_where_the_device_is_fast_at_that(
    stored, here, accelerator, expected, machine
):
    machine(**here)
    found, missing = precision_of_evaluation(stored, device_type(accelerator))
    assert found == expected
    assert (missing is None) == (found != "32-true" or stored in (None, 32))
