"""Runs whose loss, weights or logits stop being finite: when they end, what they say and leave."""

import os
import re
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from seg.data.synthetic import SyntheticDataset
from seg.errors import InputError, NonFiniteError
from seg.lifecycle.checkpoint import load_module
from seg.losses import CrossEntropyLoss
from seg.module import SegmentationModule
from seg.prediction.program import export
from seg.training.divergence import INTERVAL, Divergence, _Step, non_finite
from tests.cli.test_app import run_of, seg
from tests.conftest import LIGHT, SMALL, SYNTHETIC, write_pairs
from tests.processes import start, start_ranks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
BRIGHT = 230
"""Grey level from which on a pixel's logits are NaN, where that is asked for."""


class Network(nn.Sequential):
    """Convolutions whose logits become NaN.

    Args:
        passes: Numbers of the forward passes, in training, in which they are NaN, from 1.
        gradient: Whether their gradient is then NaN too, or zero.
        bright_after: Number of passes in training after which they are NaN at bright pixels of an
            evaluation.
        rank: The only process in which `passes` are NaN.
    """

    def __init__(
        self,
        classes: int,
        in_channels: int = 3,
        passes: list[int] | None = None,
        gradient: bool = False,
        bright_after: int = 10**9,
        rank: int = 0,
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, classes, 1),
        )
        here = int(os.environ.get("RANK", "0")) == rank
        self.passes = passes if passes and here else []
        self.gradient, self.bright_after, self.passed = gradient, bright_after, 0

    def forward(self, images):
        logits = super().forward(images)
        if self.training:
            self.passed += 1
            if self.passed in self.passes and self.gradient:
                logits = logits * float("nan")
            elif self.passed in self.passes:
                logits = logits.masked_fill(torch.ones_like(logits).bool(), float("nan"))
        elif self.passed >= self.bright_after:
            bright = images[:, :1] > (BRIGHT - 0.5) / 255
            logits = logits.masked_fill(bright, float("nan"))
        return logits


# epochs of 4 steps and 4 validated images, whose normalised pixels are the 255ths of their values
RUN = [
    *[arg for arg in SYNTHETIC if "max_epochs" not in arg and "length" not in arg],
    "--data.synthetic_length=16",
    "--trainer.max_epochs=3",
    "--model.network=tests.training.test_divergence.Network",
    "--model.network.classes=5",
    "--model.mean=[0,0,0]",
    "--model.std=[1,1,1]",
    "--trust=[tests]",
    "--name=run",
]

# the weights are NaN from step 6 on
POISONED = ["--model.network.passes=[6]", "--model.network.gradient=true"]


def bright_pixels(split):
    """Names of the images of a split and how many of their pixels that count are bright."""
    data = SyntheticDataset(split, 4, (64, 64), 0)
    found = {}
    for sample in (data[i] for i in range(len(data))):
        bright = (sample["image"][0] >= BRIGHT) & (sample["mask"] != 255)
        found[sample["name"]] = int(bright.sum())
    return {name: n for name, n in found.items() if n}


def steps_done(path):
    """Optimiser steps before the checkpoint was written."""
    return torch.load(path, weights_only=True)["global_step"]


def fail(capsys, *args):
    """Run a command that has to end with status 2; the one line that it says."""
    capsys.readouterr()
    assert seg(*args) == 2
    (line,) = re.findall("^seg: error: .*$", capsys.readouterr().err, re.M)
    return line


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run that went well."""
    folder = tmp_path_factory.mktemp("trained")
    assert seg("fit", *RUN, "--trainer.default_root_dir", folder) == 0
    return run_of(folder)


@pytest.mark.parametrize(
    "settings",
    [
        ["--trainer.precision=16-true", "--model.optimizer=torch.optim.Adam"],
        ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=1e30"],
    ],
    ids=["float16", "learning rate"],
)
def test_a_network_that_diverges_ends_the_run_and_is_never_saved(settings, tmp_path, capsys):
    given = ["--trainer.max_epochs=2", "--trainer.default_root_dir", tmp_path, *settings]
    line = fail(capsys, "fit", *SYNTHETIC, *LIGHT, *given)
    assert re.search(r"after optimiser step 2 the weights are not finite: network\.enc", line)
    assert re.search(r"the loss of step \d was nan \(files of step \d: (train/\d+(, )?){4}\)", line)
    for remedy in ("model.optimizer.lr", "gradient_clip_val 1", "precision 32-true"):
        assert remedy in line
    assert ("raise model.optimizer.eps" in line) == ("16-true" in settings[0])
    assert "No checkpoint was saved before." in line
    assert [*tmp_path.rglob("*.ckpt"), *tmp_path.rglob("per_class.json")] == []


def test_the_last_finite_weights_are_kept_and_the_command_that_is_named_goes_on_from_them(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    line = fail(capsys, "fit", *RUN, *POISONED)
    # steps 6, 7 and 8; the epoch ends with step 8
    assert "the loss was nan in 3 optimiser steps in a row, 6 to 8 (files of step 6: tr" in line
    folder = Path("runs/run/version_0/checkpoints")
    assert {path.name: steps_done(path) for path in folder.iterdir()} == {
        "best.ckpt": 4,
        "last.ckpt": 4,
    }
    assert load_module(str(folder / "last.ckpt"), ["tests"])
    (command,) = re.findall(rf"seg (fit --ckpt_path {folder}/last\.ckpt .*?),", line)
    assert seg(*command.split(), "--model.network.passes=[]", "--trust=[tests]") == 0
    assert steps_done("runs/run/version_0/checkpoints/last.ckpt") == 12
    assert f"--model.init_from {folder}/last.ckpt" in line


@pytest.mark.parametrize(
    ("passes", "last"), [([5], None), ([5, 6, 8, 9], None), ([3, 5, 6, 7], 7), ([4, 5, 6], 6)]
)
def test_a_run_goes_on_until_three_steps_in_a_row_have_no_finite_loss(
    passes, last, tmp_path, capsys
):
    given = [*RUN, f"--model.network.passes={passes}", "--trainer.default_root_dir", tmp_path]
    if last is None:
        assert seg("fit", *given) == 0
        assert steps_done(run_of(tmp_path) / "checkpoints/last.ckpt") == 12
    else:
        line = fail(capsys, "fit", *given)
        assert f"the loss was nan in 3 optimiser steps in a row, {last - 2} to {last}" in line


def test_one_micro_batch_without_a_finite_loss_counts_as_its_step(tmp_path, capsys):
    passes = [4 * step + 2 for step in (4, 5, 6)]  # the second of the four images of a step
    given = ["--model.micro_batch_size=1", f"--model.network.passes={passes}"]
    line = fail(capsys, "fit", *RUN, *given, "--trainer.default_root_dir", tmp_path)
    assert "3 optimiser steps in a row, 5 to 7" in line


def test_ranks_end_after_the_same_step_also_when_only_one_had_it(tmp_path):
    given = [*RUN, "--model.network.rank=1", "--model.network.passes=[5,6,7]"]
    ranks = start_ranks(2, "fit", *given, cwd=tmp_path)
    assert [rank.wait() for rank in ranks] == [2, 2], [rank.text for rank in ranks]
    text = "".join(rank.text for rank in ranks)
    (line,) = re.findall("^seg: .*error.*$", text, re.M)
    assert "Traceback" not in text
    assert re.search(r"row, 5 to 7 \(files of step 5: (train/\d+(, )?){4}\)", line)
    assert steps_done(tmp_path / "runs/run/version_0/checkpoints/last.ckpt") == 4


def test_ranks_agree_on_the_images_of_a_validation_that_only_one_of_them_saw(tmp_path):
    given = [*RUN, "--data.eval_batch_size=1", "--model.network.bright_after=2"]
    ranks = start_ranks(2, "fit", *given, cwd=tmp_path)
    assert [rank.wait() for rank in ranks] == [2, 2], [rank.text for rank in ranks]
    (line,) = re.findall("^seg: .*error.*$", "".join(rank.text for rank in ranks), re.M)
    for name, pixels in bright_pixels("val").items():
        assert f"{name} ({pixels} pixels)" in line


def test_processes_that_lightning_starts_end_with_one_line_and_the_status_of_an_error(tmp_path):
    more = [*POISONED, "--trainer.devices=2", "--trainer.strategy=ddp"]
    run = start("fit", *RUN, *more, cwd=tmp_path)
    assert run.wait() == 2, run.text
    assert "Starting with 2 processes" in run.text
    assert run.text.count("seg: error: the loss was nan in 3 optimiser steps") == 1
    assert "Traceback" not in run.text


def test_a_signal_saves_no_weights_that_are_not_finite(tmp_path):
    given = [*RUN, *POISONED, "--trainer.callbacks+=tests.moments.SignalAt"]
    moment = "on_train_batch_start:5:SIGTERM:0"
    run = start("fit", *given, cwd=tmp_path, SEG_TEST_MOMENT=moment)
    assert run.wait() == 2, run.text
    assert "seg: error: after optimiser step 6 the weights are not finite" in run.text
    assert steps_done(tmp_path / "runs/run/version_0/checkpoints/last.ckpt") == 4


def test_a_validation_with_logits_of_nan_ends_the_run_and_names_the_images(tmp_path, capsys):
    given = ["--model.network.bright_after=8", "--trainer.default_root_dir", tmp_path]
    line = fail(capsys, "fit", *RUN, *given)
    named = ", ".join(f"{name} ({pixels} pixels)" for name, pixels in bright_pixels("val").items())
    assert f"logits are NaN in {named}, so there are no scores of the validation after" in line
    checkpoints = run_of(tmp_path) / "checkpoints"
    assert [steps_done(checkpoints / f"{name}.ckpt") for name in ("best", "last")] == [4, 4]


@pytest.mark.parametrize(("command", "split"), [("validate", "val"), ("test", "test")])
def test_logits_of_nan_are_refused_with_the_names_of_the_images_instead_of_scored(
    command, split, trained, tmp_path, capsys
):
    given = ["--ckpt_path", trained / "checkpoints/last.ckpt", "--trust=[tests]"]
    given += ["--output", tmp_path / "out", "--model.network.bright_after=0"]
    line = fail(capsys, command, *given)
    assert bright_pixels(split)
    for name, pixels in bright_pixels(split).items():
        assert f"{name} ({pixels} pixels)" in line
    assert not (tmp_path / "out").exists()


def brightened(checkpoint, folder):
    """A copy of the checkpoint whose network gives NaN at bright pixels."""
    loaded = torch.load(checkpoint, weights_only=True)
    loaded["config"]["model"]["network"]["init_args"]["bright_after"] = 0
    torch.save(loaded, folder / "bright.ckpt")
    return folder / "bright.ckpt"


def test_predict_and_calibrate_refuse_logits_of_nan_and_name_the_image(trained, tmp_path, capsys):
    Image.new("RGB", (16, 16), (BRIGHT, 0, 0)).save(tmp_path / "lamp.png")
    given = ["--ckpt_path", brightened(trained / "checkpoints/last.ckpt", tmp_path)]
    given += ["--trust=[tests]"]
    images = ["--data.predict", tmp_path / "lamp.png", "--output", tmp_path / "out"]
    line = fail(capsys, "predict", *given, *images, "--data.resize=null")
    assert "lamp: the network's logits are NaN at 256 pixels" in line
    assert not list(tmp_path.glob("out/*"))
    first = next(iter(bright_pixels("val")))
    assert f"{first}: the network's logits are NaN" in fail(capsys, "calibrate", *given)


def test_the_labels_and_the_exported_program_give_no_class_where_a_logit_is_nan(trained, tmp_path):
    path = brightened(trained / "checkpoints/last.ckpt", tmp_path)
    module = load_module(str(path), ["tests"])
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    bright = images[:, 0] >= BRIGHT
    assert bright.any()
    for found in (module.labels(images), export(module, 16, 16).module()(images)):
        assert (found[bright] == 255).all()
        assert (found[~bright] < 5).all()


@pytest.mark.parametrize("command", ["validate", "test", "predict", "export", "calibrate"])
def test_a_checkpoint_of_weights_that_are_not_finite_is_refused(command, trained, tmp_path, capsys):
    loaded = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    loaded["state_dict"]["network.3.weight"][0] = float("nan")
    torch.save(loaded, tmp_path / "old.ckpt")
    given = ["--ckpt_path", tmp_path / "old.ckpt", "--trust=[tests]"]
    if command == "predict":
        given += ["--data.predict", ROOT / "docs/comparison.png", "--output", tmp_path]
    if command == "export":
        given += ["--size=[16,16]"]
    line = fail(capsys, command, *given)
    assert re.search(r"old\.ckpt: weights are not finite.* network\.3\.weight", line)


def test_a_run_that_would_start_from_weights_that_are_not_finite_is_refused(
    trained, tmp_path, capsys
):
    loaded = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    loaded["state_dict"]["network.1.running_var"][0] = float("inf")
    torch.save(loaded, tmp_path / "old.ckpt")
    given = ["--model.init_from", tmp_path / "old.ckpt", "--trainer.default_root_dir", tmp_path]
    line = fail(capsys, "fit", *RUN, *given)
    assert "weights are not finite: network.1.running_var." in line


def module_of(network=None):
    return SegmentationModule(network or Network(3), CrossEntropyLoss(), ["a", "b", "c"])


@pytest.mark.parametrize("weights_only", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_replace_no_checkpoint(weights_only, value, tmp_path):
    module = module_of()
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_model_summary=False)
    trainer.strategy.connect(module)
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path, weights_only)
    before = path.read_bytes()
    with torch.no_grad():
        module.network[0].weight[0, 0, 0, 0] = value
    with pytest.raises(NonFiniteError, match=r"network\.0\.weight"):
        trainer.save_checkpoint(path, weights_only)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_constants_may_be_infinite_and_running_statistics_may_not():
    module = module_of()
    assert non_finite(module) == []
    module.register_buffer("attention", torch.tensor([0.0, -torch.inf]))
    module.network[1].running_var[:] = 3e38  # whose sum is too large
    assert non_finite(module) == []
    module.network[1].running_var[0] = torch.inf
    module.attention[0] = torch.nan
    assert non_finite(module) == ["attention", "network.1.running_var"]


def test_a_loss_on_a_gpu_is_not_waited_for_in_its_step(fake_gpu):
    module, found = module_of(), []
    divergence = Divergence()
    with fake_gpu(found):
        loss = torch.empty((), device="cuda")
        mask = torch.empty(2, 4, 4, dtype=torch.uint8, device="cuda")
        for _ in range(INTERVAL - 1):
            divergence.add_step(module, {"name": ["a", "b"]}, loss)
            divergence.add_labels({"mask": mask, "name": ["a", "b"]}, mask)
    assert found == []


@pytest.mark.parametrize("every", [1, 4, 10, 1000])
def test_losses_that_are_read_late_are_judged_in_the_order_of_their_steps(every):
    module, divergence = module_of(), Divergence()
    values = [1, 2, torch.nan, -torch.inf, 3, torch.inf, torch.nan, torch.nan, 1.0]
    with pytest.raises(InputError, match="the loss was inf in 3 optimiser steps in a row, 6 to 8"):
        for step, loss in enumerate(values, 1):
            # as on a GPU
            divergence._unread.append(_Step(step, [], torch.tensor(float(loss))))
            if step % every == 0:
                divergence.check(module)
        divergence.check(module)


def test_a_step_that_a_gradient_scaler_leaves_out_does_not_end_the_run(tmp_path):
    network = Network(3, passes=[2, 3], gradient=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    data = [
        {"image": torch.full((3, 8, 8), i, dtype=torch.uint8), "mask": torch.ones(8, 8).byte()}
        for i in range(6)
    ]
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        plugins=[MixedPrecision("16-mixed", "cpu", scaler)],
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module_of(network), DataLoader(data))
    assert network.passed == 6
    assert scaler.get_scale() == 2.0**8  # halved for each of the two
    assert non_finite(network) == []


def test_a_validation_without_a_score_is_never_the_best(tmp_path, caplog):
    folders = ("images/train", "masks/train", "images/val", "masks/val")
    images, masks, val_images, val_masks = (tmp_path / folder for folder in folders)
    write_pairs(images, masks, 4, (40, 56), [0, 1])
    write_pairs(val_images, val_masks, 2, (40, 56), [0, 1])
    Image.new("L", (56, 40), 255).save(val_masks / "00.png")  # the one that is judged is ignored
    given = ["--data.root", tmp_path, "--data.images=images/{split}", "--data.masks=masks/{split}"]
    given += ["--data.class_names=[a,b]", "--trainer.default_root_dir", tmp_path / "runs"]
    given += ["--data.eval_batch_size=1", "--trainer.limit_val_batches=1"]
    assert seg("fit", *SMALL, *given) == 0
    run = run_of(tmp_path / "runs")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]
    assert not (run / "per_class.json").exists()
    assert "val/miou is nan: these weights are not the best." in caplog.text
