"""What is seen of a run as it goes on."""

import csv
import io
import re
from types import SimpleNamespace

import lightning as L
import pytest
import rich
import torch
from lightning.pytorch.callbacks import RichProgressBar

from seg.data import SegmentationDataModule
from seg.losses import CrossEntropyLoss
from seg.module import SegmentationModule
from seg.report.progress import FitLines, NarrowBar, duration, progress
from tests.cli.test_app import run_of, seg
from tests.conftest import LIGHT, SYNTHETIC

QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")
SHOWN = [arg for arg in [*SYNTHETIC, *LIGHT] if arg not in QUIET]
LINE = re.compile(
    r"epoch (\d)/2  loss ([\d.]+)  mean IoU ([\d.]+)  rare IoU ([\d.]+)  ([\d.]+) images/s"
    r"(  \d+ s left)?"
)


@pytest.mark.slow
def test_a_run_without_a_terminal_prints_what_it_trains_and_a_line_an_epoch(tmp_path, capsys):
    epochs = ["--trainer.max_epochs=2", "--trainer.default_root_dir", tmp_path]
    assert seg("fit", *SHOWN, *epochs) == 0
    out, err = capsys.readouterr()
    first, *lines = out.splitlines()[:3]
    assert re.fullmatch(
        r"Training Unet \(0\.\d M parameters\) with CrossEntropyLoss on cpu\.", first
    )
    with (run_of(tmp_path) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for number, line in enumerate(lines):
        found = LINE.fullmatch(line)
        assert found[1] == str(number + 1)
        for name, said in zip(
            ("train/loss", "val/miou", "val/miou_rare"), found.groups()[1:], strict=False
        ):
            (logged,) = [row[name] for row in rows if row[name] and row["epoch"] == str(number)]
            assert said == f"{float(logged):.3f}"
    assert "left" in lines[0] and "left" not in lines[1]
    assert err == ""


@pytest.mark.slow
def test_an_epoch_without_validation_does_not_show_the_scores_of_another(tmp_path, capsys):
    rare = ["--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=2"]
    assert seg("fit", *SHOWN, *rare, "--trainer.default_root_dir", tmp_path) == 0
    _, first, second, *_ = capsys.readouterr().out.splitlines()
    assert "loss" in first and "IoU" not in first
    assert LINE.fullmatch(second)


@pytest.mark.slow
def test_the_bar_of_a_terminal_fits_into_80_columns():
    data = SegmentationDataModule(
        synthetic_length=8, synthetic_size=[64, 64], crop_size=[32, 32], batch_size=4, num_workers=0
    )
    names = ["background", "plate", "disc", "bolt", "crack"]
    module = SegmentationModule(torch.nn.Conv2d(3, 5, 1), CrossEntropyLoss(), names)
    file = io.StringIO()
    bar = NarrowBar(console_kwargs={"file": file, "width": 80, "force_terminal": True})
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1000, max_steps=2, logger=False, enable_checkpointing=False,
        enable_model_summary=False, use_distributed_sampler=False, callbacks=[bar],
    )  # fmt: skip
    try:
        trainer.fit(module, datamodule=data)
    finally:
        rich.reconfigure()  # Lightning's bar changes the console of the whole process
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()).replace("\r", "\n")
    lines = [line.rstrip() for line in shown.splitlines() if line.strip()]
    assert max(map(len, lines)) <= 80
    assert re.fullmatch(r"Epoch 0/999 +\S+ 2/2 [\d:]+ • [\d:]+ loss: [\d.]+ IoU: [\d.]+", lines[-1])


@pytest.mark.parametrize(
    ("given", "in_terminal", "options", "kinds"),
    [
        ({}, False, {"enable_progress_bar": False}, [FitLines]),
        ({}, True, {}, [FitLines, NarrowBar]),
        ({"enable_progress_bar": False}, True, {}, [FitLines]),
        ({"enable_progress_bar": True}, False, {}, [FitLines]),
        ({"callbacks": [RichProgressBar()]}, False, {}, [FitLines]),
        ({"callbacks": RichProgressBar()}, True, {}, [FitLines]),
        (
            {"enable_model_summary": True},
            True,
            {"enable_model_summary": True},
            [FitLines, NarrowBar],
        ),
    ],
)
def test_a_bar_or_a_summary_that_was_asked_for_stays(
    given, in_terminal, options, kinds, monkeypatch
):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    # rich before 14 knows the first of these alone, and there is no terminal under pytest
    monkeypatch.setenv(*(("FORCE_COLOR", "1") if in_terminal else ("TTY_COMPATIBLE", "0")))
    left_out = dict.fromkeys(("callbacks", "enable_progress_bar", "enable_model_summary"))
    found, shown = progress(SimpleNamespace(**left_out | given), fits=True)
    assert found == {"enable_model_summary": False} | options
    assert [type(callback) for callback in shown] == kinds


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (90000, "25.0 h"),
    ],
)
def test_a_duration_has_two_or_three_digits(seconds, said):
    assert duration(seconds) == said
