"""Folders to pairs of image and mask, and everything that can be wrong with them in one message.

Pairs match by the path relative to their folder without its suffix, so that `a/1.jpg` belongs to
`a/1.png` and never to `b/1.png`. That relative path is the name of the sample everywhere.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from seg.data.files.headers import IMAGE_SUFFIXES, DataError, size
from seg.files import same_file

_SHOWN = 10
_THREADS = 8

Size = tuple[int, int]


@dataclass(frozen=True)
class Pairs:
    """The files of one split, in the order they are evaluated.

    Attributes:
        names: Relative path without suffix, one a sample.
        images: Image files.
        masks: Mask files, or nothing where only images are wanted.
        sizes: Height and width of each image; empty until `check` has run.
        offenders: What is wrong so far, one line each; `check` raises on any.
    """

    names: tuple[str, ...]
    images: tuple[Path, ...]
    masks: tuple[Path, ...] = ()
    sizes: tuple[Size, ...] = ()
    offenders: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


def find_pairs(
    root: Path | str,
    split: str,
    images: str = "images/{split}",
    masks: str = "masks/{split}",
    split_files: str | None = None,
    split_fractions: Mapping[str, float] | None = None,
    split_seed: int = 0,
) -> Pairs:
    """Find the images and masks of a split; nothing is opened.

    Args:
        root: Folder that the templates are relative to.
        split: Name that replaces `{split}`.
        images: Template of the image folder, searched recursively.
        masks: Template of the mask folder.
        split_files: Template of a text file that lists the names of a split, one a line.
        split_fractions: Share of each split in a random division of one folder. Names are
            sorted, permuted by `split_seed` and cut at the rounded cumulative shares.
        split_seed: Seed of that division.

    Raises:
        DataError: If the templates cannot tell splits apart, or a split file is unusable.
    """
    root = Path(root)
    _refuse_same_split(images, masks, split_files, split_fractions)
    image_folder, mask_folder = (root / t.replace("{split}", split) for t in (images, masks))
    image_files, offenders = _by_name(image_folder, apart_from=mask_folder)
    mask_files, mask_offenders = _by_name(mask_folder, apart_from=image_folder)
    offenders += mask_offenders
    wanted = sorted(image_files.keys() | mask_files.keys())
    if split_files is not None:
        listing = root / split_files.replace("{split}", split)
        wanted, missing = _listed(listing, image_folder, image_files)
        offenders += missing
    if split_fractions is not None:
        wanted = _share(wanted, split, split_fractions, split_seed)
    names = [n for n in wanted if n in image_files and n in mask_files]
    offenders += [
        f"{image_files[n]}: no mask in {mask_folder}" for n in wanted if n not in mask_files
    ]
    offenders += [
        f"{mask_files[n]}: no image in {image_folder}" for n in wanted if n not in image_files
    ]
    if not names and not offenders:
        offenders.append(
            f"split {split!r} is empty: {len(image_files)} images in {image_folder} (data.images: "
            f"{images!r}), {len(mask_files)} masks in {mask_folder} (data.masks: {masks!r})"
        )
    return Pairs(
        names=tuple(names),
        images=tuple(image_files[n] for n in names),
        masks=tuple(mask_files[n] for n in names),
        offenders=tuple(offenders),
    )


def find_images(sources: str | Sequence[str], output: Path | None = None) -> Pairs:
    """Find images to predict: a folder (recursively), a file, or a list of either.

    Args:
        sources: Paths of folders and files.
        output: Where predictions go. It is left out of the folders that it lies in.

    Raises:
        DataError: If a source does not exist, or is the folder of the predictions.
    """
    files: dict[str, Path] = {}
    offenders: list[str] = []
    for source in map(Path, [sources] if isinstance(sources, str) else sources):
        if output is not None and same_file(source, output):
            raise DataError(
                f"{output}: --output is also in data.predict; give another folder for the labels."
            )
        if source.is_dir():
            found, problems = _by_name(source, apart_from=output)
            offenders += problems
        elif source.is_file():
            found = {source.stem: source}
        else:
            raise DataError(f"{source}: no such file or folder (data.predict).")
        offenders += [f"{found[n]}: same name as {files[n]}" for n in found if n in files]
        files |= found
    if not files and not offenders:
        offenders.append(f"no images found in {sources} (data.predict)")
    return Pairs(tuple(files), tuple(files.values()), offenders=tuple(offenders))


def check(splits: Sequence[Pairs]) -> list[Pairs]:
    """Read every header, in threads, and add the sizes; all that is wrong is raised at once.

    Raises:
        DataError: If anything is wrong; the message lists the first ten and counts the rest.
    """
    checked, offenders = [], []
    with ThreadPoolExecutor(_THREADS) as pool:
        for pairs in splits:
            masks: Iterable[Path | None] = pairs.masks or [None] * len(pairs)
            results = list(pool.map(_check_one, pairs.images, masks))
            offenders += [*pairs.offenders, *(r for r in results if isinstance(r, str))]
            checked.append(
                replace(pairs, sizes=tuple(r for r in results if not isinstance(r, str)))
            )
    if offenders:
        raise DataError(report(offenders))
    return checked


def _check_one(image: Path, mask: Path | None) -> Size | str:
    """Size of a good pair, or what is wrong with it."""
    try:
        found = size(image)
        if mask is None:
            return found
        if mask.suffix.lower() in (".jpg", ".jpeg"):
            return f"{mask}: a mask must not be a JPEG, which changes labels; save it as PNG"
        mask_size = size(mask)
    except DataError as error:
        return str(error)
    if found != mask_size:
        return f"{image} is {found[0]} x {found[1]} but {mask} is {mask_size[0]} x {mask_size[1]}"
    return found


def report(offenders: Sequence[str]) -> str:
    """What is wrong with files, in one message: the first ten, and how many more."""
    noun = "problem" if len(offenders) == 1 else "problems"
    lines = [f"{len(offenders)} {noun} with the data files:", *offenders[:_SHOWN]]
    text = "\n  - ".join(lines)
    rest = len(offenders) - _SHOWN
    return f"{text}\n  … and {rest} more" if rest > 0 else text


def _refuse_same_split(
    images: str, masks: str, split_files: str | None, fractions: Mapping[str, float] | None
) -> None:
    if images == masks:
        raise DataError(f"data.images and data.masks are the same folder template, {images!r}.")
    if fractions is not None and split_files is not None:
        raise DataError("data.split_fractions and data.split_files exclude each other; keep one.")
    if fractions is not None and "{split}" in images + masks:
        raise DataError(
            f"data.split_fractions divides one folder, but {images!r} or {masks!r} has {{split}}; "
            "name the folders without it."
        )
    if fractions is None and "{split}" not in (images if split_files is None else split_files):
        raise DataError(
            f"Every split would be the same files: neither data.images ({images!r}) nor "
            "data.split_files has {split}; use it, or set data.split_fractions."
        )


def _by_name(folder: Path, apart_from: Path | None = None) -> tuple[dict[str, Path], list[str]]:
    """Picture files below a folder by name, in order, and those that share a name.

    Hidden files and folders are skipped, and so is a folder that holds the counterparts.
    """
    apart = None if apart_from is None else os.path.realpath(apart_from)
    files: dict[str, Path] = {}
    clashes = []
    for top, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(
            d for d in folders if not d.startswith(".") and os.path.realpath(Path(top, d)) != apart
        )
        for name in sorted(names):
            path = Path(top, name)
            if name.startswith(".") or path.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            key = path.relative_to(folder).with_suffix("").as_posix()
            if key in files:
                clashes.append(f"{path} and {files[key]} have the same name; keep one")
            else:
                files[key] = path
    return dict(sorted(files.items())), clashes


def _listed(listing: Path, folder: Path, known: Mapping[str, Path]) -> tuple[list[str], list[str]]:
    """Names in a split file, and those of its lines that name no image or name one twice."""
    try:
        lines = [line.strip() for line in listing.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{listing}: cannot be read ({error}); see data.split_files.") from error
    names: dict[str, None] = {}  # an ordered set
    missing = []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        path = PurePosixPath(line)
        if path.is_absolute() or ".." in path.parts or "\\" in line:
            raise DataError(
                f"{listing}: {line!r} leaves the image folder; name files relative to it."
            )
        suffixed = path.suffix.lower() in IMAGE_SUFFIXES
        name = path.with_suffix("").as_posix() if suffixed else path.as_posix()
        if name in names:
            missing.append(f"{listing}: {line!r} is listed twice")
        elif name in known:
            names[name] = None
        else:
            missing.append(f"{listing}: no image in {folder} (data.images) is called {line!r}")
    if not names and not missing:
        missing.append(f"{listing}: lists no images")
    return [*names], missing


def _share(
    names: Sequence[str], split: str, fractions: Mapping[str, float], seed: int
) -> list[str]:
    """The names of one split, sorted; splits are disjoint."""
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
