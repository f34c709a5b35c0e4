import numpy as np
import pytest
from PIL import Image

from seg.constants import IGNORE_INDEX
from seg.prediction.palette import IGNORE_COLOR, default_colors
from seg.report.previews import preview, write_preview

COLORS = [[10, 20, 30], [200, 0, 0], [0, 200, 0]]
IMAGE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
TRUTH = np.random.default_rng(1).integers(0, 3, (6, 9))
PREDICTION = np.random.default_rng(2).integers(0, 3, (6, 9)).astype(np.uint8)


def panels_of(picture, count, width=9):
    gap = (picture.shape[1] - count * width) // (count - 1)
    return [picture[:, i * (width + gap) :][:, :width] for i in range(count)]


def test_preview_shows_image_truth_and_prediction_from_left_to_right():
    picture = preview(IMAGE, TRUTH, PREDICTION, COLORS)
    image, truth, prediction = panels_of(picture, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(truth, np.array(COLORS)[TRUTH])
    np.testing.assert_array_equal(prediction, np.array(COLORS)[PREDICTION])


def test_without_a_truth_the_preview_has_two_panels():
    image, prediction = panels_of(preview(IMAGE, None, PREDICTION, COLORS), 2)
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(prediction, np.array(COLORS)[PREDICTION])


def test_ignored_pixels_are_hatched_in_no_class_color():
    truth = np.full((32, 32), IGNORE_INDEX, dtype=np.uint8)
    picture = preview(np.zeros((32, 32, 3), np.uint8), truth, truth * 0, default_colors(20))
    shown = {tuple(color) for color in panels_of(picture, 3, 32)[1].reshape(-1, 3).tolist()}
    assert tuple(IGNORE_COLOR) in shown
    assert len(shown) == 2
    assert shown.isdisjoint({tuple(color) for color in default_colors(20)})


@pytest.mark.parametrize(("channels", "shown"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (5, [0, 1, 2])])
def test_images_of_any_number_of_channels_are_shown(channels, shown):
    image = np.random.default_rng(3).integers(0, 256, (6, 9, channels), dtype=np.uint8)
    picture = preview(image, None, PREDICTION, COLORS)
    np.testing.assert_array_equal(panels_of(picture, 2)[0], image[..., shown])


def test_shapes_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match=r"image \(6, 9, 3\) and class ids \(5, 9\) do not pair"):
        preview(IMAGE, TRUTH[:5], PREDICTION, COLORS)
    with pytest.raises(ValueError, match=r"image \(3, 6, 9\).*move channels last"):
        preview(IMAGE.transpose(2, 0, 1), TRUTH, PREDICTION, COLORS)


@pytest.mark.parametrize("wrong", [3, 254, -1])
def test_a_class_without_a_color_is_refused(wrong):
    ids = np.array([[0, wrong]])
    with pytest.raises(ValueError, match=f"class id {wrong} has no colour: expected 0 to 2 or 255"):
        preview(np.zeros((1, 2, 3), np.uint8), None, ids, COLORS)


def legend_colors(path, height):
    """Colours below the panels of a written preview."""
    pixels = np.asarray(Image.open(path))[height:]
    return {tuple(color) for color in pixels.reshape(-1, 3).tolist()}


def test_legend_names_the_classes_that_occur_and_no_other(tmp_path):
    image = np.zeros((300, 300, 3), np.uint8)
    truth, prediction = np.zeros((300, 300), np.uint8), np.full((300, 300), 2)
    path = tmp_path / "previews" / "0.png"
    write_preview(path, image, truth, prediction, COLORS, ["sky", "pole", "road"])
    shown = legend_colors(path, height=325)
    assert {tuple(COLORS[0]), tuple(COLORS[2])} <= shown
    assert tuple(COLORS[1]) not in shown


@pytest.mark.parametrize("name", ["道路 🚲 Straße", "two\nlines", "[x] $y$ <b>", "", "long " * 200])
def test_any_class_name_can_be_written(name, tmp_path):
    path = tmp_path / "0.png"
    write_preview(path, IMAGE, None, PREDICTION * 0, COLORS, [name, "pole", "road"])
    assert tuple(COLORS[0]) in legend_colors(path, height=180)


def test_the_legend_of_many_classes_takes_as_many_lines_as_it_needs(tmp_path):
    ids = np.arange(200, dtype=np.uint8).reshape(10, 20)
    image = np.zeros((10, 20, 3), np.uint8)
    names = [f"class number {i}" for i in range(200)]
    write_preview(tmp_path / "0.png", image, ids, ids, default_colors(200), names)
    scale = -(-256 // 20)
    shown = legend_colors(tmp_path / "0.png", height=25 + 10 * scale)
    assert {tuple(color) for color in default_colors(200)} <= shown


def test_small_images_are_enlarged_by_a_whole_factor(tmp_path):
    write_preview(tmp_path / "0.png", IMAGE, TRUTH, PREDICTION, COLORS, ["a", "b", "c"])
    scale = -(-256 // 9)
    pixels = np.asarray(Image.open(tmp_path / "0.png"))
    top = next(y for y in range(len(pixels)) if (pixels[y, :scale] == IMAGE[0, 0]).all())
    shown = pixels[top : top + 6 * scale : scale, : 9 * scale : scale]
    np.testing.assert_array_equal(shown, IMAGE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "size", [(16_000, 8), (8, 16_000), (2000, 1), (1, 1), (1, 2000), (3000, 4100), (2048, 100)]
)
def test_both_sides_of_a_preview_are_bounded_whatever_the_image(size, tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    ids = rng.integers(0, 3, size).astype(np.uint8)
    write_preview(tmp_path / "0.png", image, ids, ids, COLORS, ["a", "b", "c"])
    pixels = np.asarray(Image.open(tmp_path / "0.png"))
    assert 256 <= pixels.shape[1] <= 3 * 2048 + 100
    assert pixels.shape[0] <= 2048 + 100
    for class_id in np.unique(ids):
        assert (pixels == COLORS[class_id]).all(axis=2).any()


def test_a_large_image_is_shown_by_every_kth_pixel_and_its_legend_names_all_classes(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (10, 4100, 3), dtype=np.uint8)
    ids = np.zeros((10, 4100), np.uint8)
    ids[:, 3], ids[1, 1] = 1, 2  # of every third row and column, the second is left out
    write_preview(tmp_path / "0.png", image, ids, ids, COLORS, ["a", "b", "c"])
    pixels = np.asarray(Image.open(tmp_path / "0.png"))
    top = next(y for y in range(len(pixels)) if (pixels[y, :1367] == image[0, ::3]).all())
    np.testing.assert_array_equal(pixels[top : top + 4, :1367], image[::3, ::3])
    assert tuple(COLORS[2]) not in {tuple(c) for c in pixels[: top + 4].reshape(-1, 3)}
    assert tuple(COLORS[2]) in {tuple(c) for c in pixels[top + 4 :].reshape(-1, 3)}


def test_headings_of_narrow_images_do_not_overlap(tmp_path):
    image, ids = np.zeros((300, 2, 3), np.uint8), np.zeros((300, 2), np.uint8)
    write_preview(tmp_path / "0.png", image, ids, ids, COLORS, ["a", "b", "c"])
    ink = np.asarray(Image.open(tmp_path / "0.png").convert("L"))[:22].min(0) < 255
    gaps = np.flatnonzero(np.diff(np.flatnonzero(ink)) > 10)
    assert len(gaps) == 2  # three words, with room between them
