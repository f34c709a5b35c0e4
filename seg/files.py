"""Files that are either whole or not there."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from seg.errors import InputError


@contextmanager
def replacing(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Yields a path beside `path` to write to, which then takes the place of `path`.

    Whoever reads `path` meanwhile sees the file of before; after an exception that file is still
    there and the unfinished one is gone. Missing folders are made.

    Args:
        path: The file to make or to replace.
        durable: Whether the file is brought to disk before it takes the place of the older one, so
            that a power cut leaves one of the two. Only one process at a time may write it then:
            what a kill leaves unfinished has one name, and the next write takes its place.

    Raises:
        InputError: If the file cannot be written there.
    """
    target = Path(path)
    own = unfinished_name(target)
    temporary = own if durable else own.with_suffix(f".{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            _bring_to_disk(temporary)
        os.replace(temporary, target)
        if durable and hasattr(os, "O_DIRECTORY"):  # on POSIX a renaming is a write to the folder
            _bring_to_disk(target.parent)
    except OSError as error:
        raise InputError(
            f"{target}: cannot be written: {error}; make room, or give another place."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def unfinished_name(target: Path) -> Path:
    """Where a durable file lies while it is being written."""
    return target.with_name(f".{target.name}.tmp")


def _bring_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file in UTF-8, by `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def same_file(one: str | Path, other: str | Path) -> bool:
    """Whether two paths lead to the same file or folder, links followed; it need not exist yet."""
    return os.path.realpath(one) == os.path.realpath(other)


def refuse_overwriting(
    targets: Iterable[Path],
    inputs: Iterable[str | Path],
    written_here: Callable[[Path], bool] = lambda path: True,
) -> None:
    """Refuse to write where something is read from, or over a file that is not the command's own.

    Args:
        targets: Files that will be written.
        inputs: Files that are read.
        written_here: Whether the command wrote a file that exists, so that it may be written again.

    Raises:
        InputError: Names the first such file.
    """
    read = {os.path.realpath(path) for path in inputs}
    for target in targets:
        if os.path.realpath(target) in read:
            raise InputError(
                f"{target}: this input would be overwritten; give another place with --output."
            )
        if os.path.lexists(target) and not (target.is_file() and written_here(target)):
            raise InputError(
                f"{target}: exists and was not written by this command; give another place with "
                "--output, or move the file away."
            )
