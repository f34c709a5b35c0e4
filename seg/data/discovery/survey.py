"""What a survey of masks finds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import ImageColor

from seg.data.discovery.setting import Setting
from seg.data.files.palettes import unpack

VOID_WORDS = frozenset(
    {"void", "ignore", "ignored", "unlabeled", "unlabelled", "unknown", "undefined", "dontcare"}
)
"""Names of classes that are none, without case, spaces and signs."""

_CSS = {name: ImageColor.getrgb(name)[:3] for name in ImageColor.colormap}


@dataclass(frozen=True)
class MaskSurvey:
    """What masks are.

    Attributes:
        kind: In words, for whoever reads the YAML.
        class_names: Final, in the order of their ids.
        settings: Lines of the YAML.
        questions: What cannot be known, in the words with which the data module refuses it.
        faults: Why masks cannot be read, one line each.
        remarks: What stops nothing.
    """

    kind: str
    class_names: tuple[str, ...]
    settings: tuple[Setting, ...]
    questions: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def refused(kind: str, fault: str) -> MaskSurvey:
    """A survey of masks that cannot be read."""
    return MaskSurvey(kind, (), (), faults=(fault,))


def is_void(name: str) -> bool:
    """Whether a class of this name is none, such as `void` or `__ignore__`."""
    return "".join(filter(str.isalnum, name.lower())) in VOID_WORDS


def colour_name(code: int) -> str:
    """Name of the CSS colour that is nearest to 0xRRGGBB."""
    rgb = unpack(code)
    return min(
        _CSS, key=lambda name: sum((a - b) ** 2 for a, b in zip(_CSS[name], rgb, strict=True))
    )


def without_twins(names: Iterable[str]) -> list[str]:
    """The names; one that came before gets a number."""
    found: dict[str, None] = {}
    for name in names:
        number, unique = 2, name
        while unique in found:
            number, unique = number + 1, f"{name}_{number}"
        found[unique] = None
    return [*found]


def names_setting(names: Sequence[str], source: str) -> Setting:
    """The line of the names of the classes."""
    reason = f"Names from {source}." if source else "No file names the classes: rename these."
    return Setting("class_names", [*names], reason)


def in_words(values: Sequence[float]) -> str:
    """Numbers in ascending order, with whole ones that follow each other as a range."""
    runs: list[list[float]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    texts = [
        text
        for run in runs
        for text in (
            [f"{run[0]:.6g} to {run[-1]:.6g}"] if len(run) > 2 else [f"{v:.6g}" for v in run]
        )
    ]
    if len(texts) > 8:
        texts = [*texts[:6], f"{len(texts) - 7} more", texts[-1]]
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]])) if texts else "none"


def listed(names: Iterable[str]) -> str:
    """Names with commas, the first eight."""
    texts = [*names]
    return ", ".join(texts[:8]) + (f" and {len(texts) - 8} more" if len(texts) > 8 else "")
