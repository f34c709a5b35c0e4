"""Masks with soft edges or in a lossy coding become two classes by a grey level."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from seg.data import SegmentationDataModule
from seg.data.files.headers import DataError
from seg.data.files.labels import Labels
from seg.errors import InputError

TRUTH = np.zeros((48, 64), np.uint8)
TRUTH[8:32, 16:48] = 1


def read(path: Path, threshold: float = 127.0) -> list:
    return Labels(2, threshold=threshold).read(path).tolist()


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", ["mask.jpg", "mask.jfif", "mask.webp", "mask.png", "mask.jp2"])
def test_black_and_white_of_any_coding_is_read(name: str, mode: str, tmp_path: Path) -> None:
    picture = Image.fromarray(TRUTH * 255).convert(mode)
    picture.save(tmp_path / name, "JPEG" if name.endswith("jfif") else None, quality=60)
    assert read(tmp_path / name) == TRUTH.tolist()


def test_soft_edges_are_cut_at_the_threshold(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8)[None]
    Image.fromarray(ramp).save(tmp_path / "mask.png")
    assert read(tmp_path / "mask.png", 100) == [[0] * 101 + [1] * 155]
    tifffile.imwrite(tmp_path / "mask.tif", ramp / np.float32(255))
    assert read(tmp_path / "mask.tif", 0.5) == [[0] * 128 + [1] * 128]
    tifffile.imwrite(tmp_path / "mask.tif", ramp * np.uint16(257))
    assert read(tmp_path / "mask.tif", 30_000) == [[0] * 117 + [1] * 139]


def test_palettes_and_bits_count_by_their_colours(tmp_path: Path) -> None:
    palette = Image.fromarray(TRUTH)
    palette.putpalette([255, 255, 255, 0, 0, 0])  # index 1 is black
    palette.save(tmp_path / "mask.png")
    assert read(tmp_path / "mask.png") == (1 - TRUTH).tolist()
    Image.fromarray(TRUTH * 255).convert("1").save(tmp_path / "mask.png")
    assert read(tmp_path / "mask.png") == TRUTH.tolist()


def test_colours_count_by_their_luma(tmp_path: Path) -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    Image.fromarray(colours).save(tmp_path / "mask.png")
    # 0.299, 0.587 and 0.114 of 255 (Rec. 601)
    assert read(tmp_path / "mask.png", 76.2) == [[1, 1, 0, 1]]
    assert read(tmp_path / "mask.png", 76.3) == [[0, 1, 0, 1]]


def test_what_has_no_side_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "mask.tif", np.array([[0.0, np.nan]], np.float32))
    with pytest.raises(DataError, match="holds NaN"):
        read(tmp_path / "mask.tif")
    for options in ({"num_classes": 3}, {"label_map": {255: 1}}, {"ignore_colors": [[1, 2, 3]]}):
        with pytest.raises(InputError, match="mask_threshold 127 makes two classes"):
            Labels(**{"num_classes": 2, "threshold": 127.0, **options})


def test_a_folder_of_jpeg_masks_is_trained_on_with_a_threshold_and_refused_without(
    tmp_path: Path,
) -> None:
    stream = BytesIO()
    Image.fromarray(TRUTH * 255).save(stream, "JPEG")
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / kind / split).mkdir(parents=True)
            (tmp_path / kind / split / "a.jpg").write_bytes(stream.getvalue())
    names = {"class_names": ["ground", "crack"]}
    with pytest.raises(DataError, match=r"must not be a JPEG.* set data.mask_threshold"):
        SegmentationDataModule(str(tmp_path), **names).setup("fit")
    colours = {"class_colors": [[0, 0, 0], [255, 0, 0]]}  # for pictures
    data = SegmentationDataModule(str(tmp_path), **names, **colours, mask_threshold=127)
    data.setup("fit")
    assert data.class_counts().pixels.tolist() == [48 * 64 - 24 * 32, 24 * 32]
