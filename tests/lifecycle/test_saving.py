"""A checkpoint is whole or not there: after a kill, on a full disk, across file systems."""

import os
import signal
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from lightning.pytorch.strategies import DDPStrategy

from seg.errors import InputError
from seg.files import unfinished_name
from seg.lifecycle.run_checkpoint import RunCheckpoint
from seg.lifecycle.saving import AtomicCheckpointIO, with_atomic_saving
from tests.processes import LIMIT, context

BIG = 60_000_000  # bytes; several tens of milliseconds to write


def checkpoint(value: float, size: int = 4000) -> dict[str, object]:
    return {"weights": torch.full((size // 4,), value), "step": value}


def value_of(path: Path) -> float:
    loaded = AtomicCheckpointIO().load_checkpoint(path, weights_only=True)
    assert (loaded["weights"] == loaded["step"]).all()
    return float(loaded["step"])


def test_a_saved_checkpoint_is_read_back_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.ckpt"
    for value in (1.0, 2.0):
        AtomicCheckpointIO().save_checkpoint(checkpoint(value), path)
        assert value_of(path) == value
    assert list(path.parent.iterdir()) == [path]


def _save_for_ever(path: str) -> None:
    value = 0.0
    while True:
        value += 1
        AtomicCheckpointIO().save_checkpoint(checkpoint(value, BIG), path)


@pytest.mark.slow
@pytest.mark.parametrize("temporary", ["same file system", "/dev/shm"])
def test_a_kill_in_the_middle_of_a_save_leaves_the_checkpoint_before_whole(
    temporary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if temporary == "/dev/shm":
        if not os.access(temporary, os.W_OK):
            pytest.skip("no /dev/shm, which would be a second file system")
        monkeypatch.setenv("TMPDIR", temporary)
    path = tmp_path / "last.ckpt"
    unfinished = unfinished_name(path)
    for size in (BIG // 4, BIG // 2):
        process = context().Process(target=_save_for_ever, args=(str(path),))
        process.start()
        try:
            while not (path.exists() and unfinished.exists() and _size(unfinished) > size):
                assert process.is_alive()
        finally:
            process.kill()
            process.join(LIMIT)
        assert process.exitcode == -signal.SIGKILL
        assert value_of(path) >= 1
        # what a kill leaves does not pile up
        assert {file.name for file in tmp_path.iterdir()} <= {path.name, unfinished.name}
    AtomicCheckpointIO().save_checkpoint(checkpoint(-1), path)
    assert list(tmp_path.iterdir()) == [path]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _save_with_a_limit(path: str, answer: str) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    try:
        AtomicCheckpointIO().save_checkpoint(checkpoint(2, 4_000_000), path)
    except InputError as error:
        Path(answer).write_text(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
def test_a_disk_that_takes_no_more_leaves_no_part_and_says_what_is_needed(
    before: bool, tmp_path: Path
) -> None:
    path, answer = tmp_path / "run" / "last.ckpt", tmp_path / "answer.txt"
    if before:
        AtomicCheckpointIO().save_checkpoint(checkpoint(1), path)
    process = context().Process(target=_save_with_a_limit, args=(str(path), str(answer)))
    process.start()
    process.join(LIMIT)
    assert process.exitcode == 0
    message = answer.read_text()
    assert message.startswith(f"{path}: the checkpoint could not be written: File too large.")
    AtomicCheckpointIO().save_checkpoint(checkpoint(2, 4_000_000), tmp_path / "elsewhere.ckpt")
    needed = (tmp_path / "elsewhere.ckpt").stat().st_size
    assert f" needs {needed:,} bytes " in message
    assert f"are free in {path.parent}. " in message
    kept = f"The one before is whole: {path}." if before else "There is none before it."
    assert kept in message
    assert list(path.parent.iterdir()) == ([path] if before else [])
    if before:
        assert value_of(path) == 1


def test_an_error_that_is_not_the_disks_stays_what_it_is(tmp_path: Path) -> None:
    class Wrong(torch.Tensor):
        def __reduce_ex__(self, protocol: object) -> str:
            raise RuntimeError("not to be saved")

    wrong = torch.zeros(1).as_subclass(Wrong)
    with pytest.raises(RuntimeError, match="not to be saved"):
        AtomicCheckpointIO().save_checkpoint({"weights": wrong}, tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_plugins_and_strategies_that_save_themselves_are_left_alone() -> None:
    other = AsyncCheckpointIO()
    assert with_atomic_saving([other], "auto") == [other]
    assert with_atomic_saving(None, DDPStrategy(checkpoint_io=other)) == []
    for given in (None, [], "TorchSyncBatchNorm"):
        *rest, own = with_atomic_saving(given, "auto")
        assert rest == ([given] if given else [])
        assert isinstance(own, AtomicCheckpointIO)


class Worsening(L.LightningModule):
    """A network whose score falls with every validation."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return self.weight * batch.sum()

    def validation_step(self, batch: torch.Tensor) -> None:
        self.log("score", -float(self.global_step))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def steps_by_name(folder: Path) -> dict[str, int]:
    saved = {path.name: torch.load(path, weights_only=True) for path in folder.iterdir()}
    return {name: checkpoint["global_step"] for name, checkpoint in saved.items()}


class Undefined(Worsening):
    """Its scores by epoch: NaN, 1, NaN, inf."""

    def validation_step(self, batch: torch.Tensor) -> None:
        self.log("score", [torch.nan, 1.0, torch.nan, torch.inf][self.current_epoch])


@pytest.mark.parametrize(("mode", "epochs"), [("max", 1), ("max", 4), ("min", 4)])
@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # as the test wants it
def test_a_score_that_is_not_finite_is_never_the_best(
    mode: str, epochs: int, tmp_path: Path
) -> None:
    callback = RunCheckpoint(
        tmp_path, "best", "score", mode=mode, save_last=True, enable_version_counter=False
    )
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        num_sanity_val_steps=0,
        callbacks=[callback],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader: torch.utils.data.DataLoader[torch.Tensor] = torch.utils.data.DataLoader(
        torch.ones(4)  # type: ignore[arg-type]
    )
    trainer.fit(Undefined(), loader, loader)
    best = {} if epochs == 1 else {"best.ckpt": 8}
    assert steps_by_name(tmp_path) == {**best, "last.ckpt": 4 * epochs}


@pytest.mark.parametrize(("interval", "epochs"), [(1.0, 1), (0.5, 1), (1.0, 2)])
@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # as the test wants it
def test_last_is_of_the_last_epoch_also_when_an_earlier_validation_was_the_best(
    interval: float, epochs: int, tmp_path: Path
) -> None:
    callback = RunCheckpoint(
        tmp_path, "best", "score", mode="max", save_last=True, enable_version_counter=False
    )
    seen = []

    class Watch(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, *args: object) -> None:
            last = tmp_path / "last.ckpt"
            seen.append(last.exists() and torch.load(last, weights_only=True)["global_step"])

    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=3,
        val_check_interval=interval,
        check_val_every_n_epoch=epochs,
        num_sanity_val_steps=0,
        callbacks=[callback, Watch()],
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader: torch.utils.data.DataLoader[torch.Tensor] = torch.utils.data.DataLoader(
        torch.ones(4)  # type: ignore[arg-type]
    )
    trainer.fit(Worsening(), loader, loader)
    assert seen == [False, 4, 8]
    first = int(4 * interval * epochs)
    assert steps_by_name(tmp_path) == {"best.ckpt": first, "last.ckpt": 12}
