"""Where the results of an evaluation come from, and the folder that they go to."""

import json
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from seg.errors import InputError
from seg.files import write_text

FILE = "provenance.json"
"""Lies beside per_class.json, which holds figures alone: equal figures are equal files."""

Provenance = Mapping[str, Any]
"""`command`, `checkpoint` (its path), `data` (root, data set or the images that were predicted) and
`split` of an evaluation."""

_COMPARED = ("checkpoint", "data", "split")


def results_folder(run: Path, command: str, provenance: Provenance) -> Path:
    """A folder named by the checkpoint; numbered where that holds results of other data.

    Args:
        run: Folder of the checkpoint's run.
        command: validate, test or predict.
        provenance: Of the results that will be written.
    """
    name = Path(provenance["checkpoint"]).stem
    folders = (run / command / (name if n == 1 else f"{name}-{n}") for n in count(1))
    return next(folder for folder in folders if _others(folder, provenance) is None)


def refuse_results_of_others(folder: Path, provenance: Provenance) -> None:
    """Refuse to write over the results of another checkpoint or of other data.

    Args:
        folder: Where results will be written; it may hold older ones of the same origin.
        provenance: Of the results that will be written.

    Raises:
        InputError: Names both origins.
    """
    others = _others(folder, provenance)
    if others is not None:
        raise InputError(
            f"{folder}: holds results of {others}; those of {_told(provenance)} would be written "
            "over them: give another folder with --output, or remove this one."
        )


def data_named(data: Any, predicted: bool) -> str:
    """What tells the data of an evaluation from others: paths, or what takes their place.

    Args:
        data: The configuration of `SegmentationDataModule`.
        predicted: Whether it is that of `predict`.
    """
    if predicted:
        sources = [data.predict] if isinstance(data.predict, str) else data.predict
        return ", ".join(str(Path(source).resolve()) for source in sources)
    if data.root:
        return str(Path(data.root).resolve())
    if data.dataset is None:
        length, size = data.synthetic_length, list(data.synthetic_size)
        return f"generated images (length {length}, size {size}, seed {data.seed})"
    name = getattr(data.dataset, "class_path", data.dataset)
    arguments = getattr(data.dataset, "init_args", None)
    given = [f"{key}={value!r}" for key, value in vars(arguments).items()] if arguments else []
    return f"{name}({', '.join(given)})" if given else str(name)


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Writes provenance.json into a folder of results."""
    write_text(folder / FILE, json.dumps(provenance, indent=2, ensure_ascii=False) + "\n")


def _others(folder: Path, provenance: Provenance) -> str | None:
    """What a folder holds results of, if not of this checkpoint and data; None if it holds none."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        same = all(found[key] == provenance[key] for key in _COMPARED)
        return None if same else _told(found)
    except FileNotFoundError:
        is_of_fit = (folder / "per_class.json").exists()
        return f"a training, or of a program without {FILE}" if is_of_fit else None
    except (OSError, ValueError, KeyError, TypeError):
        return f"unknown origin, as its {FILE} cannot be read"


def _told(provenance: Provenance) -> str:
    return f"{provenance['checkpoint']} on {provenance['split']} of {provenance['data']}"
