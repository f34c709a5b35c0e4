"""Templates such as `masks/{split}/{stem}_mask`: the files of a split, and their samples' names.

`{split}` is the name of the split, `{stem}` that of the sample. A template without `{stem}` is a
folder, in which a file's path without its extension is the sample's name.
"""

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from seg.data.files.headers import IMAGE_SUFFIXES, DataError

STEM = "{stem}"
JSON = ".json"

_ANNOTATIONS = frozenset({JSON})


@dataclass(frozen=True)
class Template:
    """Where the images, or the masks, of one split are.

    Attributes:
        option: What is set to it, such as `data.images`.
        text: As given.
        folder: The folder that is searched, with all below it.
        file: What follows: the path below that folder, with `{stem}`.
    """

    option: str
    text: str
    folder: Path
    file: str

    @classmethod
    def of(cls, option: str, text: str, root: Path, split: str) -> "Template":
        """The template of one split.

        Raises:
            DataError: If `{stem}` stands in it twice.
        """
        filled = text.replace("{split}", split)
        if filled.count(STEM) > 1:
            raise DataError(f"{option} {text!r} has {STEM} more than once; one is expected.")
        if STEM not in filled:
            return cls(option, text, root / filled, STEM)
        before, after = filled.split(STEM)
        above, _, prefix = before.rpartition("/")
        return cls(option, text, root / above, f"{prefix}{STEM}{after}")

    @property
    def literal(self) -> int:
        """Number of characters of a file's path that are given."""
        return len(self.file) - len(STEM)

    def file_of(self, name: str) -> str:
        """Path below the folder that a sample's file has, `.*` standing for any extension."""
        above, _, last = name.rpartition("/")
        path = f"{above}/" * bool(above) + self.file.replace(STEM, last)
        return path if self._ending else f"{path}.*"

    def name_of(self, path: str) -> str | None:
        """Name of the sample whose file has this path below the folder, if it is one."""
        stem, ending = os.path.splitext(path)
        if ending.lower() not in self.suffixes or self._ending not in ("", ending.lower()):
            return None
        match = self._pattern.fullmatch(stem)
        return None if match is None else match["above"] + match["name"]

    @property
    def suffixes(self) -> frozenset[str]:
        """Lower-case extensions of the files: of pictures, or of annotations."""
        return _ANNOTATIONS if self._ending == JSON else IMAGE_SUFFIXES

    @property
    def _ending(self) -> str:
        ending = os.path.splitext(self.file)[1].lower()
        return ending if ending in IMAGE_SUFFIXES or ending == JSON else ""

    @property
    def _pattern(self) -> re.Pattern[str]:
        file = self.file.removesuffix(os.path.splitext(self.file)[1]) if self._ending else self.file
        before, after = map(re.escape, file.split(STEM))
        return re.compile(f"(?P<above>(?:.*/)?){before}(?P<name>[^/]+){after}", re.DOTALL)


@dataclass(frozen=True)
class Files:
    """The picture files of a template.

    Attributes:
        template: The template.
        by_name: The file of each sample, in the order of the names.
        faults: What is wrong with them, one line each.
    """

    template: Template
    by_name: dict[str, Path]
    faults: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, template: Template, other: Template | None = None, apart_from: Path | None = None
    ) -> "Files":
        """Find them; nothing is opened.

        Hidden files and folders are skipped, and so is a folder that holds the counterparts. A file
        that both templates fit belongs to the one with more characters given.

        Args:
            template: Whose files.
            other: The template of the counterparts.
            apart_from: A folder that is left out.
        """
        folder = template.folder
        if not folder.is_dir():
            missing = f"{folder}: no such folder ({template.option}: {template.text!r})"
            return cls(template, {}, (missing,))
        if other is not None and other.folder != folder:
            apart_from = other.folder
        files: dict[str, Path] = {}
        clashes = []
        for path in pictures(folder, apart_from, template.suffixes):
            name = template.name_of(path.relative_to(folder).as_posix())
            if name is None or (other is not None and _belongs_to(other, template, path)):
                continue
            if name in files:
                clashes.append(f"{path} and {files[name]} have the same name; keep one")
            else:
                files[name] = path
        return cls(template, dict(sorted(files.items())), tuple(clashes))

    def named(self, text: str) -> str | None:
        """The sample that a line of a list means: its name, or a path to its file.

        The path is one below the template's folder, or has that folder in it.
        """
        path = PurePosixPath(text.replace("\\", "/"))
        if ".." in path.parts:
            return None
        tails = [path.as_posix()]
        if self.template.folder.name in path.parts:
            last = len(path.parts) - path.parts[::-1].index(self.template.folder.name)
            tails.append("/".join(path.parts[last:]))
        for tail in tails:
            for name in (tail, self.template.name_of(tail), self.template.name_of(f"{tail}.png")):
                if name in self.by_name:
                    return name
        return None


def _belongs_to(other: Template, template: Template, path: Path) -> bool:
    if other.literal <= template.literal or not path.is_relative_to(other.folder):
        return False
    return other.name_of(path.relative_to(other.folder).as_posix()) is not None


def pictures(
    folder: Path, apart_from: Path | None = None, suffixes: Collection[str] = IMAGE_SUFFIXES
) -> Iterator[Path]:
    """Pictures, or files with other suffixes, in a folder and below it; as `files_below`."""
    return (path for path in files_below(folder, apart_from) if is_picture(path, suffixes))


def is_picture(path: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> bool:
    """Whether a file is no hidden one and has the name of a picture, or another suffix."""
    return not path.name.startswith(".") and path.suffix.lower() in suffixes


def files_below(folder: Path, apart_from: Path | None = None) -> Iterator[Path]:
    """Files in a folder and below it, each real folder once, in order.

    Hidden folders are left out. A link to a folder is followed unless what it leads to is found
    without it, so that a link to a folder above it does no harm.
    """
    seen = set() if apart_from is None else {os.path.realpath(apart_from)}
    tops = [folder]
    while tops:
        links = []
        for top, folders, names in os.walk(tops.pop(0)):
            real = os.path.realpath(top)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            links += [path for name in folders if (path := Path(top, name)).is_symlink()]
            yield from (Path(top, name) for name in sorted(names))
        tops += links
