"""A line of a YAML with its reason, and what a folder's own files say of its labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Setting:
    """One line of a YAML, below `data:`.

    Attributes:
        key: An argument of `SegmentationDataModule`, such as "label_map".
        value: What it is set to, of the types that YAML has.
        reason: What was found, and why the line is there: one sentence for the comment above it.
    """

    key: str
    value: Any
    reason: str = ""


@dataclass(frozen=True)
class KnownLabels:
    """What the files beside the masks, or a known data set, say of labels.

    Attributes:
        names: Name of the class of each value of the masks as stored.
        colors: Name of the class of each RGB colour.
        ignored: Values and RGB colours that are void.
        source: Where it comes from, such as "labelmap.txt", for the reasons.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    colors: Mapping[Colour, str] = field(default_factory=dict)
    ignored: frozenset[int | Colour] = frozenset()
    source: str = ""
