"""What is said before the first step of a precision that this processor is slow at."""

import platform
from pathlib import Path

import pytest

from seg.losses import CrossEntropyLoss
from seg.module import SegmentationModule
from seg.training.preflight import has_fast_bf16
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
    monkeypatch.setattr("seg.training.preflight.has_fast_bf16", lambda: fast)
    runner = trainer(tmp_path, precision=precision, fast_dev_run=True)
    runner.fit(SegmentationModule(unet(), CrossEntropyLoss(), NAMES), Data())
    said = f"trainer.precision={precision}: this processor has no instructions for bf16"
    assert (said in caplog.text and "--trainer.precision 32-true" in caplog.text) == warned
    assert runner.global_step == 1
