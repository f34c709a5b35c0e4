"""A pixel of a mask takes the class of the nearest colour, if that is near enough."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import cdist

from seg.constants import IGNORE_INDEX
from seg.data import SegmentationDataModule
from seg.data.files.headers import DataError
from seg.data.files.labels import Labels
from seg.data.scan.components import find_regions
from seg.errors import InputError

COLOURS = [[0, 0, 0], [200, 30, 30], [30, 200, 60], [90, 60, 220]]
VOID = [250, 250, 250]
TOLERANCE = 150.0


def labels(tolerance: float | None = TOLERANCE, **options: Any) -> Labels:
    given = {"class_colors": COLOURS, "ignore_colors": [VOID], **options}
    return Labels(4, **given, color_tolerance=tolerance)


def nearest(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class id of the nearest colour of each pixel, in float64, and its distance."""
    distance = cdist(rgb.reshape(-1, 3).astype(np.float64), np.array([*COLOURS, VOID]))
    ids = np.array([0, 1, 2, 3, IGNORE_INDEX])[distance.argmin(1)]
    return ids.reshape(rgb.shape[:2]), distance.min(1).reshape(rgb.shape[:2])


def test_every_colour_takes_the_nearest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (300, 400, 3)).astype(np.uint8)
    ids, distance = nearest(noise)
    noise[distance > TOLERANCE] = 0
    ids[distance > TOLERANCE] = 0
    Image.fromarray(noise).save(tmp_path / "mask.png")
    given = labels()
    np.testing.assert_array_equal(given.read(tmp_path / "mask.png"), ids)
    values = given.read_values(tmp_path / "mask.png")
    counts = find_regions(values.values, 4, values.to_ids).pixels
    assert counts.tolist() == np.bincount(ids.ravel(), minlength=256)[:4].tolist()
    worker = pickle.loads(pickle.dumps(given))
    np.testing.assert_array_equal(worker.read(tmp_path / "mask.png"), ids)
    assert len(pickle.dumps(given)) < 2**20  # without the table


@pytest.mark.parametrize("name", ["mask.jpg", "mask.webp", "mask.jp2"])
def test_colours_in_a_lossy_coding_are_read(name: str, tmp_path: Path) -> None:
    ids = np.zeros((64, 64), np.uint8)
    ids[:32, 32:], ids[32:, :32], ids[32:, 32:] = 1, 2, 3
    Image.fromarray(np.array(COLOURS, np.uint8)[ids]).save(tmp_path / name, quality=90)
    assert (labels(100).read(tmp_path / name) == ids).mean() > 0.98  # all but some edges
    with pytest.raises(DataError, match=r"data\.color_tolerance if it has colours"):
        labels(None).read(tmp_path / name)


def test_the_distance_is_euclidean_and_its_end_counts(tmp_path: Path) -> None:
    rgb = np.array([[[3, 4, 0], [0, 0, 5], [200, 30, 25], [197, 34, 30]]], np.uint8)
    Image.fromarray(rgb).save(tmp_path / "mask.png")
    assert labels(5).read(tmp_path / "mask.png").tolist() == [[0, 0, 1, 1]]
    with pytest.raises(DataError, match=r"is farther than data\.color_tolerance 4\.9 from every"):
        labels(4.9).read(tmp_path / "mask.png")


def test_of_two_as_near_the_first_counts(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2, 3), 10, np.uint8)).save(tmp_path / "mask.png")
    colours = [[20, 10, 10], [0, 10, 10]]
    for order in (colours, colours[::-1]):
        found = Labels(2, class_colors=order, color_tolerance=10).read(tmp_path / "mask.png")
        assert not found.any()


def test_a_colour_too_far_is_refused_with_the_nearest_class_and_counted(tmp_path: Path) -> None:
    rgb = np.zeros((4, 4, 3), np.uint8)
    rgb[0, :3], rgb[1, 0] = (200, 30, 130), (90, 160, 220)
    path = tmp_path / "mask.png"
    Image.fromarray(rgb).save(path)
    with pytest.raises(DataError) as error:
        labels(40).read(path)
    assert str(error.value) == (
        f"{path}: colour [200, 30, 130], 100 from that of class 1, and 1 others (4 pixels) is "
        "farther than data.color_tolerance 40 from every colour of data.class_colors and "
        "data.ignore_colors; add it to one of them, or raise that."
    )


def test_grey_levels_and_palettes_are_colours_with_a_tolerance(tmp_path: Path) -> None:
    levels = np.array([[0, 3, 100, 128, 140, 250, 255]], np.uint8)
    Image.fromarray(levels).save(tmp_path / "grey.png")
    greys = [[0, 0, 0], [128, 128, 128], [255, 255, 255]]
    given = Labels(3, class_colors=greys, color_tolerance=60)
    assert given.read(tmp_path / "grey.png").tolist() == [[0, 0, 1, 1, 1, 2, 2]]
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    picture.putpalette([250, 250, 250, 5, 0, 0, 130, 128, 120])
    picture.save(tmp_path / "palette.png")
    assert given.read(tmp_path / "palette.png").tolist() == [[2, 0, 1]]
    Image.fromarray(np.array([[0, 190]], np.uint8)).save(tmp_path / "far.png")
    with pytest.raises(DataError, match=r"far.png: colour \[190, 190, 190\], 107 from that of cla"):
        given.read(tmp_path / "far.png")


def test_what_a_tolerance_cannot_mean_is_refused() -> None:
    with pytest.raises(InputError, match="goes with these"):
        Labels(2, color_tolerance=40)
    with pytest.raises(InputError, match=r"without data\.mask_threshold"):
        Labels(2, class_colors=COLOURS[:2], threshold=127, color_tolerance=40)
    for distance in (-1.0, 442.0):
        with pytest.raises(InputError, match="expected a distance in RGB from 0 to 441"):
            labels(distance)
    assert labels(40).fingerprint != labels(41).fingerprint != labels(None).fingerprint


def test_a_folder_of_jpeg_masks_of_colours_is_trained_on_with_a_tolerance(tmp_path: Path) -> None:
    ids = np.arange(4, dtype=np.uint8).reshape(2, 2).repeat(32, 0).repeat(32, 1)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / kind / split).mkdir(parents=True)
            path = tmp_path / kind / split / "a.jpg"
            Image.fromarray(np.array(COLOURS, np.uint8)[ids]).save(path, quality=90)
    names = {"class_names": ["a", "b", "c", "d"], "class_colors": COLOURS}
    with pytest.raises(DataError, match=r"must not be a JPEG.* data\.color_tolerance if it has"):
        SegmentationDataModule(str(tmp_path), **names).setup("fit")
    data = SegmentationDataModule(str(tmp_path), **names, color_tolerance=100)
    data.setup("fit")
    assert np.allclose(data.class_counts().pixels, 32 * 32, atol=32)
