"""Raw values and colours become class ids through one table, and strangers are named."""

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from seg.constants import IGNORE_INDEX
from seg.data.files.headers import DataError
from seg.data.files.labels import Labels

COLOURS = [[0, 0, 0], [255, 0, 0], [0, 0, 255]]


def save(path: Path, values: object, dtype: type = np.uint8) -> Path:
    cv2.imwrite(str(path), np.asarray(values, dtype))
    return path


def save_rgb(path: Path, values: object) -> Path:
    Image.fromarray(np.asarray(values, np.uint8)).save(path)
    return path


def test_class_ids_and_the_ignore_index_pass_unmapped(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", [[0, 1, 2, 255]])
    found = Labels(3).read(path)
    np.testing.assert_array_equal(found, [[0, 1, 2, IGNORE_INDEX]])
    assert found.dtype == np.uint8


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_label_map_is_applied_once_not_repeatedly(tmp_path: Path, dtype: type) -> None:
    path = save(tmp_path / "mask.png", [[0, 1, 2, 11]], dtype)
    found = Labels(3, {0: 1, 1: 2, 2: 0, 11: 255}).read(path)
    np.testing.assert_array_equal(found, [[1, 2, 0, IGNORE_INDEX]])


def test_binary_masks_of_0_and_255_map_to_two_classes(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", [[0, 255]])
    np.testing.assert_array_equal(Labels(2, {0: 0, 255: 1}).read(path), [[0, 1]])


def test_sixteen_bit_values_map_without_wrapping(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", [[300, 65535, 1]], np.uint16)
    found = Labels(2, {300: 0, 65535: 255}).read(path)
    np.testing.assert_array_equal(found, [[0, IGNORE_INDEX, 1]])


def test_all_254_classes_pass(tmp_path: Path) -> None:
    ids = np.arange(254, dtype=np.uint8)[None]
    path = save(tmp_path / "mask.png", ids)
    np.testing.assert_array_equal(Labels(254).read(path), ids)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_unknown_label_is_named_with_file_count_and_remedy(tmp_path: Path, dtype: type) -> None:
    path = save(tmp_path / "mask.png", [[0, 7, 7, 254]], dtype)
    with pytest.raises(
        DataError,
        match=r"mask.png: label 7 \(2 pixels; 2 unknown labels\) is in neither label_map nor "
        r"class ids 0..2; add it to data.label_map \(map it to 255 to ignore it\)",
    ):
        Labels(3).read(path)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (-1, r"label -1 \(1 pixels\) is in neither"),
        (65536, r"label 65536 \(1 pixels\) is in neither"),
        (0.5, "label 0.5 is no whole number"),
        (np.nan, r"label nan \(1 pixels\) is in neither"),
    ],
)
def test_values_that_are_no_labels_are_refused(tmp_path: Path, value: float, said: str) -> None:
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, np.array([[0, value]], np.float32 if value % 1 else np.int32))
    with pytest.raises(DataError, match=f"mask.tif: {said}"):
        Labels(3).read(path)


def test_signed_and_float_files_of_whole_numbers_are_read(tmp_path: Path) -> None:
    for dtype in (np.int32, np.float32):
        path = tmp_path / "mask.tif"
        tifffile.imwrite(path, np.array([[0, 2, 255]], dtype))
        np.testing.assert_array_equal(Labels(3).read(path), [[0, 2, IGNORE_INDEX]])


def test_colours_become_class_ids_in_their_order(tmp_path: Path) -> None:
    picture = [[COLOURS[2], COLOURS[0]], [COLOURS[1], [9, 9, 9]]]
    path = save_rgb(tmp_path / "mask.png", picture)
    found = Labels(3, class_colors=COLOURS, ignore_colors=[[9, 9, 9]]).read(path)
    np.testing.assert_array_equal(found, [[2, 0], [1, IGNORE_INDEX]])


def test_colours_are_matched_like_a_slow_search(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    colours = np.unique(rng.integers(0, 256, (60, 3)), axis=0)
    ids = rng.integers(0, len(colours), (30, 40))
    path = save_rgb(tmp_path / "mask.png", colours[ids])
    found = Labels(len(colours), class_colors=colours.tolist()).read(path)
    np.testing.assert_array_equal(found, ids)


def test_a_label_map_leaves_decoded_colours_alone(tmp_path: Path) -> None:
    path = save_rgb(tmp_path / "mask.png", [[COLOURS[0], COLOURS[1]]])
    labels = Labels(3, {0: 2, 255: 1}, COLOURS)
    np.testing.assert_array_equal(labels.read(path), [[0, 1]])


def test_an_unknown_colour_is_named_with_file_count_and_remedy(tmp_path: Path) -> None:
    path = save_rgb(tmp_path / "mask.png", [[COLOURS[0], [1, 2, 3], [1, 2, 3], [255, 255, 255]]])
    with pytest.raises(
        DataError,
        match=r"mask.png: colour \[1, 2, 3\] \(2 pixels; 2 unknown colours\) is in neither "
        r"data.class_colors nor data.ignore_colors",
    ):
        Labels(3, class_colors=COLOURS).read(path)


def test_index_masks_are_read_by_index_though_colours_are_given(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", [[0, 1, 2]])
    np.testing.assert_array_equal(Labels(3, class_colors=COLOURS).read(path), [[0, 1, 2]])


def test_indices_saved_as_grey_rgb_are_read_and_true_colours_refused(tmp_path: Path) -> None:
    path = save_rgb(tmp_path / "mask.png", [[[0, 0, 0], [1, 1, 1]]])
    np.testing.assert_array_equal(Labels(2).read(path), [[0, 1]])
    save_rgb(path, [[[0, 0, 0], [1, 1, 2]]])
    with pytest.raises(DataError, match=r"mask.png: the mask holds RGB colours; set data.class_c"):
        Labels(2).read(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 255}, r"255 classes, but 1 to 254"),
        ({"num_classes": 0}, r"0 classes"),
        ({"num_classes": 2, "label_map": {"a-b": 0}}, r"'a-b' is no whole number, no range"),
        ({"num_classes": 2, "label_map": {3: 2}}, r"3 maps to 2, which is neither"),
        ({"num_classes": 2, "class_colors": COLOURS}, r"3 colours for 2 classes"),
        ({"num_classes": 1, "class_colors": [[0, 0, 256]]}, r"\[0, 0, 256\] is not three"),
        ({"num_classes": 2, "class_colors": [[0, 0, 0]] * 2}, r"\[0, 0, 0\] is given twice"),
        (
            {"num_classes": 1, "class_colors": [[0, 0, 0]], "ignore_colors": [[0, 0, 0]]},
            r"\[0, 0, 0\] is given twice",
        ),
    ],
)
def test_impossible_settings_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Labels(**arguments)


def save_palette(path: Path, index: object, palette: object, **options: int) -> Path:
    image = Image.fromarray(np.asarray(index, np.uint8))
    image.putpalette(np.asarray(palette, np.uint8).tobytes())
    image.save(path, **options)
    return path


def both_ways(labels: Labels, path: Path) -> np.ndarray:
    """Class ids as they are trained on, once they are known to be those of a scan."""
    ids, mask = labels.read(path), labels.read_values(path)
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(mask.to_ids(mask.values.ravel()).reshape(ids.shape), ids)
    return ids


def voc_palette() -> np.ndarray:
    """The 256 colours of Pascal VOC: bit j of the index is bit 7 - j // 3 of channel j mod 3."""
    index = np.arange(256)
    bits = [(index >> j & 1) << (7 - j // 3) for j in range(8)]
    return np.stack([sum(bits[c::3]) for c in range(3)], axis=1).astype(np.uint8)


@pytest.mark.parametrize(
    ("suffix", "bits"), [(".png", 1), (".png", 2), (".png", 4), (".png", 8), (".bmp", 8)]
)
def test_a_palette_in_another_order_gives_the_same_classes(
    tmp_path: Path, suffix: str, bits: int
) -> None:
    rng = np.random.default_rng(bits)
    classes = min(2**bits, 9)
    colours = rng.permutation(256)[: 3 * classes].reshape(-1, 3)
    ids = rng.integers(0, classes, (12, 17))
    labels = Labels(classes, class_colors=colours.tolist())
    for order in (np.arange(classes), rng.permutation(classes), np.arange(classes)[::-1]):
        options = {"bits": bits} if suffix == ".png" else {}
        path = save_palette(
            tmp_path / f"m{suffix}", np.argsort(order)[ids], colours[order], **options
        )
        np.testing.assert_array_equal(both_ways(labels, path), ids)


@pytest.mark.parametrize("shift", [257, 256, 1], ids=["16 bits", "upper 8", "lower 8"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_palettes_are_read_by_colour(tmp_path: Path, shift: int, dtype: type) -> None:
    entries = np.iinfo(dtype).max + 1
    colormap = np.zeros((3, entries), np.uint16)
    colormap[:, :3] = np.array([COLOURS[2], COLOURS[0], COLOURS[1]]).T * shift
    path = tmp_path / "mask.tif"
    values = np.array([[0, 1], [2, 1]], dtype)
    tifffile.imwrite(path, values, photometric="palette", colormap=colormap)
    found = both_ways(Labels(3, class_colors=COLOURS), path)
    np.testing.assert_array_equal(found, [[2, 0], [1, 0]])
    np.testing.assert_array_equal(Labels(3).read(path), values)


def test_masks_of_pascal_voc_keep_their_labels_with_its_colours(tmp_path: Path) -> None:
    palette = voc_palette()
    assert palette[15].tolist() == [192, 128, 128]  # person
    assert palette[255].tolist() == [224, 224, 192]  # void, which is in no class
    ids = np.array([[*range(21), 255]])
    path = save_palette(tmp_path / "mask.png", ids, palette)
    labels = Labels(21, class_colors=palette[:21].tolist())
    np.testing.assert_array_equal(both_ways(labels, path), ids)


def test_ignored_colours_of_a_palette_are_ignored_wherever_they_are(tmp_path: Path) -> None:
    palette = [[9, 9, 9], COLOURS[1], COLOURS[0], [8, 8, 8]]
    path = save_palette(tmp_path / "mask.png", [[0, 1, 2, 3]], palette)
    found = both_ways(Labels(3, {3: 255}, COLOURS, [[9, 9, 9]]), path)
    np.testing.assert_array_equal(found, [[255, 1, 0, 255]])


def test_a_colour_of_a_class_counts_more_than_an_index_that_is_ignored(tmp_path: Path) -> None:
    palette = np.full((256, 3), 7)
    palette[[0, 255]] = COLOURS[1], COLOURS[2]
    path = save_palette(tmp_path / "mask.png", [[0, 255]], palette)
    np.testing.assert_array_equal(both_ways(Labels(3, class_colors=COLOURS), path), [[1, 2]])


def test_an_unknown_colour_of_a_palette_is_refused_like_one_of_rgb(tmp_path: Path) -> None:
    colours = np.array([COLOURS[0], [1, 2, 3], [255, 255, 255], [4, 4, 4]])
    index = np.array([[0, 1, 1, 2]])  # the last entry is not used
    save_palette(tmp_path / "palette.png", index, colours)
    save_rgb(tmp_path / "rgb.png", colours[index])
    said = []
    for name in ("palette.png", "rgb.png"):
        labels = Labels(3, class_colors=COLOURS)
        for read in (labels.read, lambda p, labels=labels: both_ways(labels, p)):
            with pytest.raises(DataError) as caught:
                read(tmp_path / name)
            said.append(str(caught.value).replace(name, ""))
    assert len(set(said)) == 1
    assert "colour [1, 2, 3] (2 pixels; 2 unknown colours) is in neither" in said[0]


def test_a_palette_without_any_colour_of_a_class_is_refused_with_both_remedies(
    tmp_path: Path,
) -> None:
    path = save_palette(tmp_path / "mask.png", [[0, 1, 1]], [[10, 0, 0], [20, 0, 0], COLOURS[0]])
    with pytest.raises(
        DataError,
        match=r"mask.png: colour \[20, 0, 0\] \(2 pixels; 2 unknown colours\) is in neither .*nor "
        r"is any other that the mask shows; set data.class_colors to .* or leave it out if",
    ):
        Labels(3, class_colors=COLOURS).read(path)


def test_an_index_beyond_its_palette_is_refused(tmp_path: Path) -> None:
    path = save_palette(tmp_path / "mask.png", [[0, 1, 3]], COLOURS, bits=4)
    data = path.read_bytes()
    begin = data.index(b"PLTE") - 4
    end = begin + 12 + int.from_bytes(data[begin : begin + 4], "big")
    chunk = b"PLTE" + data[begin + 8 : begin + 14]  # Pillow fills it up
    crc = zlib.crc32(chunk).to_bytes(4, "big")
    path.write_bytes(data[:begin] + (6).to_bytes(4, "big") + chunk + crc + data[end:])
    with pytest.raises(DataError, match=r"mask.png: index 3 \(1 pixels\) is not in its palette of"):
        Labels(3, class_colors=COLOURS).read(path)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_palette_of_grey_levels_in_their_order_is_a_grey_mask(
    tmp_path: Path, suffix: str
) -> None:
    path = save_palette(tmp_path / f"mask{suffix}", [[0, 1, 2]], np.arange(256).repeat(3))
    np.testing.assert_array_equal(both_ways(Labels(3, class_colors=COLOURS), path), [[0, 1, 2]])


BLACK, WHITE = [0] * 3, [255] * 3


@pytest.mark.parametrize("colours", [[BLACK, WHITE], [WHITE, BLACK]], ids=["black 0", "white 0"])
@pytest.mark.parametrize("kind", ["L.png", "L.bmp", "L.tif", "1.png", "1.bmp", "1.tif", "RGB.png"])
def test_black_and_white_masks_have_the_classes_of_their_colours(
    tmp_path: Path, kind: str, colours: list[list[int]]
) -> None:
    picture = np.array([[0, 255, 255], [255, 0, 0]], np.uint8)
    path = tmp_path / kind
    Image.fromarray(picture).convert(path.stem).save(path)
    found = both_ways(Labels(2, class_colors=colours), path)
    np.testing.assert_array_equal(
        found, np.where(picture == 0, colours.index(BLACK), 1 - colours.index(BLACK))
    )


def test_indices_stay_indices_beside_black_and_white_classes(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", [[0, 1, 1]])
    for colours in ([BLACK, WHITE], [WHITE, BLACK]):
        found = both_ways(Labels(2, class_colors=colours), path)
        np.testing.assert_array_equal(found, [[0, 1, 1]])


def test_255_is_ignored_in_grey_masks_unless_white_is_a_class(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", [[0, 255]])
    for ignored in ([], [WHITE]):
        labels = Labels(2, class_colors=[BLACK, [255, 0, 0]], ignore_colors=ignored)
        np.testing.assert_array_equal(both_ways(labels, path), [[0, IGNORE_INDEX]])
    labels = Labels(2, {255: 255}, [BLACK, WHITE])
    np.testing.assert_array_equal(both_ways(labels, path), [[0, IGNORE_INDEX]])
    labels = Labels(3, class_colors=[[255, 0, 0], BLACK, WHITE])
    np.testing.assert_array_equal(both_ways(labels, path), [[1, 2]])


def test_grey_masks_of_both_indices_and_colours_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", [[0, 1, 255]])
    with pytest.raises(
        DataError,
        match=r"mask.png: colour \[1, 1, 1\] \(1 pixels.* in neither data.class_colors nor "
        r"data.ignore_colors, though \[255, 255, 255\] is; .* data.label_map which class 255 is",
    ):
        Labels(2, class_colors=[BLACK, WHITE]).read(path)
    found = both_ways(Labels(2, {255: 255}, [BLACK, WHITE]), path)
    np.testing.assert_array_equal(found, [[0, 1, IGNORE_INDEX]])


def test_a_black_mask_that_may_mean_either_class_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", [[0, 0]])
    for read in (Labels.read, both_ways):
        with pytest.raises(DataError, match=r"mask.png: grey level 0 is class id 0, but the colo"):
            read(Labels(2, class_colors=[WHITE, BLACK]), path)
    labels = Labels(2, {0: 1}, [WHITE, BLACK])
    np.testing.assert_array_equal(both_ways(labels, path), [[1, 1]])


def test_labels_that_read_grey_masks_differently_have_different_fingerprints() -> None:
    options = [{}, {"label_map": {255: 255}}, {"label_map": {0: 0}}]
    made = [Labels(2, class_colors=[BLACK, WHITE], **o) for o in options]
    assert made[0].fingerprint != made[1].fingerprint
    assert made[0].fingerprint == made[2].fingerprint
