import numpy as np
import pytest
from PIL import Image

from seg.constants import IGNORE_INDEX
from seg.data import SegmentationDataModule
from seg.errors import InputError
from seg.prediction.palette import IGNORE_COLOR, default_colors
from seg.report.panels import RIGHT, WRONG, shown_image
from seg.report.previews import panels, write_preview

COLORS = [[10, 20, 30], [200, 0, 0], [0, 200, 0]]
IMAGE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
TRUTH = np.random.default_rng(1).integers(0, 3, (6, 9))
PREDICTION = np.random.default_rng(2).integers(0, 3, (6, 9)).astype(np.uint8)


def pictures(*given, **options):
    """The panels by their heading."""
    return {panel.heading: panel.picture for panel in panels(*given, **options)}


def hatch(size):
    """Which pixels of an ignored region are grey: two of every eight along the rows."""
    return (np.add.outer(np.arange(size[0]), np.arange(size[1])) % 8) < 2


def test_image_truth_prediction_over_the_image_and_errors_are_shown():
    found = pictures(IMAGE, TRUTH, PREDICTION, COLORS)
    assert list(found) == ["image", "truth", "prediction", "errors"]
    np.testing.assert_array_equal(found["image"], IMAGE)
    np.testing.assert_array_equal(found["truth"], np.array(COLORS)[TRUTH])
    mixed = 0.4 * IMAGE + 0.6 * np.array(COLORS)[PREDICTION]
    np.testing.assert_array_equal(found["prediction"], np.floor(mixed + 1e-9))


def test_without_a_truth_there_are_the_image_and_the_prediction():
    found = pictures(IMAGE, None, PREDICTION, COLORS)
    assert list(found) == ["image", "prediction"]
    np.testing.assert_array_equal(found["image"], IMAGE)


def test_right_wrong_and_ignored_pixels_have_a_colour_each():
    truth, prediction = TRUTH.copy(), PREDICTION.copy()
    truth[2:4] = IGNORE_INDEX
    prediction[5] = IGNORE_INDEX  # no class was decided for: wrong, as in the scores
    found = pictures(IMAGE, truth, prediction, COLORS)["errors"]
    expected = np.where((truth == prediction)[..., None], RIGHT, WRONG)
    ignored = np.where(hatch(truth.shape)[..., None], 190, IGNORE_COLOR)
    expected[2:4] = ignored[2:4]
    np.testing.assert_array_equal(found, expected)
    assert len({RIGHT, WRONG, tuple(IGNORE_COLOR), (190, 190, 190)}) == 4


def test_ignored_pixels_are_hatched_in_no_class_color():
    truth = np.full((32, 32), IGNORE_INDEX, dtype=np.uint8)
    found = pictures(np.zeros((32, 32, 3), np.uint8), truth, truth * 0, default_colors(20))
    shown = {tuple(color) for color in found["truth"].reshape(-1, 3).tolist()}
    assert tuple(IGNORE_COLOR) in shown
    assert len(shown) == 2
    assert shown.isdisjoint({tuple(color) for color in default_colors(20)})


def linear(values):
    """From the 1st percentile to the 99th, written out."""
    low, high = np.percentile(values, [1, 99])
    return np.clip((values - low) / (high - low) * 255, 0, 255).round()


@pytest.mark.parametrize("channels", [1, 2])
def test_one_or_two_channels_are_grey(channels):
    image = np.random.default_rng(3).integers(0, 256, (6, 9, channels), dtype=np.uint8)
    found = pictures(image, None, PREDICTION, COLORS)
    np.testing.assert_array_equal(found["image"], image[..., [0, 0, 0]])


@pytest.mark.parametrize("chosen", [None, [4, 1, 0]])
def test_of_many_channels_three_are_shown_and_each_is_stretched_by_its_own_percentiles(chosen):
    rng = np.random.default_rng(3)
    image = (rng.integers(0, 40, (60, 90, 5)) * (1, 2, 3, 4, 5)).astype(np.uint8)
    shown, is_stretched = shown_image(image, chosen)
    assert is_stretched
    for i, channel in enumerate(chosen or [0, 1, 2]):
        np.testing.assert_array_equal(shown[..., i], linear(image[..., channel].astype(float)))


@pytest.mark.parametrize(
    "image",
    [
        np.random.default_rng(0).integers(900, 1400, (50, 60, 3)).astype(np.uint16),
        np.random.default_rng(0).normal(0, 1e-3, (50, 60, 3)).astype(np.float32),
    ],
    ids=["16 bits", "float"],
)
def test_deep_images_are_stretched_by_the_percentiles_of_each_channel(image):
    shown, is_stretched = shown_image(image)
    assert is_stretched and shown.dtype == np.uint8
    for i in range(3):
        np.testing.assert_array_equal(shown[..., i], linear(image[..., i].astype(float)))


def test_a_dark_image_is_stretched_and_keeps_its_hues_and_its_heading_says_so():
    image = (np.random.default_rng(0).integers(0, 20, (50, 60, 3)) * (1, 2, 2)).astype(np.uint8)
    found = pictures(image, None, np.zeros((50, 60), np.uint8), COLORS)
    np.testing.assert_array_equal(found["image, stretched"], linear(image.astype(float)))


def test_what_has_contrast_or_none_at_all_is_shown_as_it_is():
    wide = np.random.default_rng(0).integers(90, 170, (50, 60, 3), dtype=np.uint8)
    for image in (wide, np.full((5, 6, 3), 7, np.uint8), np.zeros((0, 4, 3), np.uint8)):
        shown, is_stretched = shown_image(image)
        assert not is_stretched
        np.testing.assert_array_equal(shown, image)


def test_values_that_are_not_finite_do_not_count_in_a_stretch():
    image = np.linspace(0, 1, 300, dtype=np.float32).reshape(10, 10, 3).copy()
    expected = shown_image(image)[0]
    image = np.concatenate([image, np.full_like(image, np.nan)])
    np.testing.assert_array_equal(shown_image(image)[0][:10], expected)


def test_shapes_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match=r"image \(6, 9, 3\) and class ids \(5, 9\) do not pair"):
        panels(IMAGE, TRUTH[:5], PREDICTION, COLORS)
    with pytest.raises(ValueError, match=r"image \(3, 6, 9\).*move channels last"):
        panels(IMAGE.transpose(2, 0, 1), TRUTH, PREDICTION, COLORS)


@pytest.mark.parametrize("wrong", [3, 254, -1])
def test_a_class_without_a_color_is_refused(wrong):
    ids = np.array([[0, wrong]])
    with pytest.raises(ValueError, match=f"class id {wrong} has no colour: expected 0 to 2 or 255"):
        panels(np.zeros((1, 2, 3), np.uint8), None, ids, COLORS)


def legend_colors(path, height):
    """Colours below the panels of a written preview."""
    pixels = np.asarray(Image.open(path))[height:]
    return {tuple(color) for color in pixels.reshape(-1, 3).tolist()}


def test_legend_names_the_classes_that_occur_and_no_other(tmp_path):
    image = np.zeros((300, 300, 3), np.uint8)
    truth, prediction = np.zeros((300, 300), np.uint8), np.full((300, 300), 2)
    path = tmp_path / "previews" / "0.png"
    write_preview(path, image, truth, prediction, COLORS, ["sky", "pole", "road"])
    shown = legend_colors(path, height=650)
    assert {tuple(COLORS[0]), tuple(COLORS[2])} <= shown
    assert tuple(COLORS[1]) not in shown


@pytest.mark.parametrize("name", ["道路 🚲 Straße", "two\nlines", "[x] $y$ <b>", "", "long " * 200])
def test_any_class_name_can_be_written(name, tmp_path):
    path = tmp_path / "0.png"
    write_preview(path, IMAGE, None, PREDICTION * 0, COLORS, [name, "pole", "road"])
    assert tuple(COLORS[0]) in legend_colors(path, height=180)


@pytest.mark.slow
def test_the_legend_of_many_classes_takes_as_many_lines_as_it_needs(tmp_path):
    ids = np.arange(200, dtype=np.uint8).reshape(10, 20)
    image = np.zeros((10, 20, 3), np.uint8)
    names = [f"class number {i}" for i in range(200)]
    write_preview(tmp_path / "0.png", image, ids, ids, default_colors(200), names)
    scale = -(-256 // 20)
    shown = legend_colors(tmp_path / "0.png", height=2 * (22 + 10 * scale))
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
    assert 256 <= pixels.shape[1] <= 2 * 2048 + 100
    assert pixels.shape[0] <= 2 * 2048 + 100
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
    legend = 2 * (22 + 4)
    assert tuple(COLORS[2]) not in {tuple(c) for c in pixels[:legend].reshape(-1, 3)}
    assert tuple(COLORS[2]) in {tuple(c) for c in pixels[legend:].reshape(-1, 3)}


def test_headings_of_narrow_images_do_not_overlap(tmp_path):
    image, ids = np.zeros((300, 2, 3), np.uint8), np.zeros((300, 2), np.uint8)
    write_preview(tmp_path / "0.png", image, ids, ids, COLORS, ["a", "b", "c"])
    pixels = np.asarray(Image.open(tmp_path / "0.png").convert("L"))
    for top in (0, 322):
        ink = pixels[top : top + 22].min(0) < 255
        gaps = np.flatnonzero(np.diff(np.flatnonzero(ink)) > 10)
        assert len(gaps) == 1  # two words, with room between them


def test_the_legend_names_right_and_wrong_where_there_is_a_truth(tmp_path):
    ids = np.zeros((300, 300), np.uint8)
    for truth, expected in ((ids, True), (None, False)):
        image = np.zeros((300, 300, 3), np.uint8)
        write_preview(tmp_path / "0.png", image, truth, ids, COLORS, ["a", "b", "c"])
        shown = legend_colors(tmp_path / "0.png", height=325 if truth is None else 650)
        assert ({RIGHT, WRONG} <= shown) is expected


def test_the_channels_to_show_are_three_of_the_images():
    assert SegmentationDataModule().shown_channels == [0, 1, 2]
    data = {"root": "none", "class_names": ["a", "b"]}
    assert SegmentationDataModule(**data, in_channels=1).shown_channels == [0, 0, 0]
    given = SegmentationDataModule(**data, in_channels=5, shown_channels=[4, 2, 1])
    assert given.shown_channels == [4, 2, 1]
    for wrong in ([0, 1], [0, 1, 5], [-1, 0, 1]):
        with pytest.raises(InputError, match=r"data.shown_channels \[.*expected three of 0 to 4"):
            SegmentationDataModule(**data, in_channels=5, shown_channels=wrong)
