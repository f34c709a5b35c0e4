"""What masks hold, and the lines of a YAML that read them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seg.data.discovery.setting import Colour, KnownLabels, Setting
from seg.data.files.decoding import read_mask_and_palette
from seg.data.files.headers import DataError
from seg.data.files.palettes import pack, unpack

_THREADS = 4


@dataclass(frozen=True)
class MaskSurvey:
    """What masks are.

    Attributes:
        kind: In words, for whoever reads the YAML.
        class_names: Final, in the order of their ids.
        settings: Lines of the YAML.
        questions: What cannot be known, in the words with which the data module refuses it.
        faults: Masks that cannot be read, one line each.
        remarks: What stops nothing.
    """

    kind: str
    class_names: tuple[str, ...]
    settings: tuple[Setting, ...]
    questions: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def survey_masks(
    masks: Sequence[Path], known: KnownLabels, advance: Callable[[], object] = lambda: None
) -> MaskSurvey:
    """Read all masks.

    Args:
        masks: Mask files.
        known: What is known of their labels.
        advance: Called after each mask.
    """
    values: set[int | Colour] = set()
    faults = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for result in pool.map(_values, masks):
            advance()
            if isinstance(result, str):
                faults.append(result)
            else:
                values |= result
    if any(isinstance(value, tuple) for value in values):
        return _colours(sorted(v for v in values if isinstance(v, tuple)), known, faults)
    return _indices(sorted(v for v in values if isinstance(v, int)), known, faults)


def _values(path: Path) -> set[int | Colour] | str:
    try:
        raw, _ = read_mask_and_palette(path)
    except DataError as error:
        return str(error)
    if raw.ndim == 2:
        return {*map(int, np.unique(raw))}
    return {_colour(code) for code in np.unique(pack(raw))}


def _colour(code: int) -> Colour:
    red, green, blue = unpack(code)
    return red, green, blue


def _indices(values: list[int], known: KnownLabels, faults: list[str]) -> MaskSurvey:
    kind = f"values {', '.join(map(str, values))}"
    if values == [0, 255] and not known.names:
        names = ["background", "object"]
        line = Setting("label_map", {0: 0, 255: 1}, "Black is background, white the object.")
        return MaskSurvey(
            kind, (*names,), (Setting("class_names", names, "Rename them."), line), (), (*faults,)
        )
    void = {v for v in known.ignored if isinstance(v, int)} | {255}
    classes = sorted({*known.names} or {v for v in values if v not in void})
    names = [known.names.get(value, f"class_{i}") for i, value in enumerate(classes)]
    mapping: dict[int, int | str] = {v: i for i, v in enumerate(classes) if v != i}
    mapping |= dict.fromkeys(sorted({*values} - {*classes} - {255}), "ignore")
    settings = [Setting("class_names", names, f"Of {known.source or 'no file: rename them'}.")]
    if mapping:
        settings.append(Setting("label_map", mapping, "From values to class ids."))
    return MaskSurvey(kind, (*names,), (*settings,), (), (*faults,))


def _colours(values: list[Colour], known: KnownLabels, faults: list[str]) -> MaskSurvey:
    ignored = [[*v] for v in values if v in known.ignored]
    colours = [*known.colors] or [v for v in values if v not in known.ignored]
    names = [known.colors.get(v, f"class_{i}") for i, v in enumerate(colours)]
    settings = [
        Setting("class_names", names, f"Of {known.source or 'no file: rename them'}."),
        Setting("class_colors", [[*v] for v in colours], "The colour of each class."),
    ]
    if ignored:
        settings.append(Setting("ignore_colors", ignored, "Of no class."))
    return MaskSurvey(f"{len(values)} colours", (*names,), (*settings,), (), (*faults,))
