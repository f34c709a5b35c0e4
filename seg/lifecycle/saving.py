"""Checkpoints that are either whole or not there, whatever kills the program or fills the disk."""

import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO, TorchCheckpointIO

from seg.errors import InputError
from seg.files import replacing
from seg.lightning_compat.trainer import has_own_saving


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its target, to disk, and then puts it in the target's place.

    Whoever reads the target sees the checkpoint of before or the new one, never a part. What a
    kill leaves behind has one name a target and is overwritten by the next save. Only local files
    are written so; other file systems are left to Lightning.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Save, or leave what was there.

        Raises:
            InputError: If the file cannot be written, as on a full disk.
        """
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        try:
            with replacing(target, durable=True) as unfinished, unfinished.open("wb") as file:
                torch.save(checkpoint, file)
        except (InputError, RuntimeError) as error:
            of_disk = _of_disk(error)
            if of_disk is None:
                raise
            raise InputError(_what_failed(checkpoint, target, of_disk)) from error


def with_atomic_saving(plugins: Any, strategy: Any) -> list[Any]:
    """The trainer's plugins as configured, and `AtomicCheckpointIO` where nothing else saves."""
    given = plugins if isinstance(plugins, list) else [] if plugins is None else [plugins]
    own = any(isinstance(plugin, CheckpointIO) for plugin in given)
    own |= has_own_saving(strategy)
    return given if own else [*given, AtomicCheckpointIO()]


def _of_disk(error: BaseException | None) -> OSError | None:
    """The system's own error, which torch's writer covers with a RuntimeError."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


class _ByteCounter(BytesIO):
    """A file that keeps only how long it would be."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.bytes += size
        return size


def _what_failed(checkpoint: dict[str, Any], target: Path, error: OSError) -> str:
    counter = _ByteCounter()
    torch.save(checkpoint, counter)
    folder = next(folder for folder in target.absolute().parents if folder.exists())
    kept = f"The one before is whole: {target}." if target.exists() else "There is none before it."
    return (
        f"{target}: the checkpoint could not be written: {error.strerror}. It needs "
        f"{counter.bytes:,} bytes beside the one before, and {shutil.disk_usage(folder).free:,} "
        f"are free in {folder}. {kept} Make room, raise the limit on files, or set "
        "--trainer.default_root_dir to another disk; then go on from the newest checkpoint with "
        "--ckpt_path."
    )
