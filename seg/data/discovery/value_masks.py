"""Masks whose values say the class: which are classes, which is ignored, and what is unknown."""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from seg.constants import IGNORE_INDEX
from seg.data.discovery.contents import Contents
from seg.data.discovery.setting import KnownLabels, Setting
from seg.data.discovery.survey import (
    MaskSurvey,
    colour_name,
    in_words,
    is_void,
    names_setting,
    refused,
    without_twins,
)
from seg.data.files.label_map import QUESTION, question
from seg.data.files.labels import MAX_CLASSES
from seg.data.files.palettes import code_of

_APART = 90
"""A value from which one may be no class, if the others are small."""
_UNSIGNED = 65535
"""What -1 becomes in unsigned 16 bits."""
_EVEN = 2
"""How much steps between grey levels may differ that are made even."""


@dataclass
class _Void:
    """Values that are ignored or unknown, each with the reason; what is a class after all."""

    ignored: dict[float, str] = field(default_factory=dict)
    unknown: dict[float, str] = field(default_factory=dict)
    kept: set[float] = field(default_factory=set)


def survey_values(contents: Contents, known: KnownLabels) -> MaskSurvey:
    """Lines for masks of values, with or without a palette.

    Args:
        contents: Of the masks.
        known: What is known of their labels.
    """
    used = sorted(value for value in contents.values if not math.isnan(value))
    kind = f"{_kind(contents)}: values {in_words(used)}"
    fractions = [value for value in used if value != int(value)] if used else []
    if fractions:
        return refused(kind, f"Masks hold {fractions[0]:g}, which is no whole number.")
    names = _names(contents, known)
    void = _void(contents, used, names, known)
    shown = [v for v in used if v not in void.unknown]
    classes = sorted(v for v in {*shown, *names} if not _is_void(v, names, known, void))
    if len(classes) > MAX_CLASSES:
        fault = f"Masks hold {len(classes)} values, more than {MAX_CLASSES} classes."
        return refused(kind, f"{fault} Are these ids of objects, or images?")
    if len(classes) + len(void.unknown) < 2:
        return refused(kind, f"Masks hold one class only: {in_words(classes) or 'none'}.")
    named = classes if len(classes) > 1 else sorted([*classes, *void.unknown])
    class_names = without_twins(_name(v, named, names, contents) for v in named)
    lines = names_setting(class_names, known.source if names else ""), *_map(classes, void)
    if IGNORE_INDEX in void.ignored:
        kind += f"; {IGNORE_INDEX} is ignored"
    questions, remarks = (*map(question, void.unknown),), (*_gaps(classes, names),)
    return MaskSurvey(kind, (*class_names,), lines, questions, remarks=remarks)


def _kind(contents: Contents) -> str:
    if not contents.with_palette:
        return "index masks"
    shown = [
        f"{index} {colour_name(min(codes))}" for index, codes in sorted(contents.of_index.items())
    ]
    more = " …" if len(shown) > 8 else ""
    return f"palette masks ({', '.join(shown[:8])}{more})"


def _names(contents: Contents, known: KnownLabels) -> dict[float, str]:
    """Names of values, by themselves or by the colours of the palettes."""
    if known.names or not known.colors:
        return _from_one(dict(known.names.items()), contents, known.ignored)
    named = {code_of(colour): name for colour, name in known.colors.items()}
    return {
        index: named[min(codes)]
        for index, codes in contents.of_index.items()
        if len(codes) == 1 and min(codes) in named
    }


def _from_one(
    names: dict[float, str], contents: Contents, ignored: Container[object]
) -> dict[float, str]:
    """The names for values from 1, where a list that counts from 0 would leave the last without."""
    shown = (v for v in contents.values if v != IGNORE_INDEX and v not in ignored)
    last = max(shown, default=0)
    if not names or [*names] != [*range(len(names))] or last != len(names) or is_void(names[0]):
        return names
    return {value + 1: name for value, name in names.items()}


def _name(
    value: float, classes: Sequence[float], names: Mapping[float, str], contents: Contents
) -> str:
    if value in names:
        return names[value]
    if value == 0 and (len(classes) == 2 or names):
        return "background"
    if len(classes) == 2 and classes[0] == 0:
        return "object"
    colours = contents.of_index.get(int(value), set())
    return colour_name(min(colours)) if len(colours) == 1 else f"class_{int(value)}"


def _void(
    contents: Contents, used: Sequence[float], names: Mapping[float, str], known: KnownLabels
) -> _Void:
    void = _Void()
    if any(math.isnan(value) for value in contents.values):
        void.ignored[math.nan] = "NaN is no class"
    for value in used:
        if _is_void(value, names, known):
            name = f", {names[value]}," if value in names else ""
            void.ignored[value] = f"{value}{name} is no class in {known.source or 'the data'}"
        elif value not in names and not (names and value == 0):
            _judge(value, contents, used, names, void)
    left = [value for value in used if value not in void.ignored and value not in void.unknown]
    if len(left) < 2:  # the rest of the picture, called unlabeled, is a class beside one other
        named = [value for value in void.ignored if value in names]
        for value in named[: 2 - len(left)]:
            del void.ignored[value]
            void.kept.add(value)
    return void


def _is_void(
    value: float, names: Mapping[float, str], known: KnownLabels, void: _Void | None = None
) -> bool:
    """Whether a value is none of a class, by its name or once it was judged."""
    if void is not None and (value in void.ignored or value in void.kept):
        return value in void.ignored
    return value in known.ignored or is_void(names.get(value, ""))


def _judge(
    value: float, contents: Contents, used: Sequence[float], names: Mapping[float, str], void: _Void
) -> None:
    """Whether a value without a name is ignored, or cannot be known."""
    others = [v for v in used if v != value and 0 <= v != IGNORE_INDEX]
    negative = [v for v in used if v < 0]
    if value in contents.nodata:
        reason = f"the files declare {value} to be no data"
        (void.unknown if 0 <= value < _APART else void.ignored)[value] = reason
    elif value == -1 or (value < 0 and len(negative) == 1):
        void.ignored[value] = f"{value} is below 0, so no class"
    elif value < 0:
        void.unknown[value] = "it is below 0"
    elif value == _UNSIGNED:
        void.ignored[value] = f"{_UNSIGNED} is -1 in 16 bits"
    elif value == IGNORE_INDEX:
        _judge_white(used, names, void)
    elif names:
        void.unknown[value] = "it has no name"
    elif value == used[-1] and _follow(others) and value >= max(_APART, 2 * others[-1]):
        void.unknown[value] = f"it stands apart from {in_words(others)}"


def _judge_white(used: Sequence[float], names: Mapping[float, str], void: _Void) -> None:
    """255 is white beside black or in a scale of greys, and ignored beside class ids."""
    others = [value for value in used if 0 <= value < IGNORE_INDEX]
    levels = [*others, IGNORE_INDEX]
    steps = [b - a for a, b in pairwise(levels)]
    if names or any(step == 1 for step in steps):
        void.ignored[IGNORE_INDEX] = f"{IGNORE_INDEX} is ignored"
    elif not others or others[0] != 0 or max(steps) - min(steps) > _EVEN:
        void.unknown[IGNORE_INDEX] = f"it stands apart from {in_words(others)}"


def _follow(values: Sequence[float]) -> bool:
    return len(values) > 1 and values[-1] - values[0] == len(values) - 1


def _map(classes: Sequence[float], void: _Void) -> list[Setting]:
    """The line from values to class ids, if one is needed."""
    mapping: dict[int | str, int | str] = {}
    reasons = []
    if [*classes] != [*range(len(classes))]:
        mapping |= {int(v): i for i, v in enumerate(classes)}
        from_one = classes[0] == 1 and _follow(classes)
        start = "start at 1" if from_one else "are not 0, 1, 2, …"
        reasons.append(f"The values of the masks {start}; class ids count from 0")
    for value, reason in void.ignored.items():
        if value != IGNORE_INDEX:
            mapping["nan" if math.isnan(value) else int(value)] = "ignore"
            reasons.append(reason)
    for value in void.unknown:
        mapping[int(value)] = QUESTION
    asked = " ".join(question(value) for value in void.unknown)
    if not mapping:
        return []
    told = "; ".join(reasons)
    return [Setting("label_map", mapping, f"{told}{'.' * bool(told)} {asked}".strip())]


def _gaps(classes: Sequence[float], names: Mapping[float, str]) -> list[str]:
    missing = [v for v in range(int(classes[0]), int(classes[-1])) if v not in classes]
    if names or not missing or len(missing) > len(classes):
        return []
    return [f"The values {in_words(missing)} do not occur; they get no class."]
