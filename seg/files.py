"""Files that are either whole or not there."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from seg.errors import InputError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to, which then takes the place of `path`.

    Whoever reads `path` meanwhile sees the file of before; after an exception that file is still
    there and the unfinished one is gone. Missing folders are made.

    Args:
        path: The file to make or to replace.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


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
