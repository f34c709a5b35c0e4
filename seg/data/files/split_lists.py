"""Which samples a split has, by a list in a text file or by a random division."""

import codecs
import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from seg.data.files.headers import DataError
from seg.data.files.templates import Files

_SEPARATORS = "\t,;"
_HEADINGS = frozenset({"image", "images", "image_path", "img", "file", "filename", "name", "path"})


class SplitList:
    """The lines of a text file that lists the images of a split, and perhaps their masks.

    A line is the name of an image, with or without its extension, or a path to it: below the image
    folder, or with that folder in it. A second column, after a comma, a tab or a space, is its mask
    likewise. Lines that begin with # and a CSV's headings are skipped.

    Args:
        path: The file: UTF-8, or UTF-16 with a byte order mark.

    Raises:
        DataError: If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            data = path.read_bytes()
            utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            text = data.decode("utf-16" if utf_16 else "utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error}); see data.split_files.") from error
        self._lines = [line.strip() for line in text.splitlines()]

    def samples(
        self, images: Files, masks: Files, mask_of: Mapping[str, str]
    ) -> tuple[dict[str, str], list[str]]:
        """Names of the images that are listed, each with that of its mask, and what is wrong.

        Args:
            images: All images.
            masks: All masks.
            mask_of: Name of the mask of each image that is listed without one.

        Raises:
            DataError: If a line leaves the image folder.
        """
        found: dict[str, str] = {}
        faults = []
        for line, columns in self._rows(images):
            name = images.named(columns[0])
            if name is None:
                self._refuse_outside(line, columns[0])
                faults.append(self._not_found(images, line))
                continue
            mask = mask_of[name] if len(columns) < 2 else masks.named(columns[1])
            if mask is None:
                faults.append(self._not_found(masks, columns[1]))
            elif name in found:
                faults.append(f"{self.path}: {line!r} is listed twice")
            else:
                found[name] = mask
        if not found and not faults:
            faults.append(f"{self.path}: lists no images")
        return found, faults

    def _not_found(self, files: Files, text: str) -> str:
        folder, option = files.template.folder, files.template.option
        kind = option.removeprefix("data.").removesuffix("s")
        return f"{self.path}: no {kind} in {folder} ({option}) is called {text!r}"

    def _rows(self, images: Files) -> Iterator[tuple[str, list[str]]]:
        lines = [line for line in self._lines if line and not line.startswith("#")]
        for number, line in enumerate(lines):
            whole = images.named(line) is not None  # a name may hold spaces
            columns = [line] if whole else _columns(line)
            if number > 0 or whole or columns[0].lower() not in _HEADINGS:
                yield line, columns

    def _refuse_outside(self, line: str, column: str) -> None:
        path = PurePosixPath(column.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise DataError(
                f"{self.path}: {line!r} leaves the image folder; name files relative to it."
            )


def _columns(line: str) -> list[str]:
    for separator in _SEPARATORS:
        if separator in line:
            row = next(csv.reader([line], delimiter=separator))
            return [column.strip() for column in row]
    return line.split()


def random_share(
    names: Sequence[str], split: str, fractions: Mapping[str, float], seed: int
) -> list[str]:
    """The names of one split of a random division, sorted; splits are disjoint.

    Args:
        names: All names.
        split: Which split.
        fractions: Share of each split.
        seed: Seed of the permutation that is cut at the rounded cumulative shares.

    Raises:
        DataError: If the split has no share, or the shares are not positive or above 1 together.
    """
    if split not in fractions:
        raise DataError(
            f"Split {split!r} is not in data.split_fractions, which has {', '.join(fractions)}."
        )
    if min(fractions.values()) <= 0 or sum(fractions.values()) > 1 + 1e-9:
        raise DataError(
            f"data.split_fractions {dict(fractions)} must be positive and sum to at most 1."
        )
    ends = np.rint(np.cumsum([*fractions.values()]) * len(names)).astype(int)
    place = [*fractions].index(split)
    start = ends[place - 1] if place else 0
    order = np.random.default_rng(seed).permutation(len(names))
    return sorted(names[i] for i in order[start : ends[place]])
