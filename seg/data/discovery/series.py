"""The pictures of a folder in series: files that one template of the data module describes."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os.path import splitext
from pathlib import PurePosixPath
from typing import Literal

from seg.data.discovery.words import IMAGE_WORDS, MASK_WORDS, OTHER_WORDS, Part, affix, words_of

SampleKey = tuple[str, str]
"""Split of a file ("" if none is told), and name of its sample."""

Reading = Literal["template", "whole", "nested"]

_MOST_AFFIXES = 8
_MOST_CHANNELS = 5
_CHANNEL = re.compile(r"_\d{4}$")
"""Of an image in files of one channel each, as nnU-Net has them."""
_MOST_FOLDERS = 60
"""Beyond these, folders are those of samples, and every pair of them would be compared."""


@dataclass(frozen=True)
class Place:
    """A picture, and what its folder says.

    Attributes:
        path: Below the root.
        folder: The folders down to the last that says something, with `{split}`.
        split: What stands for `{split}`; "" without.
        below: The folders after those, with a slash at the end; "" without.
        stem: Name of the file without its extension.
        suffix: That extension.
    """

    path: PurePosixPath
    folder: str
    split: str
    below: str
    stem: str
    suffix: str

    @classmethod
    def of(cls, path: PurePosixPath, reading: Reading = "template") -> "Place":
        """Read a path below the root.

        Args:
            path: The path.
            reading: "template": `folder` ends with the last folder that says something. "whole": it
                is the whole path. "nested": it is the folders that say something, wherever they
                are, so that each sample, or each patient, may have them; no template is so.
        """
        folders = path.parts[:-1]
        parts = [Part.of(name) for name in folders]
        last = max((i + 1 for i, part in enumerate(parts) if part.speaks), default=0)
        last = len(parts) if reading == "whole" else last
        split = next((part.split for part in reversed(parts[:last]) if part.split), "")
        texts, below = [], []
        for i, (name, part) in enumerate(zip(folders, parts, strict=True)):
            if i >= last or (reading == "nested" and not part.speaks):
                below.append(f"{name}/")
            else:
                texts.append(part.text if split and part.split == split else name)
        stem, suffix = splitext(path.name)
        return cls(path, "/".join(texts), split, "".join(below), stem, suffix)


@dataclass(frozen=True)
class Series:
    """Files of one kind.

    Attributes:
        template: What `data.images` or `data.masks` is set to for them.
        files: Path of each below the root.
        given: Number of characters that the template gives.
    """

    template: str
    files: dict[SampleKey, PurePosixPath]
    given: int

    @property
    def kind(self) -> str:
        """What its names say that it is: "mask", "image", or "" if they are silent.

        The name of the file counts before that of its folder, and that before those above, but a
        file that is called an image in a folder of masks is a mask.
        """
        folder, _, file = self.template.rpartition("/") if self.given else (self.template, "", "")
        parts = [words_of(part) for part in (file, *reversed(folder.split("/")))]
        if parts[0] & MASK_WORDS:
            return "mask"
        for words in (*parts[1:], parts[0]):
            if words & (MASK_WORDS | IMAGE_WORDS):
                return "mask" if words & MASK_WORDS else "image"
        return ""

    @property
    def others(self) -> int:
        """Number of words that say it is something else, such as of instances or previews."""
        return len(words_of(self.template) & OTHER_WORDS)

    @property
    def are_training_ids(self) -> bool:
        """Whether its names say that the values are the ids to train with, as in Cityscapes."""
        words = words_of(self.template)
        return {"train", "ids"} <= words or "trainids" in words


def find_series(paths: Iterable[PurePosixPath], reading: Reading = "template") -> list[Series]:
    """All series that the pictures of a folder may be; a file may be in several.

    Args:
        paths: The pictures, below the root.
        reading: As in `Place.of`.
    """
    folders: dict[str, list[Place]] = defaultdict(list)
    for path in paths:
        place = Place.of(path, reading)
        folders[place.folder].append(place)
    if reading != "nested" and len(folders) > _MOST_FOLDERS:
        return []
    return [series for folder in sorted(folders) for series in _of_folder(folder, folders[folder])]


def _of_folder(folder: str, places: Sequence[Place]) -> list[Series]:
    """The series of one folder: all files, those of each affix, those of each extension."""
    counts = Counter(affix(place.stem) for place in places)
    counts[_common(places)] += 0
    channels = Counter(("", match[0]) for p in places if (match := _CHANNEL.search(p.stem)))
    counts.update(channels if len(channels) <= _MOST_CHANNELS else {})
    affixes = [pair for pair, _ in counts.most_common(_MOST_AFFIXES) if pair != ("", "")]
    found = [_series(folder, places, "", "", "")]
    found += [_series(folder, places, *pair, "") for pair in affixes]
    suffixes = sorted({place.suffix.lower() for place in places})
    if len(suffixes) > 1:
        found += [_series(folder, places, "", "", suffix) for suffix in suffixes]
    if any(place.below for place in places):
        stems = [stem for stem, count in Counter(p.stem for p in places).items() if count > 1]
        found += [_of_parents(folder, places, stem) for stem in sorted(stems)[:_MOST_AFFIXES]]
    return [series for series in found if series.files]


def _series(folder: str, places: Sequence[Place], before: str, after: str, suffix: str) -> Series:
    files: dict[SampleKey, PurePosixPath] = {}
    for place in places:
        stem = place.stem
        fits = stem.startswith(before) and stem.endswith(after) and len(stem) > len(before + after)
        if fits and place.suffix.lower().endswith(suffix):
            name = stem[len(before) : len(stem) - len(after)]
            files.setdefault((place.split, place.below + name), place.path)
    file = f"{before}{{stem}}{after}{suffix}"
    template = f"{folder}/{file}" if folder else file
    plain = file == "{stem}" and folder
    return Series(folder if plain else template, files, len(before + after + suffix))


def _of_parents(folder: str, places: Sequence[Place], stem: str) -> Series:
    """Files of one name, each in the folder of its sample."""
    files: dict[SampleKey, PurePosixPath] = {}
    for place in places:
        if place.stem == stem and place.below:
            files.setdefault((place.split, place.below.rstrip("/")), place.path)
    template = f"{folder}/{{stem}}/{stem}" if folder else f"{{stem}}/{stem}"
    return Series(template, files, len(stem) + 1)


def _common(places: Sequence[Place]) -> tuple[str, str]:
    """What all names of some files begin or end with, up to a border between words."""
    stems = [place.stem for place in places]
    if len(stems) < 2:
        return "", ""
    after = _beginning([stem[::-1] for stem in stems])[::-1]
    start = next((i for i, c in enumerate(after) if not c.isalnum()), None)
    if start is not None:
        return "", after[start:]
    before = _beginning(stems)
    ends = [i for i, c in enumerate(before) if not c.isalnum()]
    return (before[: ends[-1] + 1], "") if ends else ("", "")


def _beginning(texts: Sequence[str]) -> str:
    """The letters that all texts begin with."""
    low, high = min(texts), max(texts)
    length = next((i for i, c in enumerate(low) if high[i : i + 1] != c), len(low))
    return low[:length]
