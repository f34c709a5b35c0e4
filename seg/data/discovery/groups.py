"""What in the names of images says that some belong together: a patient, a video, a folder."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_FEWEST = 3
"""Groups below which they cannot be divided among three splits."""
_TOGETHER = 0.5
"""Share of the images that have to share their group with another."""

_OWNERS = (
    "patient|subject|subj|sub|case|pat|animal|person|specimen|video|vid|sequence|seq|clip|volume|"
    "vol|scan|study|site|plot|field|scene|slide|wsi|series|flight|run|day"
)

_COPIES = r"^(.+)\.rf\.[0-9a-f]+"  # that Roboflow augmented
_OWNED = rf"(?i)(?:^|/|[_-])((?:{_OWNERS})[_-]?\d+)"
_EXPRESSIONS = (
    _COPIES,
    _OWNED,
    r"^(.+)/",
    r"^(?!(?:19|20)\d\d[_-])([^/]*?\d[^/]*?)[_-](?:[A-Za-z]+[_-]?)?\d+$",  # but no year
)


@dataclass(frozen=True)
class Groups:
    """Images that belong together.

    Attributes:
        expression: As for `seg split --group`: its first group is the name of the images' group.
        of: Group of each image.
        example: One of them, with its images.
    """

    expression: str
    of: tuple[str, ...]

    @property
    def example(self) -> str:
        """The largest group, in words."""
        name, count = Counter(self.of).most_common(1)[0]
        return f"{count} images of {name!r}"


def find_groups(names: Sequence[str]) -> Groups | None:
    """The first kind of groups that divides the names into at least three, most of several images.

    Args:
        names: Of the images.
    """
    for expression in _EXPRESSIONS:
        found = [re.search(expression, name) for name in names]
        if any(match is None for match in found):
            continue
        of = tuple(match[1] for match in found if match is not None)
        counts = Counter(of)
        several = sum(count for count in counts.values() if count > 1)
        if len(counts) >= _FEWEST and several >= _TOGETHER * len(names):
            return Groups(expression, of)
    return None


def divided_groups(names: Mapping[str, Sequence[str]]) -> list[str]:
    """Says which owners, such as patients, and which copies of an image are in several splits.

    Args:
        names: Of the images of each split.
    """
    lines = []
    for expression in (_COPIES, _OWNED):
        of = {
            split: {match[1] for name in found if (match := re.search(expression, name))}
            for split, found in names.items()
        }
        for split in [split for split in of if split != "train"]:
            both = sorted(of.get("train", set()) & of[split])
            if both:
                more = f" and {len(both) - 1} more" if len(both) > 1 else ""
                lines.append(
                    f"{both[0]}{more}: in train and in {split}, so scores of {split} will be "
                    "higher than on new data; see seg split --group."
                )
    return lines
