"""The labels of annotations, and the lines of a YAML that make classes of them."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from seg.data.discovery.setting import Setting
from seg.data.discovery.survey import MaskSurvey, is_void, listed, names_setting, refused
from seg.data.files.annotations import coco_file
from seg.data.files.coco import CocoFile
from seg.data.files.headers import DataError
from seg.data.files.labelme import read_labelme

_BACKGROUND = "background"


def survey_annotations(
    files: Sequence[Path], coco: bool, advance: Callable[[], object] = lambda: None
) -> MaskSurvey:
    """Read all annotations.

    Args:
        files: Files of COCO, or of labelme.
        coco: Which of them.
        advance: Called after each file.
    """
    counts: Counter[str] = Counter()
    faults = []
    for path in files:
        try:
            if coco:
                found = coco_file(path)
                counts.update(_categories(found))
                faults += [*found.lost, *(f"{path}: {text}" for text in found.faults.values())]
            else:
                counts.update(label for label, _ in read_labelme(path)[2])
        except DataError as error:
            faults.append(str(error))
        advance()
    kind = f"annotations of {'COCO' if coco else 'labelme'}"
    shown = [name for name, count in counts.items() if count]
    void = [name for name in shown if is_void(name)]
    empty = [name for name in shown if name.strip("_ ").lower() == _BACKGROUND]
    classes = [name for name in shown if name not in void + empty]
    if not classes:
        return refused(kind, faults[0] if faults else "The annotations name no class.")
    names = [_BACKGROUND, *(classes if coco else sorted(classes))]
    settings = list[Setting]([names_setting(names, "the annotations")])
    mapping = {
        **{name: 0 for name in empty if name != _BACKGROUND},
        **dict.fromkeys(void, "ignore"),
    }
    if mapping:
        settings.append(Setting("label_map", mapping, "Labels that are no class of their own."))
    unused = [name for name, count in counts.items() if not count]
    remarks = (f"Categories without an annotation are left out: {listed(unused)}.",) * bool(unused)
    kind += f": {listed(classes)}; what is not annotated is background"
    return MaskSurvey(kind, (*names,), (*settings,), (), (*faults,), remarks)


def _categories(found: CocoFile) -> Counter[str]:
    """Number of annotations of each category; those of none are left out."""
    known = found.categories[found.categories >= 0]
    numbers = np.bincount(known, minlength=len(found.names)).tolist()
    return Counter(dict(zip(found.names, numbers, strict=True)))
