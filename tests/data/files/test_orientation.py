"""Images that EXIF data turn: what is done is said, and masks of either kind can be used."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from seg.data import DataError, SegmentationDataModule

NAMES = ["ground", "plate"]


def write(root: Path, orientation: int, size: tuple[int, int], masks_upright: bool) -> None:
    """Three images of each split with an orientation; a mask is where its image is bright."""
    rng = np.random.default_rng(orientation)
    for split in ("train", "val"):
        for part in ("images", "masks"):
            (root / part / split).mkdir(parents=True)
        for i in range(3):
            blocks = rng.integers(0, 2, (size[0] // 8, size[1] // 8), dtype=np.uint8)
            blocks[0, 0], blocks[0, 1] = 0, 1
            mask = blocks.repeat(8, axis=0).repeat(8, axis=1)
            exif = Image.Exif()
            exif[274] = orientation
            path = root / "images" / split / f"{i}.png"
            Image.fromarray(mask * 200).save(path, exif=exif)
            with Image.open(path) as stored:
                upright = np.asarray(ImageOps.exif_transpose(stored)) // 200
            shown = upright if masks_upright else mask
            Image.fromarray(shown).save(root / "masks" / split / f"{i}.png")


def data(root: Path, policy: str | None) -> SegmentationDataModule:
    return SegmentationDataModule(
        root=str(root), class_names=NAMES, exif_orientation=policy, in_channels=1
    )


def agree(found: SegmentationDataModule) -> bool:
    dataset = found.dataset("val")
    samples = [dataset[i] for i in range(len(dataset))]
    return all(((s["image"][0] > 100) == (s["mask"] == 1)).all() for s in samples)


@pytest.mark.parametrize("size", [(24, 40), (32, 32)], ids=["oblong", "square"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_images_and_masks_are_in_line_under_the_policy_that_fits_the_masks(
    orientation: int, size: tuple[int, int], tmp_path: Path
) -> None:
    for upright, policy in ((True, "apply"), (False, "ignore")):
        root = tmp_path / policy
        write(root, orientation, size, upright)
        assert agree(data(root, policy))
        assert upright == (policy == "apply")
    assert agree(data(tmp_path / "apply", None))


@pytest.mark.parametrize("upright", [True, False])
def test_a_mismatch_of_sizes_by_an_orientation_names_it_and_the_switch(
    upright: bool, tmp_path: Path
) -> None:
    write(tmp_path, 6, (24, 40), upright)
    policy, other = ("ignore", "apply") if upright else ("apply", "ignore")
    with pytest.raises(DataError, match=rf"EXIF orientation, .* data\.exif_orientation: {other}"):
        data(tmp_path, policy).dataset("val")
    assert agree(data(tmp_path, other))


@pytest.mark.parametrize(
    ("orientation", "size", "doubtful"),
    [(6, (32, 32), True), (3, (24, 40), True), (6, (24, 40), False)],
)
def test_the_policy_is_said_once_and_is_a_warning_where_sizes_do_not_tell(
    orientation: int, size: tuple[int, int], doubtful: bool, tmp_path: Path, caplog
) -> None:
    write(tmp_path, orientation, size, True)
    with caplog.at_level(logging.INFO, "seg"):
        found = data(tmp_path, None)
        found.setup("validate")
        found.dataset("train")
    (record,) = [r for r in caplog.records if "EXIF" in r.getMessage()]
    text = record.getMessage()
    assert text.startswith("3 images have an EXIF orientation, by which they are turned upright")
    assert all(str(tmp_path / f"images/val/{i}.png") in text for i in range(3))
    assert ("data.exif_orientation: ignore" in text) == doubtful
    assert (record.levelno == logging.WARNING) == doubtful


def test_nothing_is_said_once_a_policy_is_set_or_no_image_is_turned(tmp_path: Path, caplog) -> None:
    write(tmp_path / "turned", 6, (32, 32), True)
    write(tmp_path / "upright", 1, (32, 32), True)
    with caplog.at_level(logging.INFO, "seg"):
        data(tmp_path / "turned", "apply").setup("validate")
        data(tmp_path / "upright", None).setup("validate")
    assert "EXIF" not in caplog.text
