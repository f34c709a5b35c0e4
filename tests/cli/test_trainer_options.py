"""Options of Lightning's trainer keep what they promise, or are refused in one line."""

import json

import pytest
from lightning.pytorch.tuner import Tuner
from torch.utils.data import DataLoader

from seg.cli import app as cli
from seg.data import SegmentationDataModule
from seg.errors import InputError
from seg.losses import CrossEntropyLoss
from seg.module import SegmentationModule
from tests.conftest import LIGHT, SYNTHETIC
from tests.test_module import NAMES, Data, trainer, unet

pytestmark = pytest.mark.slow

RECORDER = ["--trainer.callbacks+=tests.recording.Recorder", "--trainer.callbacks.folder=recorded"]


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def recorded(folder):
    """Names and digests of the samples of each training step."""
    lines = (folder / "recorded" / "0").read_text().splitlines()
    return [json.loads(line)[1] for line in lines]


@pytest.mark.parametrize("batches", [1, 0.5])
def test_overfitting_some_batches_trains_on_the_same_samples_in_every_epoch(batches, tmp_path):
    given = [
        "--data.synthetic_length=16",
        "--data.eval_batch_size=2",
        f"--trainer.overfit_batches={batches}",
        *RECORDER,
    ]
    assert cli.main(["fit", *SYNTHETIC, *LIGHT, *given, "--trainer.max_epochs=3"]) == 0
    steps = recorded(tmp_path)
    length = 1 if batches == 1 else 2
    assert len(steps) == 3 * length
    assert steps == steps[:length] * 3


def test_a_resumed_run_goes_on_with_the_batches_that_it_overfits(tmp_path):
    given = [*SYNTHETIC, *LIGHT, "--data.synthetic_length=16", *RECORDER]
    given += ["--trainer.overfit_batches=2", "--name=run", "--trainer.max_epochs=3"]
    assert cli.main(["fit", *given, "--trainer.max_steps=3"]) == 0
    last = tmp_path / "runs" / "run" / "version_0" / "checkpoints" / "last.ckpt"
    more = ["--ckpt_path", str(last), "--trust=tests", "--trainer.max_steps=6"]
    assert cli.main(["fit", *more]) == 0
    steps = recorded(tmp_path)
    assert len(steps) == 6
    assert steps == steps[:2] * 3


FINDERS = {"LearningRateFinder": "cannot set the rate", "BatchSizeFinder": "model.micro_batch_size"}


@pytest.mark.parametrize("name", FINDERS)
def test_a_finder_is_refused_in_one_line_that_says_what_to_do(name, tmp_path, capsys):
    assert cli.main(["fit", *SYNTHETIC, f"--trainer.callbacks+={name}"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"seg: error: {name} ")
    assert FINDERS[name] in error
    assert list(tmp_path.rglob("*.ckpt")) == []


class OwnData(Data):
    """Data of one's own, whose batch size is no setting of `seg`."""

    batch_size = 2

    def train_dataloader(self):
        return DataLoader(self.samples, batch_size=self.batch_size)


def tuner_and_module(tmp_path):
    module = SegmentationModule(unet(), CrossEntropyLoss(), NAMES)
    module.lr = 1e-3
    return Tuner(trainer(tmp_path, max_epochs=2)), module


@pytest.mark.parametrize("name", FINDERS)
def test_the_tuner_is_refused_in_python_too(name, tmp_path):
    tuner, module = tuner_and_module(tmp_path)
    find = tuner.lr_find if name == "LearningRateFinder" else tuner.scale_batch_size
    size = {"synthetic_length": 8, "synthetic_size": [64, 64], "crop_size": [32, 32]}
    data = SegmentationDataModule(**size, batch_size=2, num_workers=0)
    module.class_names = data.class_names
    with pytest.raises(InputError, match=FINDERS[name]):
        find(module, datamodule=data)


def test_the_batch_size_of_ones_own_data_may_be_searched(tmp_path):
    tuner, module = tuner_and_module(tmp_path)
    data = OwnData()
    found = tuner.scale_batch_size(module, datamodule=data, steps_per_trial=1)
    assert found == data.batch_size == len(data.samples)
