"""Masks of any usual kind are described by lines of a YAML that read them as they were meant."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw

from seg.constants import IGNORE_INDEX
from seg.data.discovery.masks import MaskSurvey, survey_masks
from seg.data.discovery.setting import KnownLabels
from seg.data.files.labels import Labels
from seg.errors import InputError

CLASSES = 4
MAROON, GREEN, OLIVE = (128, 0, 0), (0, 128, 0), (128, 128, 0)
COLOURS = np.array([(0, 0, 0), MAROON, GREEN, OLIVE], np.uint8)
VOC = [0, 0, 0, *MAROON, *GREEN, *OLIVE] + [9, 9, 9] * 252
NAMES = {0: "background", 1: "cat", 2: "dog", 3: "car"}


def truth(seed: int = 0, classes: int = CLASSES, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Class ids (H, W) of blocks; all classes occur."""
    rng = np.random.default_rng(seed)
    blocks = rng.permutation(np.arange(size[0] // 8 * size[1] // 8) % classes)
    ids = blocks.reshape(size[0] // 8, size[1] // 8).astype(np.uint8)
    return ids.repeat(8, 0).repeat(8, 1)


def survey(masks: list[Path], **known: Any) -> MaskSurvey:
    return survey_masks(masks, KnownLabels(**known))


def options(found: MaskSurvey) -> dict[str, Any]:
    return {line.key: line.value for line in found.settings}


def labels(found: MaskSurvey) -> Labels:
    given = options(found)
    names = {"label_map": "label_map", "mask_threshold": "threshold"}
    names |= {key: key for key in ("class_colors", "ignore_colors", "color_tolerance")}
    return Labels(len(found.class_names), **{names[k]: given[k] for k in names if k in given})


def read_as(found: MaskSurvey, path: Path) -> np.ndarray:
    assert not found.questions and not found.faults
    return labels(found).read(path)


def grey(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(ids).save(path)


def palette(path: Path, ids: np.ndarray) -> None:
    picture = Image.fromarray(ids)
    picture.putpalette(VOC)
    picture.save(path)


def rgb(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(COLOURS[ids]).save(path)


def rgba(path: Path, ids: np.ndarray) -> None:
    alpha = np.full((*ids.shape, 1), 255, np.uint8)
    Image.fromarray(np.concatenate([COLOURS[ids], alpha], 2)).save(path)


def equal_channels(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(np.repeat(ids[..., None], 3, 2)).save(path)


def from_one(path: Path, ids: np.ndarray) -> None:
    grey(path, ids + 1)


def with_gaps(path: Path, ids: np.ndarray) -> None:
    grey(path, np.array([0, 2, 3, 7], np.uint8)[ids])


def floats(path: Path, ids: np.ndarray) -> None:
    tifffile.imwrite(path.with_suffix(".tif"), ids.astype(np.float32))


def wide(path: Path, ids: np.ndarray) -> None:
    tifffile.imwrite(path.with_suffix(".tif"), ids.astype(np.uint16) + 1000)


def grey_levels(path: Path, ids: np.ndarray) -> None:
    grey(path, ids * 85)


def gif(path: Path, ids: np.ndarray) -> None:
    Image.fromarray(COLOURS[ids]).quantize(8).save(path.with_suffix(".gif"))


WRITERS = [grey, palette, rgb, rgba, equal_channels, from_one, with_gaps, floats, wide]
WRITERS += [grey_levels, gif]


def folder(tmp_path: Path, write: Callable[[Path, np.ndarray], None], count: int = 3) -> list[Path]:
    for i in range(count):
        write(tmp_path / f"{i}.png", truth(i))
    return sorted(tmp_path.iterdir())


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_the_lines_read_masks_of_every_kind_as_they_were_meant(
    write: Callable[[Path, np.ndarray], None], tmp_path: Path
) -> None:
    masks = folder(tmp_path, write)
    found = survey(masks)
    assert len(found.class_names) == CLASSES
    for i, path in enumerate(masks):
        ids = read_as(found, path)
        pairs = {*zip(truth(i).ravel().tolist(), ids.ravel().tolist(), strict=True)}
        assert len(pairs) == CLASSES  # one to one


@pytest.mark.parametrize("write", [grey, palette, equal_channels, floats])
def test_ids_that_are_class_ids_need_names_alone(
    write: Callable[[Path, np.ndarray], None], tmp_path: Path
) -> None:
    assert [*options(survey(folder(tmp_path, write)))] == ["class_names"]


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (grey, "index masks: values 0 to 3"),
        (palette, "palette masks (0 black, 1 maroon, 2 green, 3 olive): values 0 to 3"),
        (rgb, "colour masks: 4 colours"),
        (equal_channels, "index masks: values 0 to 3 (RGB with equal channels)"),
        (rgba, "colour masks: 4 colours (alpha, which is not read)"),
        (floats, "index masks: values 0 to 3 (float32)"),
    ],
)
def test_the_kind_is_said_in_words(
    write: Callable[[Path, np.ndarray], None], text: str, tmp_path: Path
) -> None:
    assert survey(folder(tmp_path, write)).kind == text


@pytest.mark.parametrize(
    ("low", "high", "mode"), [(0, 255, "L"), (0, 1, "L"), (0, 128, "L"), (0, 255, "1")]
)
def test_two_values_are_background_and_object(
    low: int, high: int, mode: str, tmp_path: Path
) -> None:
    ids = truth(0, 2)
    values = np.where(ids == 1, np.uint8(high), np.uint8(low))
    Image.fromarray(values).convert(mode).save(tmp_path / "a.png")
    found = survey([tmp_path / "a.png"])
    assert found.class_names == ("background", "object")
    np.testing.assert_array_equal(read_as(found, tmp_path / "a.png"), ids)


@pytest.mark.parametrize(
    ("levels", "dtype", "void"),
    [
        ([0, 1, 2, 255], np.uint8, "nothing"),
        ([0, 1, 2, 65535], np.uint16, 65535),
        ([0, 1, 2, -1], np.int16, -1),
        ([0, 1, 2, -9999], np.int32, -9999),
        ([0, 1, 2, np.nan], np.float32, "nan"),
    ],
)
def test_what_is_customarily_no_class_is_ignored(
    levels: list[float], dtype: type, void: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.array(levels, dtype)[truth()])
    found = survey([path])
    assert options(found).get("label_map", {"nothing": "ignore"}) == {void: "ignore"}
    expected = np.where(truth() == 3, IGNORE_INDEX, truth())
    np.testing.assert_array_equal(read_as(found, path), expected)


@pytest.mark.parametrize("levels", [[0, 1, 2, 254], [0, 1, 2, 100], [0, 128, 200, 255]])
def test_a_value_that_may_be_a_class_or_none_is_asked_for(
    levels: list[int], tmp_path: Path
) -> None:
    grey(tmp_path / "a.png", np.array(levels, np.uint8)[truth()])
    found = survey([tmp_path / "a.png"])
    words = f"data.label_map: what is {levels[-1]}? Write a class id or ignore."
    assert found.questions == (words,)
    (line,) = [line for line in found.settings if line.key == "label_map"]
    assert line.value[levels[-1]] == "???" and words in line.reason
    with pytest.raises(InputError) as error:
        labels(found)
    assert str(error.value) == words
    answered = {**line.value, levels[-1]: "ignore"}
    ids = Labels(3, answered).read(tmp_path / "a.png")
    np.testing.assert_array_equal(ids, np.where(truth() == 3, IGNORE_INDEX, truth()))


def test_no_data_that_a_geotiff_declares_is_asked_for_where_it_may_be_a_class(
    tmp_path: Path,
) -> None:
    tags = [(42113, "s", 0, "0", True)]
    tifffile.imwrite(tmp_path / "a.tif", truth(), extratags=tags)
    assert survey([tmp_path / "a.tif"]).questions == (
        "data.label_map: what is 0? Write a class id or ignore.",
    )


def soft_grey(path: Path, ids: np.ndarray) -> np.ndarray:
    """Antialiased circles: drawn at four times the size and reduced."""
    big = Image.new("L", (256, 192))
    ImageDraw.Draw(big).ellipse((40, 30, 200, 150), fill=255)
    reduced = big.resize((64, 48), Image.Resampling.BOX)
    reduced.save(path)
    return np.asarray(reduced) > 127


def test_soft_edges_get_a_threshold(tmp_path: Path) -> None:
    expected = soft_grey(tmp_path / "a.png", truth())
    found = survey([tmp_path / "a.png"])
    assert options(found)["mask_threshold"] == 127
    assert found.kind == "masks with soft edges, grey levels between those of classes"
    np.testing.assert_array_equal(read_as(found, tmp_path / "a.png"), expected)


@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_black_and_white_in_jpeg_gets_a_threshold_also_once_saved_as_png(
    ending: str, tmp_path: Path
) -> None:
    ids = np.roll(truth(0, 2), (3, 3), (0, 1))  # across the blocks of JPEG
    coded = cv2.imencode(".jpg", ids * 255, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    path = tmp_path / f"a{ending}"
    if ending == ".png":
        Image.fromarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)).save(path)
    else:
        path.write_bytes(coded.tobytes())
    found = survey([path])
    assert "mask_threshold" in options(found)
    np.testing.assert_array_equal(read_as(found, path), ids)


@pytest.mark.parametrize("coding", ["soft", "jpg"])
def test_colours_with_noise_get_a_tolerance(coding: str, tmp_path: Path) -> None:
    ids = np.roll(truth(), (3, 3), (0, 1)).repeat(4, 0).repeat(4, 1)
    picture = Image.fromarray(COLOURS[ids])
    if coding == "jpg":
        path = tmp_path / "a.jpg"
        picture.save(path, quality=90)
    else:
        path = tmp_path / "a.png"
        picture.resize((255, 191), Image.Resampling.BILINEAR).resize(picture.size).save(path)
    known = {tuple(map(int, colour)): name for colour, name in zip(COLOURS, "abcd", strict=True)}
    for named in ({}, known):
        found = survey([path], colors=named, source="labelmap.txt" * bool(named))
        assert len(found.class_names) == CLASSES and options(found)["color_tolerance"] <= 130
        read = read_as(found, path)
        centres = np.array(options(found)["class_colors"], np.int64)  # JPEG shifts them a little
        order = [abs(centres - colour).sum(1).argmin() for colour in COLOURS]
        assert (read == np.array(order)[ids]).mean() > 0.93


def test_probabilities_get_a_threshold_between_their_ends(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64)
    tifffile.imwrite(tmp_path / "a.tif", values)
    found = survey([tmp_path / "a.tif"])
    assert options(found)["mask_threshold"] == 0.5
    np.testing.assert_array_equal(read_as(found, tmp_path / "a.tif"), values > 0.5)


def test_class_ids_in_a_jpeg_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.roll(truth(), 3, 1)).save(tmp_path / "a.jpg", quality=90)
    assert survey([tmp_path / "a.jpg"]).faults == (
        "The values of the classes cannot be told apart; save masks as PNG.",
    )


def test_known_colours_give_order_and_names_and_void_is_ignored(tmp_path: Path) -> None:
    masks = folder(tmp_path, rgb)
    known = {OLIVE: "car", GREEN: "Void", MAROON: "cat", (0, 0, 0): "road", (1, 2, 3): "bus"}
    found = survey(masks, colors=known, source="label_colors.txt")
    assert found.class_names == ("car", "cat", "road", "bus")
    assert options(found)["class_colors"] == [[128, 128, 0], [128, 0, 0], [0, 0, 0], [1, 2, 3]]
    assert options(found)["ignore_colors"] == [[0, 128, 0]]
    expected = np.array([2, 1, IGNORE_INDEX, 0])[truth()]
    np.testing.assert_array_equal(read_as(found, masks[0]), expected)


def test_known_colours_name_the_entries_of_palettes(tmp_path: Path) -> None:
    masks = folder(tmp_path, palette)
    known = {(0, 0, 0): "background", GREEN: "cat", MAROON: "dog", OLIVE: "car"}
    found = survey(masks, colors=known, source="labelmap.txt")
    assert found.class_names == ("background", "cat", "dog", "car")
    expected = np.array([0, 2, 1, 3])[truth()]
    np.testing.assert_array_equal(read_as(found, masks[0]), expected)


def test_palettes_that_differ_are_read_by_their_colours(tmp_path: Path) -> None:
    palette(tmp_path / "0.png", truth())
    swapped = np.array([0, 2, 1, 3], np.uint8)[truth()]
    picture = Image.fromarray(swapped)
    picture.putpalette([0, 0, 0, *GREEN, *MAROON, *OLIVE])
    picture.save(tmp_path / "1.png")
    found = survey([tmp_path / "0.png", tmp_path / "1.png"])
    assert found.kind == "palette masks that differ in their indices: 4 colours"
    np.testing.assert_array_equal(*(read_as(found, tmp_path / f"{i}.png") for i in (0, 1)))


@pytest.mark.parametrize("shift", [0, 1])
def test_names_of_values_are_taken_and_a_list_may_leave_out_the_background(
    shift: int, tmp_path: Path
) -> None:
    masks = folder(tmp_path, grey)
    names = dict(enumerate([*NAMES.values()][shift:]))
    found = survey(masks, names=names, source="classes.txt")
    assert found.class_names == ("background", "cat", "dog", "car")
    assert found.settings[0].reason == "Names from classes.txt."
    np.testing.assert_array_equal(read_as(found, masks[1]), truth(1))


def test_a_named_void_value_is_ignored_and_later_ids_move_up(tmp_path: Path) -> None:
    masks = folder(tmp_path, grey)
    names = {0: "road", 1: "unlabeled", 2: "cat", 3: "car"}
    found = survey(masks, names=names, source="_classes.csv")
    assert found.class_names == ("road", "cat", "car")
    expected = np.array([0, IGNORE_INDEX, 1, 2])[truth()]
    np.testing.assert_array_equal(read_as(found, masks[0]), expected)


def test_named_classes_that_no_mask_shows_keep_their_ids(tmp_path: Path) -> None:
    grey(tmp_path / "a.png", np.array([0, 1, 3, 255], np.uint8)[truth()])
    found = survey([tmp_path / "a.png"], names={**NAMES, 4: "bus"}, ignored=frozenset({255}))
    assert found.class_names == ("background", "cat", "dog", "car", "bus")
    assert [*options(found)] == ["class_names"]


def test_unlabeled_beside_one_class_is_the_background(tmp_path: Path) -> None:
    grey(tmp_path / "a.png", truth(0, 2))
    found = survey([tmp_path / "a.png"], names={0: "unlabeled", 1: "road"}, source="classes.txt")
    assert found.class_names == ("unlabeled", "road")


def test_labels_in_alpha_are_refused(tmp_path: Path) -> None:
    rgba_values = np.zeros((48, 64, 4), np.uint8)
    rgba_values[..., 3] = truth() * 80
    Image.fromarray(rgba_values).save(tmp_path / "a.png")
    (fault,) = survey([tmp_path / "a.png"]).faults
    assert fault.startswith("The masks seem to be in the alpha channel")


def test_photographs_are_no_masks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(tmp_path / "a.png")
    (fault,) = survey([tmp_path / "a.png"]).faults
    assert fault.endswith("more than 254 classes. Are these images?")


def test_a_damaged_mask_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    masks = folder(tmp_path, grey)
    masks[1].write_bytes(masks[1].read_bytes()[:60])
    done = []
    found = survey_masks(masks, KnownLabels(), lambda: done.append(1))
    (fault,) = found.faults
    assert fault.startswith(str(masks[1])) and len(done) == 3
    assert len(found.class_names) == CLASSES
