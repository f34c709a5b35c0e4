"""Each argument of the Trainer and each callback of Lightning does what it says, or is refused."""

import csv
import inspect
import json
from pathlib import Path

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch import callbacks as shipped
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.profilers import SimpleProfiler

from seg.cli import app as cli
from tests.conftest import LIGHT, SYNTHETIC

TESTS = Path(__file__).resolve().parents[1]
HERE = __name__
FIT = [*SYNTHETIC, *LIGHT, "--name=run", "--data.eval_batch_size=1"]
RUN = Path("runs/run/version_0")

seen = None
"""The `Seen` of the newest run in this process."""


class Seen(L.Callback):
    """Notes what is set while a run goes on."""

    def __init__(self):
        global seen
        seen = self
        self.sanity = self.validations = self.batches = 0
        self.trainer, self.first, self.samples = None, {}, []

    def on_fit_start(self, trainer, pl_module):
        self.trainer = trainer
        self.first = {k: p.detach().clone() for k, p in pl_module.network.named_parameters()}
        self.deterministic = torch.are_deterministic_algorithms_enabled()
        self.benchmark = torch.backends.cudnn.benchmark

    def on_sanity_check_start(self, trainer, pl_module):
        self.sanity += 1

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.samples.append(batch["name"])
        self.anomaly = torch.is_anomaly_enabled()
        self.dtype = next(pl_module.network.parameters()).dtype

    def on_validation_batch_end(self, trainer, *args):
        self.batches += not trainer.sanity_checking

    def on_test_batch_end(self, *args):
        self.inference = torch.is_inference_mode_enabled()

    def on_validation_end(self, trainer, pl_module):
        self.validations += not trainer.sanity_checking

    def on_train_end(self, trainer, pl_module):
        last = dict(pl_module.network.named_parameters())
        self.change = torch.cat([(last[k] - v).detach().flatten() for k, v in self.first.items()])


def fit(*given):
    """Train in this process; what was seen."""
    options = [f"--trainer.{arg}" for arg in given]
    status = cli.main(["fit", *FIT, f"--trainer.callbacks+={HERE}.Seen", *options])
    assert status == 0
    return seen


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        yield patch


@pytest.fixture(scope="module")
def plain(workplace):
    """A run of 3 epochs of 2 steps, and the figures of its TensorBoard."""
    return fit("max_epochs=3", "deterministic=true", "reload_dataloaders_every_n_epochs=1")


@pytest.fixture(scope="module")
def changed(workplace):
    """A run with all that may be set at once."""
    Path("changed.yaml").write_text(yaml.safe_dump({"model": {"optimizer": SGD}}))
    given = {
        "max_epochs": 4, "check_val_every_n_epoch": 2, "limit_train_batches": 1,
        "limit_val_batches": 1, "num_sanity_val_steps": 0, "log_every_n_steps": 1,
        "gradient_clip_val": 1e-3, "gradient_clip_algorithm": "value", "precision": "64-true",
        "benchmark": "true", "detect_anomaly": "true",
        "profiler": "simple", "default_root_dir": "elsewhere",
        "enable_autolog_hparams": "false",
    }  # fmt: skip
    torch.use_deterministic_algorithms(False)
    workplace.setattr(torch.backends.cudnn, "benchmark", False)
    options = [f"{name}={value}" for name, value in given.items()]
    return fit(*options, "callbacks+=TQDMProgressBar", "enable_progress_bar=true")


SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0}}
EFFECTS = {
    "accelerator": lambda p, c: isinstance(p.trainer.accelerator, CPUAccelerator),
    "callbacks": lambda p, c: p is not c,
    "max_epochs": lambda p, c: (p.trainer.current_epoch, c.trainer.current_epoch) == (3, 4),
    "check_val_every_n_epoch": lambda p, c: (p.validations, c.validations) == (3, 2),
    "limit_train_batches": lambda p, c: (p.trainer.global_step, c.trainer.global_step) == (6, 4),
    "limit_val_batches": lambda p, c: (p.batches, c.batches) == (3 * 2, 2 * 1),
    "num_sanity_val_steps": lambda p, c: (p.sanity, c.sanity) == (1, 0),
    "log_every_n_steps": lambda p, c: steps_logged("elsewhere/run/version_0") == 4,
    "gradient_clip_val": lambda p, c: 0 < c.change.abs().max() <= 4e-3,
    "gradient_clip_algorithm": lambda p, c: c.change.norm() > 4e-3,
    "precision": lambda p, c: (p.dtype, c.dtype) == (torch.float32, torch.float64),
    "deterministic": lambda p, c: (p.deterministic, c.deterministic) == (True, False),
    "benchmark": lambda p, c: c.benchmark,
    "detect_anomaly": lambda p, c: (p.anomaly, c.anomaly) == (False, True),
    "profiler": lambda p, c: isinstance(c.trainer.profiler, SimpleProfiler)
    and len(c.trainer.profiler.recorded_durations["run_training_batch"]) == 4,
    "default_root_dir": lambda p, c: Path("elsewhere/run/version_0/config.yaml").is_file(),
    "enable_autolog_hparams": lambda p, c: (texts(RUN), texts("elsewhere/run/version_0")) == (1, 0),
    "reload_dataloaders_every_n_epochs": lambda p, c: epochs_differ(p.samples),
}  # fmt: skip
"""What an argument does, from a plain run and one in which it is another."""


def steps(run):
    return run.trainer.global_step


def epochs(run):
    return run.trainer.current_epoch


def steps_logged(folder):
    rows = csv.DictReader((Path(folder) / "metrics.csv").read_text().splitlines())
    return sum(bool(row["train/loss_step"]) for row in rows)


def texts(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return len(EventAccumulator(str(folder)).Reload().Tags()["tensors"])


def epochs_differ(samples):
    """Each epoch is of all samples, in an order of its own."""
    epochs = [[*samples[i], *samples[i + 1]] for i in range(0, len(samples), 2)]
    return len({tuple(e) for e in epochs}) == len({len(set(e)) for e in epochs}) * 3


# after the first validation
STOPS = ["callbacks+=EarlyStopping", "callbacks.monitor=val/miou", "callbacks.mode=max"]
STOPS += ["callbacks.stopping_threshold=-1"]
OWN_RUNS = {
    "max_steps": (["max_epochs=2", "max_steps=3"], lambda s: steps(s) == 3),
    "min_epochs": (["max_epochs=4", "min_epochs=2", *STOPS], lambda s: epochs(s) == 2),
    "min_steps": (["max_epochs=4", "min_steps=5", *STOPS], lambda s: steps(s) in (5, 6)),
    "max_time": (["max_epochs=999", "max_time={seconds: 1}"], lambda s: s.trainer.should_stop),
    "val_check_interval": (["max_epochs=1", "val_check_interval=1"], lambda s: s.validations == 2),
    "fast_dev_run": (["fast_dev_run=1"], lambda s: (s.trainer.global_step, s.batches) == (1, 1)),
}  # fmt: skip
REFUSED = {
    "accumulate_grad_batches": ("2", "set model.micro_batch_size"),
    "barebones": ("true", "leave it out"),
    "model_registry": ("mine", "leave it out"),
}
ELSEWHERE = {
    "strategy": "test_end_to_end.py",
    "devices": "test_end_to_end.py",
    "num_nodes": "distributed/test_watchdog.py",
    "sync_batchnorm": "distributed/test_scale.py",
    "use_distributed_sampler": "distributed/test_evaluation_split.py",
    "overfit_batches": "cli/test_trainer_options.py",
    "enable_checkpointing": "lifecycle/test_run_folder.py",
    "logger": "lifecycle/test_run_folder.py",
    "plugins": "lifecycle/test_saving.py",
    "enable_progress_bar": "report/test_progress.py",
    "enable_model_summary": "report/test_progress.py",
    "limit_test_batches": "cli/test_trainer_arguments.py",
    "inference_mode": "cli/test_trainer_arguments.py",
    "limit_predict_batches": "cli/test_trainer_arguments.py",
}
"""The file of the tests of an argument that needs more than a small run."""


def test_each_argument_of_the_trainer_is_in_one_of_the_tables():
    arguments = set(inspect.signature(L.Trainer.__init__).parameters) - {"self"}
    tables = [*EFFECTS, *OWN_RUNS, *REFUSED, *ELSEWHERE]
    new, gone = arguments - set(tables), set(tables) - arguments
    assert not new, f"Lightning's Trainer takes {sorted(new)} as well: add what each does here"
    assert not gone, f"Lightning's Trainer takes {sorted(gone)} no more: delete it here"
    assert len(tables) == len(set(tables))


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_tested_elsewhere_is_there(name):
    assert f"{name}" in (TESTS / ELSEWHERE[name]).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", EFFECTS)
def test_an_argument_does_what_it_says(name, plain, changed):
    assert EFFECTS[name](plain, changed)


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN_RUNS)
def test_an_argument_ends_or_divides_a_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given, holds = OWN_RUNS[name]
    assert holds(fit(*given))


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_an_argument_that_would_change_what_is_learned_is_refused(
    name, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    value, remedy = REFUSED[name]
    assert cli.main(["fit", *FIT, f"--trainer.{name}={value}"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"seg: error: trainer.{name}")
    assert remedy in error
    assert not list(Path().rglob("*.ckpt"))


@pytest.mark.slow
@pytest.mark.parametrize("inference", [True, False])
def test_an_evaluation_may_be_of_a_few_batches(inference, plain, tmp_path):
    best = next(Path(plain.trainer.log_dir).resolve().glob("checkpoints/best.ckpt"))
    given = [
        "--ckpt_path",
        str(best),
        "--trust=tests",
        f"--trainer.callbacks+={HERE}.Seen",
        f"--output={tmp_path}",
    ]
    given += [f"--trainer.inference_mode={inference}", "--trainer.limit_test_batches=1"]
    assert cli.main(["test", *given]) == 0
    assert json.loads((tmp_path / "per_class.json").read_text())["images"] == 1
    assert seen.inference == inference


@pytest.mark.slow
def test_a_prediction_may_be_of_a_few_batches(plain, camvid_like, tmp_path):
    best = next(Path(plain.trainer.log_dir).resolve().glob("checkpoints/best.ckpt"))
    given = ["--ckpt_path", str(best), "--trust=tests", f"--data.predict={camvid_like / 'test'}"]
    given += [f"--output={tmp_path}", "--trainer.limit_predict_batches=1"]
    assert cli.main(["predict", *given]) == 0
    assert len(list(tmp_path.glob("*.png"))) == 1


REFUSED_CALLBACKS = {
    "BackboneFinetuning": "set model.freeze_encoder_epochs",
    "BaseFinetuning": "is a base class",
    "BasePredictionWriter": "is a base class",
    "ProgressBar": "is a base class",
    "ModelPruning": "prune what seg.load gives",
    "Timer": "set trainer.max_time",
    "OnExceptionCheckpoint": "set checkpoint.every_n_train_steps",
    "BatchSizeFinder": "set model.micro_batch_size",
    "LearningRateFinder": "compare rates by short runs",
    "GradientAccumulationScheduler": "set model.micro_batch_size",
}
TAKEN = {
    "Callback": {},
    "Checkpoint": {},
    "DeviceStatsMonitor": {"cpu_stats": False},
    "EMAWeightAveraging": {"decay": 0.9},
    "EarlyStopping": {"monitor": "val/miou", "mode": "max"},
    "LambdaCallback": {},
    "LearningRateMonitor": {"logging_interval": "step"},
    "ModelSummary": {"max_depth": 2},
    "RichModelSummary": {"max_depth": 2},
    "SpikeDetection": {},
    "StochasticWeightAveraging": {"swa_lrs": 0.01, "device": None},
    "ThroughputMonitor": {"batch_size_fn": "builtins.len"},
    "WeightAveraging": {},
}
ALONE = {
    "ModelCheckpoint": "lifecycle/test_best.py",
    "RichProgressBar": "report/test_progress.py",
    "TQDMProgressBar": "cli/test_trainer_arguments.py",
}
"""The file of the tests of a callback that is not taken beside others."""


def test_each_callback_of_lightning_is_in_one_of_the_tables():
    tables = [*REFUSED_CALLBACKS, *TAKEN, *ALONE]
    new, gone = set(shipped.__all__) - set(tables), set(tables) - set(shipped.__all__)
    assert not new, f"Lightning ships {sorted(new)} as well: add what becomes of each here"
    assert not gone, f"Lightning ships {sorted(gone)} no more: delete it here"
    assert len(tables) == len(set(tables))


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED_CALLBACKS)
def test_a_callback_that_cannot_work_is_refused(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = {"GradientAccumulationScheduler": ["--trainer.callbacks.scheduling={0: 2}"]}
    given |= {"OnExceptionCheckpoint": ["--trainer.callbacks.dirpath=there"]}
    given |= {"ModelPruning": ["--trainer.callbacks.pruning_fn=l1_unstructured"]}
    args = [f"--trainer.callbacks+={name}", *given.get(name, [])]
    assert cli.main(["fit", *FIT, *args]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("seg: error: ")
    assert REFUSED_CALLBACKS[name] in error
    assert not list(Path().rglob("*.ckpt"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:When using the .ThroughputMonitor")  # no FLOPs are asked for
def test_all_others_go_through_a_run_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    averages = {"StochasticWeightAveraging", "WeightAveraging"}  # one at a time
    listed = [
        {"class_path": f"lightning.pytorch.callbacks.{name}", "init_args": settings}
        for name, settings in TAKEN.items()
        if name not in averages
    ]
    Path("all.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": listed}}))
    run = fit_of(["-c", "all.yaml", "--trainer.log_every_n_steps=1"])
    made = {type(callback).__name__ for callback in run.trainer.callbacks}
    assert set(TAKEN) - averages <= made
    assert run.trainer.global_step == 2
    assert not Path("skip_batches.json").exists()


def fit_of(args):
    """Train with these options, and `Seen`; what was seen."""
    assert cli.main(["fit", *FIT, *args, f"--trainer.callbacks+={HERE}.Seen"]) == 0
    return seen
