"""Folders to pairs of image and mask, and everything that can be wrong with them in one message.

Pairs match by the path relative to their folder without its suffix, so that `a/1.jpg` belongs to
`a/1.png` and never to `b/1.png`, or by what stands for `{stem}`. That is the name of the
sample everywhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

from seg.data.files import annotations
from seg.data.files.annotations import are_coco, entries, file_of
from seg.data.files.headers import DataError, size
from seg.data.files.orientation import ExifPolicy, reason_of
from seg.data.files.split_lists import SplitList, random_share
from seg.data.files.templates import Files, Template

_SHOWN = 10
_THREADS = 8
_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")

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
        images: Template of the image folder, searched recursively, or of the image files with
            `{stem}` for the name of the sample.
        masks: Template of the masks likewise, or of a JSON of COCO, which lists the images.
        split_files: Template of a text file that lists the images of a split; see `SplitList`.
        split_fractions: Share of each split in a random division of one folder. Names are
            sorted, permuted by `split_seed` and cut at the rounded cumulative shares.
        split_seed: Seed of that division.

    Raises:
        DataError: If the templates cannot tell splits apart, or a split file is unusable.
    """
    root = Path(root)
    _refuse_same_split(images, masks, split_files, split_fractions)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder (data.root).")
    image_template = Template.of("data.images", images, root, split)
    mask_template = Template.of("data.masks", masks, root, split)
    image_files = Files.of(image_template, mask_template)
    in_json = are_coco(masks)
    mask_files = (
        entries(mask_template, image_files) if in_json else Files.of(mask_template, image_template)
    )
    offenders = [*image_files.faults, *mask_files.faults]
    folders = image_template.folder, mask_template.folder
    if not any(folder.exists() for folder in folders):
        offenders = [f"split {split!r}: no such folders {folders[0]} and {folders[1]}"]
    if not all(folder.exists() for folder in folders):
        return Pairs((), (), offenders=tuple(offenders))
    mask_of = _mask_names(image_files.by_name, mask_files.by_name)
    if in_json and "{split}" in masks and "{split}" not in images:  # it lists the split's images
        mask_of = {name: mask for name, mask in mask_of.items() if mask in mask_files.by_name}
    if split_files is not None:
        listing = SplitList(root / split_files.replace("{split}", split))
        mask_of, missing = listing.samples(image_files, mask_files, mask_of)
        offenders += missing
    if split_fractions is not None:
        kept = random_share([*mask_of], split, split_fractions, split_seed)
        mask_of = {name: mask_of[name] for name in kept}
    return _paired(split, image_files, mask_files, mask_of, offenders)


def _mask_names(images: Mapping[str, Path], masks: Mapping[str, Path]) -> dict[str, str]:
    """Name of the mask of every image, and of every mask without an image by its own name.

    A mask that is called as the image with its extension, such as 1.jpg.png, is the image's.
    """
    whole = {f"{name}{path.suffix}": name for name, path in images.items() if name not in masks}
    mask_of = {name: name for name in images}
    for mask in masks.keys() - images.keys():
        mask_of[whole.get(mask, mask)] = mask
    return dict(sorted(mask_of.items()))


def _paired(
    split: str, images: Files, masks: Files, mask_of: Mapping[str, str], offenders: list[str]
) -> Pairs:
    """The pairs of the wanted samples, with what is missing."""
    wanted = [*mask_of.items()]
    names = [(n, m) for n, m in wanted if n in images.by_name and m in masks.by_name]
    lonely = [n for n, m in wanted if m not in masks.by_name]
    if not names and lonely and masks.by_name:
        return Pairs((), (), offenders=(*offenders, _no_pair(images, masks, lonely[0])))
    offenders += [
        f"{images.by_name[n]}: no mask in {masks.template.folder} is called "
        f"{masks.template.file_of(n)}"
        for n in lonely
    ]
    offenders += [
        f"{masks.by_name[m]}: no image in {images.template.folder} is called "
        f"{images.template.file_of(n)}"
        for n, m in wanted
        if n not in images.by_name
    ]
    if not names and not offenders:
        offenders.append(f"split {split!r} is empty: {_found(images)}, {_found(masks)}")
    return Pairs(
        names=tuple(n for n, _ in names),
        images=tuple(images.by_name[n] for n, _ in names),
        masks=tuple(masks.by_name[m] for _, m in names),
        offenders=tuple(offenders),
    )


def _no_pair(images: Files, masks: Files, name: str) -> str:
    image, mask = images.by_name[name].name, next(iter(masks.by_name.values())).name
    return (
        f"no image has the name of a mask: images are called {image!r}, masks {mask!r}; write the "
        "part that they share as {stem}, such as data.masks: masks/{stem}_mask"
    )


def _found(files: Files) -> str:
    kind, template = files.template.option.removeprefix("data."), files.template
    return (
        f"{len(files.by_name)} {kind} in {template.folder} ({template.option}: {template.text!r})"
    )


def check(
    splits: Sequence[Pairs], lossy_masks: bool = False, policy: ExifPolicy | None = None
) -> list[Pairs]:
    """Read every header, in threads, and add the sizes; all that is wrong is raised at once.

    Args:
        splits: What was found.
        lossy_masks: Whether masks may be JPEGs.
        policy: What is done with an EXIF orientation; without one it is applied.

    Raises:
        DataError: If anything is wrong; the message lists the first ten and counts the rest.
    """
    checked, offenders = [], []
    with ThreadPoolExecutor(_THREADS) as pool:
        for pairs in splits:
            masks: Iterable[Path | None] = pairs.masks or [None] * len(pairs)
            how = repeat(lossy_masks), repeat(policy)
            results = list(pool.map(_check_one, pairs.images, masks, *how))
            offenders += [*pairs.offenders, *(r for r in results if isinstance(r, str))]
            checked.append(
                replace(pairs, sizes=tuple(r for r in results if not isinstance(r, str)))
            )
    if offenders:
        raise DataError(report(offenders))
    return checked


def _check_one(
    image: Path, mask: Path | None, lossy: bool, policy: ExifPolicy | None
) -> Size | str:
    """Size of a good pair, or what is wrong with it."""
    try:
        found = size(image, policy != "ignore")
        if mask is None:
            return found
        if not lossy and mask.suffix.lower() in _JPEG and file_of(mask) is None:
            return (
                f"{mask}: a mask must not be a JPEG, which changes labels; save it as PNG, or set "
                "data.mask_threshold if it is black and white, data.color_tolerance if it has "
                "colours"
            )
        mask_size = annotations.size(mask)
    except DataError as error:
        return str(error)
    if found != mask_size:
        sizes = f"{image} is {found[0]} x {found[1]} but {mask} is {mask_size[0]} x {mask_size[1]}"
        return sizes + reason_of(image, found, mask_size, policy)
    return found


def report(offenders: Sequence[str], title: str | None = None) -> str:
    """What is wrong with files, in one message: the first ten, and how many more.

    Args:
        offenders: One line each.
        title: Left out, it is the number of problems.
    """
    noun = "problem" if len(offenders) == 1 else "problems"
    title = f"{len(offenders)} {noun} with the data files:" if title is None else title
    lines = [title, *offenders[:_SHOWN]]
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
    told_by = images + masks * are_coco(masks) if split_files is None else split_files
    if fractions is None and "{split}" not in told_by:
        raise DataError(
            f"Every split would be the same files: neither data.images ({images!r}) nor "
            "data.split_files has {split}; use it, or set data.split_fractions."
        )
