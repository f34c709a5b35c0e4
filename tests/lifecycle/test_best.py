"""What is kept as best carries, and shows, the scores of its own weights."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from seg.cli import app as cli
from seg.cli.lightning_cli import SegCLI
from tests.conftest import SMALL, write_pairs

pytestmark = pytest.mark.slow

# 8 steps an epoch, a validation after every second; the scores of this network go up and down
RUN = [
    *SMALL,
    "--data.root=data",
    "--data.class_names=[a,b,c,d,e]",
    "--data.batch_size=2",
    "--model.network=torch.nn.Conv2d",
    "--model.network.kernel_size=1",
    "--model.network.in_channels=3",
    "--model.network.out_channels=5",
    "--model.optimizer=Adam",
    "--model.optimizer.lr=0.3",
    "--model.lr_scheduler=torch.optim.lr_scheduler.ConstantLR",
    "--model.num_rare=2",
    "--name=run",
    "--trainer.max_epochs=3",
    "--trainer.val_check_interval=0.25",
]
FOLDER = Path("runs/run/version_0")
LAST = FOLDER / "checkpoints" / "last.ckpt"
BEST = FOLDER / "checkpoints" / "best.ckpt"
STEPS = "--checkpoint.every_n_train_steps=5"
TIME = "--checkpoint.train_time_interval=0:00:00"
RARE = ["--checkpoint.monitor=val/miou_rare"]
LOSS = ["--checkpoint.monitor=val/loss", "--checkpoint.mode=min"]
TRAIN_LOSS = ["--checkpoint.monitor=train/loss", "--checkpoint.mode=min"]
NEWEST = ["--checkpoint.monitor=null"]
THREE = ["--checkpoint.save_top_k=3", "--checkpoint.filename=best-{step}"]
ONCE = ["--trainer.val_check_interval=1.0"]
OWN = [
    "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint",
    "--trainer.callbacks.dirpath=own",
    "--trainer.callbacks.filename={step}",
    "--trainer.callbacks.monitor=val/loss",
    "--trainer.callbacks.save_top_k=3",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for seed, (split, count) in enumerate((("train", 16), ("val", 4))):
        write_pairs(
            root / "images" / split, root / "masks" / split, count, (40, 56), range(5), seed
        )
    return root


@pytest.fixture
def workplace(data, tmp_path, monkeypatch):
    os.symlink(data, tmp_path / "data")
    monkeypatch.chdir(tmp_path)


def seg(*args):
    return cli.main([str(arg) for arg in args])


def per_class(folder):
    return json.loads((folder / "per_class.json").read_text())


def judge(path, monkeypatch):
    """What `seg validate` logs of a checkpoint by name, and its table in `judged`."""
    shutil.rmtree("judged", ignore_errors=True)
    logged = {}

    def keep(command):
        logged.update({k: float(v) for k, v in command.trainer.callback_metrics.items()})

    monkeypatch.setattr(SegCLI, "after_validate", keep, raising=False)
    assert seg("validate", "--ckpt_path", path, "--output", "judged") == 0
    return logged


def table(printed):
    """The cells of the table of classes and its mean, a list a row."""
    lines = [line.split() for line in printed.splitlines()]
    return [cells for cells in lines if cells and cells[0] in (*"abcde", "mean")]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ([STEPS, *RARE], 1),
        ([TIME, *ONCE], 1),
        ([*LOSS, "--trainer.val_check_interval=3", "--trainer.check_val_every_n_epoch=null"], 1),
        ([*ONCE, "--trainer.check_val_every_n_epoch=2", "--trainer.max_epochs=5"], 1),
        ([*ONCE, *THREE, "--trainer.max_steps=21"], 2),
        ([*ONCE, *OWN, "--trainer.max_steps=21"], 2 + 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_what_a_validation_chose_has_the_scores_that_it_carries(
    options, kept, workplace, monkeypatch, capsys
):
    assert seg("fit", *RUN, *options) == 0
    printed = table(capsys.readouterr().out)
    callbacks = torch.load(LAST, weights_only=True)["callbacks"]
    keepers = [state for state in callbacks.values() if "best_k_models" in state]
    judged = 0
    for keeper in keepers:
        for path, score in keeper["best_k_models"].items():
            assert judge(path, monkeypatch)[keeper["monitor"]] == float(score)
            judged += 1
    assert judged == kept
    best = keepers[-1]["best_model_path"]
    capsys.readouterr()
    judge(best, monkeypatch)
    assert per_class(FOLDER) == per_class(Path("judged"))
    assert printed == table(capsys.readouterr().out)


@pytest.mark.parametrize(
    "options", [NEWEST, [*TRAIN_LOSS, STEPS, "--trainer.max_steps=22"]], ids=" ".join
)
def test_the_table_is_of_the_best_weights_also_where_training_or_nothing_chooses_them(
    options, workplace, monkeypatch, capsys
):
    assert seg("fit", *RUN, *options) == 0
    printed = table(capsys.readouterr().out)
    judge(BEST, monkeypatch)
    assert per_class(FOLDER) == per_class(Path("judged"))
    assert printed == table(capsys.readouterr().out)


def test_best_weights_that_were_never_validated_show_no_scores_of_others(workplace):
    options = [*ONCE, *TRAIN_LOSS, "--trainer.check_val_every_n_epoch=2"]
    assert seg("fit", *RUN, *options, "--trainer.max_epochs=2") == 0
    assert {"per_class.json", "per_image.csv", "previews"} <= {p.name for p in FOLDER.iterdir()}
    assert seg("fit", "--ckpt_path", LAST, "--trainer.max_epochs=3") == 0
    assert torch.load(BEST, weights_only=True)["global_step"] == 24
    assert not {"per_class.json", "per_image.csv", "previews"} & {p.name for p in FOLDER.iterdir()}


def test_a_resumed_run_that_gets_no_better_ends_with_the_table_of_its_best(
    workplace, monkeypatch, capsys
):
    assert seg("fit", *RUN, "--trainer.max_epochs=2") == 0
    capsys.readouterr()
    assert seg("fit", "--ckpt_path", LAST, "--trainer.max_epochs=3") == 0
    out = capsys.readouterr().out
    printed = table(out)
    for line in ("The run's files: ", "Judge it on the test split: seg test --ckpt_path "):
        (said,) = [said for said in out.splitlines() if said.startswith(line)]
        assert str(BEST if "ckpt" in said else FOLDER) in said
    assert torch.load(BEST, weights_only=True)["global_step"] == 14
    judge(BEST, monkeypatch)
    assert printed == table(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--checkpoint.save_on_exception=true"], "RunCheckpoint: save_on_exception True would"),
        (
            ["--checkpoint.save_on_train_epoch_end=true"],
            "RunCheckpoint: save_on_train_epoch_end True: val/miou is measured at a validation",
        ),
        (
            [*TRAIN_LOSS, "--checkpoint.save_on_train_epoch_end=false"],
            "save_on_train_epoch_end False: train/loss is measured at the end of an epoch",
        ),
        (
            ["--checkpoint.save_top_k=2"],
            "RunCheckpoint: save_top_k 2 keeps several checkpoints, and all would be best.ckpt; "
            "set filename to best-{step}.",
        ),
        (["--checkpoint.save_top_k=2", "--checkpoint.filename={epoch}"], "to {epoch}-{step}."),
        (
            [*OWN, "--trainer.callbacks.every_n_train_steps=5"],
            "ModelCheckpoint: every_n_train_steps 5 would save weights with the val/loss of "
            "others, which is measured at a validation; leave it out. For last.ckpt within an "
            "epoch set checkpoint.every_n_train_steps",
        ),
        (
            [*OWN, "--trainer.callbacks.train_time_interval=0:00:01"],
            "ModelCheckpoint: train_time_interval 0:00:01 would save weights with the val/loss",
        ),
    ],
)
def test_a_checkpoint_that_would_carry_the_score_of_other_weights_is_refused(
    options, error, workplace, capsys
):
    assert seg("fit", *RUN, *options) == 2
    assert error in capsys.readouterr().err
    assert list(Path().rglob("*.ckpt")) == []


@pytest.mark.parametrize("option", [STEPS, TIME])
def test_last_is_renewed_within_an_epoch_and_at_its_end(option, workplace):
    assert seg("fit", *RUN, *ONCE, option, "--trainer.max_steps=15", "--trainer.max_epochs=2") == 0
    last = torch.load(LAST, weights_only=True)
    assert last["global_step"] == 15
    assert last["seg.resuming"]["epoch_ended"] is False
    assert seg("fit", "--ckpt_path", LAST, "--trainer.max_steps=-1") == 0
    last = torch.load(LAST, weights_only=True)
    assert last["global_step"] == 16
    assert last["seg.resuming"]["epoch_ended"] is True
    assert last["seg.resuming"]["validated"] is True
