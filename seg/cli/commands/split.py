"""`seg split`: lists of a training, a validation and a test split that show every class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from seg.cli.data_parser import advancing, data_parser
from seg.cli.given_values import root_from_environment
from seg.data import DataError, SegmentationDataModule, SegmentationDataset
from seg.data.groups import check_groups, group_of
from seg.data.scan.faults import told_together
from seg.data.splitting import Unmet, stratify
from seg.errors import InputError
from seg.files import refuse_overwriting, write_text
from seg.report.terminal import print_lines, print_table

FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}
_FIRST_LINE = "# Written by seg split.\n"


def main(args: list[str]) -> int:
    """Divide the images of a YAML; returns the exit status.

    Raises:
        InputError: If the data cannot be read, or cannot be divided as asked.
    """
    parser = data_parser("split", "Divide images so that every split shows every class.")
    parser.add_argument("--output", default="splits", help="Folder of the lists.")
    parser.add_argument(
        "--fractions", type=dict[str, float], default=FRACTIONS, help="Share of each split."
    )
    parser.add_argument(
        "--group",
        type=str | None,
        help="Regular expression, found in the name of each image: images in which its first "
        "group (or all of it) is the same, say a patient or a video, stay together.",
    )
    parser.add_argument("--min_images", type=int, default=1, help="Of each class, in each split.")
    parser.add_argument("--seed", type=int, default=0, help="Of the order of what is equal.")
    config = parser.parse_args([*root_from_environment(args), *args])
    _refuse_divided_folders(config.data)
    check_groups(config.group, "--group")
    folder, splits, read = Path(config.output).resolve(), list(config.fractions), []
    if config.data.split_files is not None:
        lists = Path(config.data.root, config.data.split_files).expanduser()
        read = [str(lists).replace("{split}", split) for split in splits]
    refuse_overwriting([folder / f"{split}.txt" for split in splits], read, _is_list)
    config.data.split_files = None
    config.data.split_fractions = {config.data.train_split: 1.0}
    data = parser.instantiate(config).data
    names, pixels = _scanned(data)
    groups = names
    if config.group is not None:
        groups = [group_of(config.group, "--group", name) for name in names]
    place = _stratified(data.class_names, pixels, groups, config)
    for number, split in enumerate(splits):
        listed = sorted(name for name, p in zip(names, place, strict=True) if p == number)
        lines = (_FIRST_LINE, *(f"{name}\n" for name in listed))
        write_text(folder / f"{split}.txt", "".join(lines))
    _print_table(data.class_names, splits, pixels, place)
    use = f"--data.split_fractions=null --data.split_files {folder}/{{split}}.txt"
    print_lines([f"Use them with: {use}"])
    return 0


def _is_list(path: Path) -> bool:
    """Whether a file is a list that was written here."""
    return path.read_bytes().startswith(_FIRST_LINE.encode())


def _refuse_divided_folders(data: Any) -> None:
    if data.root is None:
        raise InputError("seg split needs files: give --data.root PATH.")
    for option in ("images", "masks"):
        if "{split}" in data[option]:
            raise InputError(
                f"data.{option} {data[option]!r} has {{split}}: a list cannot move an image to "
                "another folder; name the one folder of all images and the one of all masks."
            )


def _scanned(data: SegmentationDataModule) -> tuple[list[str], NDArray[np.int64]]:
    """Names of all images, and pixels of each class in each of them."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        dataset = data.dataset("train")
        scan, faults = data.try_scan("train", advancing(bar, "all images", len(dataset)))
    if faults:
        raise DataError(told_together([faults[index] for index in sorted(faults)]))
    assert isinstance(dataset, SegmentationDataset)
    return list(dataset.pairs.names), scan.pixels


def _stratified(
    class_names: Sequence[str], pixels: NDArray[np.int64], groups: Sequence[str], config: Any
) -> NDArray[np.int64]:
    """As `stratify`; what cannot be met is said with the numbers of the class."""
    wanted = len(config.fractions) * config.min_images
    for name, column in zip(class_names, pixels.T, strict=True):
        images = int((column > 0).sum())
        within = len({g for g, p in zip(groups, column, strict=True) if p})
        few = images < wanted or (config.min_images > 0 and within < len(config.fractions))
        if images and few:
            raise InputError(
                f"{name} is in {images} images of {within} groups, too few for {config.min_images} "
                f"in each of {len(config.fractions)} splits; lower --min_images, or leave out a "
                "split."
            )
    settings = list(config.fractions.values()), config.min_images, config.seed
    try:
        return stratify(pixels, groups, *settings)
    except Unmet as unmet:
        name, column = class_names[unmet.class_id], pixels[:, unmet.class_id]
        within = len({g for g, p in zip(groups, column, strict=True) if p})
        raise InputError(
            f"{name} is in {int((column > 0).sum())} images of {within} groups; no division was "
            f"found that gives {config.min_images} to each split without taking another class "
            f"from one: {list(config.fractions)[unmet.split]} has {unmet.images} in the best. "
            "Lower --min_images, or make groups smaller."
        ) from unmet


def _print_table(
    class_names: Sequence[str],
    splits: Sequence[str],
    pixels: NDArray[np.int64],
    place: NDArray[np.int64],
) -> None:
    """Of each class the images in every split, and its share of the pixels there."""
    parts = {"all": pixels, **{s: pixels[place == i] for i, s in enumerate(splits)}}
    print_table(
        "images, and share of the pixels",
        list(parts),
        (
            (name, *(_cell(part[:, c], part.sum()) for part in parts.values()))
            for c, name in enumerate(class_names)
        ),
        ("images", *(f"{len(part):,}" for part in parts.values())),
    )


def _cell(column: NDArray[np.int64], total: int) -> str:
    share = 100 * column.sum() / total if total else 0.0
    return f"{int((column > 0).sum()):,}  {share:.3f} %"
