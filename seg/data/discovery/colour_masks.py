"""Masks whose colours say the class, in RGB or by palettes that do not agree on their indices."""

from collections.abc import Mapping

from seg.data.discovery.contents import Contents, Tally
from seg.data.discovery.setting import KnownLabels, Setting
from seg.data.discovery.survey import (
    MaskSurvey,
    colour_name,
    is_void,
    listed,
    names_setting,
    refused,
    without_twins,
)
from seg.data.files.labels import MAX_CLASSES
from seg.data.files.palettes import code_of, unpack

_BLACK = 0
_WHITE = 0xFFFFFF
_VOC_VOID = 0xE0E0C0
"""Border of objects in the palette of PASCAL VOC."""


def are_colours(contents: Contents, known: KnownLabels) -> bool:
    """Whether colours, not values, say the class.

    They do in RGB; in palettes that give an index two colours; and where all colours of palettes
    or of grey levels have names, and values have none.
    """
    if contents.in_colour or any(len(codes) > 1 for codes in contents.of_index.values()):
        return True
    named = {code_of(colour) for colour in known.colors}
    shown = {*contents.colours, *contents.greys}
    return bool(named) and not known.names and shown <= named | _void_codes(known)


def survey_colours(contents: Contents, known: KnownLabels) -> MaskSurvey:
    """Lines for masks of colours.

    Args:
        contents: Of the masks.
        known: What is known of their labels.
    """
    shown: dict[int, Tally] = {**contents.greys, **contents.colours}
    kind = f"{_kind(contents)}: {len(shown)} colours"
    if len(shown) > MAX_CLASSES:
        fault = f"Masks hold {len(shown)} colours, more than {MAX_CLASSES} classes."
        return refused(kind, f"{fault} Are these images?")
    named = {code_of(colour): name for colour, name in known.colors.items()}
    return of_colours(kind, shown, named, known)


def of_colours(
    kind: str, shown: Mapping[int, Tally], named: Mapping[int, str], known: KnownLabels
) -> MaskSurvey:
    """Lines for these colours.

    Args:
        kind: Of the masks, in words.
        shown: Colours 0xRRGGBB that are labels.
        named: Their names, as far as these are known, in the order of the classes.
        known: What is known of labels.
    """
    void = _void_codes(known) | {code for code, name in named.items() if is_void(name)}
    order = [*named, *sorted({*shown} - {*named})]
    classes = [code for code in order if code not in void and (code in named or not named)]
    if len(classes) < 2:  # what is called unlabeled is a class beside one other
        classes = order if len(order) < 3 else order[:2]
    if len(classes) < 2:
        return refused(kind, f"Masks hold one colour only: {', '.join(map(_told, classes))}.")
    class_names = without_twins(_name(code, named, classes) for code in classes)
    ignored = [code for code in order if code not in classes]
    lines = [
        names_setting(class_names, known.source if named else ""),
        Setting("class_colors", [unpack(code) for code in classes], "The colour of each class."),
    ]
    if ignored:
        reason = f"Colours that are no class: {listed(_told(code, named) for code in ignored)}."
        lines.append(Setting("ignore_colors", [unpack(code) for code in ignored], reason))
    remarks = []
    unnamed = [code for code in ignored if code not in named and code not in void]
    for code in unnamed:
        remarks.append(
            f"{_told(code)} ({shown[code].pixels} pixels in {shown[code].masks} masks) is not in "
            f"{known.source}: ignored; if it is a class, give it a name and a colour."
        )
    if not named and _BLACK in classes and len(classes) > 2:
        remarks.append(
            "Black pixels are a class of their own. If black means that nothing was labelled, move "
            "[0, 0, 0] from data.class_colors to data.ignore_colors, and delete its name."
        )
    return MaskSurvey(kind, (*class_names,), (*lines,), remarks=(*remarks,))


def _kind(contents: Contents) -> str:
    if contents.in_colour:
        return "colour masks"
    if contents.with_palette:
        agree = all(len(codes) == 1 for codes in contents.of_index.values())
        return "palette masks" if agree else "palette masks that differ in their indices"
    return "grey masks"


def _void_codes(known: KnownLabels) -> set[int]:
    return {code_of(label) for label in known.ignored if isinstance(label, tuple)} | {_VOC_VOID}


def _name(code: int, named: Mapping[int, str], classes: list[int]) -> str:
    if code in named:
        return named[code]
    if len(classes) == 2 and _BLACK in classes:
        return "background" if code == _BLACK else "object"
    return colour_name(code)


def _told(code: int, named: Mapping[int, str] | None = None) -> str:
    name = (named or {}).get(code)
    return f"{unpack(code)}" if name is None else f"{name} {unpack(code)}"
