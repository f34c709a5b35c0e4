"""Where the figures of an evaluation come from, and the folder that they go to."""

import json
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from seg.files import write_text

FILE = "provenance.json"
"""Lies beside per_class.json, which holds figures alone: equal figures are equal files."""

Provenance = Mapping[str, Any]
"""`command`, `checkpoint` (its path), `data` (root or data set) and `split` of an evaluation."""


def results_folder(run: Path, command: str, provenance: Provenance) -> Path:
    """A folder named by the checkpoint; numbered where that holds results of other data.

    Args:
        run: Folder of the checkpoint's run.
        command: validate, test or predict.
        provenance: Of the results that will be written.
    """
    name = Path(provenance["checkpoint"]).stem
    folders = (run / command / (name if n == 1 else f"{name}-{n}") for n in count(1))
    return next(folder for folder in folders if not _is_of_others(folder, provenance))


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Writes provenance.json into a folder of results."""
    write_text(folder / FILE, json.dumps(provenance, indent=2, ensure_ascii=False) + "\n")


def _is_of_others(folder: Path, provenance: Provenance) -> bool:
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return any(found[key] != provenance[key] for key in ("checkpoint", "data", "split"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError):  # not written by this program
        return True
