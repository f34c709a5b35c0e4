"""Regions of masks from an earlier scan, as long as their files are the same."""

import logging
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from seg.data.files.annotations import file_of
from seg.data.scan.components import Regions
from seg.data.scan.table import Scan
from seg.errors import InputError
from seg.files import replacing

log = logging.getLogger(__name__)

_FORMAT = "2"
"""Changes whenever what a scan finds, or how it is stored, does."""

MaskFile = tuple[str, int, int]
"""Path, bytes and time of last change, in nanoseconds, of a mask file."""


def cache_folder() -> Path:
    """Where scans are kept: `seg` in XDG_CACHE_HOME, or in ~/.cache without it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seg"


class ScanMemory:
    """The scans of a data set's masks in one file, which goes without saying that it may be lost.

    A file counts as unchanged while its path, its size and its time of change are the same.

    Args:
        root: Folder of the data set.
        files: The mask files that are scanned, in the order of their indices.
        fingerprint: Says how mask values become class ids: other labels, other regions.
        num_classes: C.
    """

    def __init__(
        self, root: Path | str, files: Sequence[Path], fingerprint: str, num_classes: int
    ) -> None:
        self.num_classes = num_classes
        self._keys = [_key(path) for path in files]
        name = "\n".join([_FORMAT, str(Path(root).resolve()), fingerprint, str(num_classes)])
        self.path = cache_folder() / f"scan-{sha256(name.encode()).hexdigest()[:16]}.npz"

    def key(self, index: int) -> MaskFile:
        """What identifies a mask and its contents."""
        return self._keys[index]

    def recall(self) -> dict[MaskFile, Regions]:
        """The regions of all masks that were kept, also of other splits."""
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = dict(stored)
            keys = zip(
                *(arrays.pop(name).tolist() for name in ("path", "bytes", "time")), strict=True
            )
            return dict(zip(keys, Scan(**arrays).regions(), strict=True))
        except FileNotFoundError:
            return {}
        except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
            log.warning("%s: cannot be read (%s); the masks are scanned again.", self.path, error)
            return {}

    def keep(self, found: Mapping[int, Regions], known: Mapping[MaskFile, Regions]) -> None:
        """Store the regions of this scan, and those known of other files that are still there."""
        new = {self._keys[index]: regions for index, regions in found.items()}
        if new.keys() <= known.keys():
            return
        paths = {path for path, *_ in self._keys}
        others = {k: r for k, r in known.items() if k[0] not in paths and _exists(Path(k[0]))}
        kept = {**others, **new}
        columns = dict(
            zip(("path", "bytes", "time"), map(np.array, zip(*kept, strict=True)), strict=True)
        )
        arrays = Scan.of(list(kept.values()), self.num_classes).arrays()
        try:
            with replacing(self.path) as path, path.open("wb") as file:
                np.savez(file, **{**columns, **arrays})  # type: ignore[arg-type]
        except InputError as error:
            log.warning("%s The masks will be scanned anew.", error)


def _exists(path: Path) -> bool:
    return path.exists() or file_of(path) is not None


def _key(path: Path) -> MaskFile:
    status = (file_of(path) or path).stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns
