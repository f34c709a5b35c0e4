"""The images to predict: found in folders, those that can be read, and what is left out."""

import mimetypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

from seg.data.files.headers import DataError, size
from seg.data.files.orientation import ExifPolicy
from seg.data.files.pairing import Pairs, report
from seg.data.files.templates import STEM, Files, Template, files_below, is_picture
from seg.files import same_file

_THREADS = 8
_EXAMPLES = 3
_NONE = Pairs((), ())
_KINDS = mimetypes.MimeTypes()  # of Python alone, not of the system, so the same everywhere


@dataclass(frozen=True)
class PredictedImages:
    """Images without masks.

    Attributes:
        pairs: The images.
        others: Files beside them whose names are not those of images.
        unreadable: What is wrong with images that were left out, one line each.
    """

    pairs: Pairs = _NONE
    others: tuple[Path, ...] = ()
    unreadable: tuple[str, ...] = ()


def find_images(sources: str | Sequence[str] | None, output: Path | None = None) -> PredictedImages:
    """Find images to predict: a folder (recursively), a file, or a list of either.

    Args:
        sources: Paths of folders and files; None is refused.
        output: Where predictions go. It is left out of the folders that it lies in.

    Raises:
        DataError: If a source does not exist, or is the folder of the predictions.
    """
    if sources is None:
        raise DataError("Nothing to predict: set data.predict to a folder or a file.")
    files: dict[str, Path] = {}
    others: list[Path] = []
    offenders: list[str] = []
    given = [sources] if isinstance(sources, str) else sources
    for source in (Path(path).expanduser() for path in given):
        if output is not None and same_file(source, output):
            raise DataError(
                f"{output}: --output is also in data.predict; give another folder for the labels."
            )
        if source.is_dir():
            template = Template("data.predict", str(source), source, STEM)
            pictures = Files.of(template, apart_from=output)
            found = pictures.by_name
            others += (path for path in files_below(source, output) if not is_picture(path))
            offenders += pictures.faults
        elif source.is_file():
            found = {source.stem: source}
        else:
            raise DataError(f"{source}: no such file or folder (data.predict).")
        offenders += [f"{found[n]}: same name as {files[n]}" for n in found if n in files]
        files |= found
    if not files and not offenders:
        beside = f"; {told(others)}" if others else ""
        offenders.append(f"no images found in {sources} (data.predict){beside}")
    pairs = Pairs(tuple(files), tuple(files.values()), offenders=tuple(offenders))
    return PredictedImages(pairs, tuple(others))


def with_sizes(
    images: PredictedImages, all_needed: bool = True, policy: ExifPolicy | None = None
) -> PredictedImages:
    """The images whose headers can be read, with their sizes; the others as `unreadable`.

    Args:
        images: What was found.
        all_needed: Whether one that cannot be read is an error.
        policy: What is done with an EXIF orientation; without one it is applied.

    Raises:
        DataError: If none can be read, or one that is needed, or two have one name.
    """
    pairs = images.pairs
    if pairs.offenders:
        raise DataError(report(pairs.offenders))
    with ThreadPoolExecutor(_THREADS) as pool:
        results = list(pool.map(_size, pairs.images, repeat(policy != "ignore")))
    faults = [result for result in results if isinstance(result, str)]
    if len(faults) == len(results) or (faults and all_needed):
        raise DataError(report(faults))
    good = [i for i, result in enumerate(results) if not isinstance(result, str)]
    kept = replace(
        pairs,
        names=tuple(pairs.names[i] for i in good),
        images=tuple(pairs.images[i] for i in good),
        sizes=tuple(r for r in results if not isinstance(r, str)),
    )
    faults += [
        f"{path}: {kind} is not read; save it as PNG"
        for path in images.others
        if (kind := _image_kind(path)) is not None
    ]
    return replace(images, pairs=kept, unreadable=tuple(faults))


def told(others: Sequence[Path]) -> str:
    """Files that are no images, in one line: how many, and the first of them."""
    noun = "1 file is no image" if len(others) == 1 else f"{len(others)} files are no images"
    more = ", …" if len(others) > _EXAMPLES else ""
    return f"{noun} by name: {', '.join(map(str, others[:_EXAMPLES]))}{more}"


def _size(path: Path, upright: bool) -> tuple[int, int] | str:
    try:
        return size(path, upright)
    except DataError as error:
        return str(error)


def _image_kind(path: Path) -> str | None:
    """The kind of image that a file is by its name, such as image/heic."""
    kind = None if path.name.startswith(".") else _KINDS.guess_type(path.name)[0]
    return kind if kind is not None and kind.startswith("image/") else None
