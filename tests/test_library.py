"""The code of docs/library.md and of the page on own data runs from top to bottom, as they say."""

import re
import shutil
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch

from seg.checkpoint_files.contents import read_checkpoint
from seg.data import SegmentationDataModule
from seg.distributed.uneven_evaluation import UnevenEvaluation
from seg.lifecycle.resuming import ExactResume
from seg.lifecycle.run_checkpoint import RunCheckpoint
from seg.lifecycle.saving import AtomicCheckpointIO
from seg.lifecycle.signals import StopOnSignal
from seg.losses import CrossEntropyLoss
from seg.module import SegmentationModule
from seg.report.callbacks import RunReport
from tests.cli.test_app import seg
from tests.lifecycle.test_old_checkpoints import CHECKPOINT, ON_CPU

pytestmark = pytest.mark.slow

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = [DOCS / "library.md", DOCS / "how_to" / "own_data_set.md"]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the blocks leave behind, run one after the other in one folder."""
    folder = tmp_path_factory.mktemp("notebook")
    trained = folder / "runs/small/version_0/checkpoints/best.ckpt"
    trained.parent.mkdir(parents=True)
    shutil.copy(CHECKPOINT, trained)  # such as `seg fit --name small` leaves
    found = {"__name__": "notebook", "folder": folder, "after": []}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in BLOCKS:
            exec(compile(block, "the pages", "exec"), found)
            metrics = dict(found["trainer"].callback_metrics)
            found["after"].append({**found, "metrics": metrics})
    return found


def test_every_block_of_the_page_runs(names):
    assert len(names["after"]) == len(BLOCKS) >= 5
    trained = names["after"][0]
    assert trained["trainer"].global_step == 2
    assert 0 <= trained["metrics"]["val/miou"] <= 1
    assert {"test/miou", "val/miou"} & names["after"][1]["metrics"].keys() == {"test/miou"}


def test_the_program_that_the_page_exports_gives_the_labels_of_the_calibrated_module(names):
    after = names["after"][1]
    program = torch.export.load(names["folder"] / "run" / "program.pt2").module()
    assert torch.equal(program(after["images"]), after["module"].labels(after["images"]))
    assert after["module"].logit_bias.tolist() == pytest.approx(after["found"].record["logit_bias"])
    assert after["labels"].shape == (1, 64, 64)


def test_a_network_of_a_fit_from_python_is_loaded_again(names):
    stored = read_checkpoint(names["folder"] / "run" / "mine.ckpt")
    again = names["after"][3]["again"]
    assert stored["config"] is None and again.class_names == names["data"].class_names
    weights = {k: v for k, v in again.state_dict().items() if k.startswith("network.")}
    expected = {k: stored["state_dict"][k] for k in weights}
    torch.testing.assert_close(weights, expected, rtol=0, atol=0)


def test_own_data_is_counted_and_judged_whole(names):
    after = names["after"][5]
    pixels = after["own"].class_counts().pixels.tolist()
    assert pixels == [8 * 63 * 64, 8 * 64]  # one column in each of eight images
    assert after["module"].scores.pixels.tolist() == pixels
    assert names["module"].loss.weight.tolist() == [1.0, 1.0]


def test_the_commands_of_the_page_train_and_test_the_class_of_the_page(
    names, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in BLOCKS if "class Stripes" in block]
    Path("my_package.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    short = ["--trainer.max_steps=1", "--data.batch_size=4", "--data.crop_size=[32,32]"]
    lines = [line for block in COMMANDS for line in block.splitlines()]
    for line, more in zip(lines, ([*short, "--data.num_workers=0"], []), strict=True):
        path, program, *args = re.findall(r'"[^"]*"|\S+', line)
        assert (path, program) == ("PYTHONPATH=.", "seg")
        assert seg(*[arg.strip('"') for arg in args], *ON_CPU, *more) == 0


def test_the_page_names_what_there_is():
    named = (RunReport, RunCheckpoint, UnevenEvaluation, ExactResume, StopOnSignal)
    for thing in (*named, AtomicCheckpointIO):
        assert f"{thing.__module__}.{thing.__qualname__}" in TEXT
    for path in re.findall(r"`(seg(?:\.\w+)+)`", TEXT):
        module, _, name = path.rpartition(".")
        assert hasattr(__import__(module, fromlist=[name]), name), path


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")  # resumed
def test_a_run_from_python_with_all_of_the_page_is_resumed_exactly(names, tmp_path):
    def fit(folder, epochs, **resumed):
        torch.manual_seed(0)
        data = SegmentationDataModule(
            dataset=names["Stripes"], class_names=["ground", "stripe"], crop_size=[32, 32],
            batch_size=4, num_workers=0,
        )  # fmt: skip
        schedule = partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0)
        network, loss = names["small_unet"](2), CrossEntropyLoss(weight="log_frequency")
        module = SegmentationModule(network, loss, data.class_names, lr_scheduler=schedule)
        checkpoint = RunCheckpoint(
            dirpath=folder, monitor="val/miou", mode="max", filename="best", save_last=True
        )
        trainer = L.Trainer(
            accelerator="cpu", max_epochs=epochs, logger=False, default_root_dir=folder,
            plugins=[AtomicCheckpointIO()], use_distributed_sampler=False,
            callbacks=[RunReport(folder), checkpoint, UnevenEvaluation()], log_every_n_steps=1,
        )  # fmt: skip
        ExactResume().attach(trainer)
        StopOnSignal().attach(trainer)
        trainer.fit(module, datamodule=data, **resumed)
        assert (folder / "per_class.json").exists() and (folder / "previews").exists()
        return module.state_dict()

    whole = fit(tmp_path / "whole", 2)
    fit(tmp_path / "parts", 1)
    last = tmp_path / "parts" / "last.ckpt"
    resumed = fit(tmp_path / "parts", 2, ckpt_path=last, weights_only=True)
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)
