"""Annotations in JSON are masks: of COCO as pycocotools draws them, of labelme by its shapes."""

import base64
import json
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from seg.constants import IGNORE_INDEX
from seg.data import SegmentationDataModule
from seg.data.files import annotations
from seg.data.files.annotations import read_annotated
from seg.data.files.headers import DataError
from seg.data.files.labels import Labels
from seg.errors import InputError

reference = pytest.importorskip(
    "pycocotools.mask", reason="pycocotools is not installed: pip install pycocotools"
)

HEIGHT, WIDTH = 40, 60
NAMES = ["background", "cat", "dog"]
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
SQUARE = [10.0, 5.0, 30.0, 5.0, 30.0, 25.0, 10.0, 25.0]
INNER = [15.0, 10.0, 20.0, 10.0, 20.0, 15.0, 15.0, 15.0]


def area(polygon: Any, category: int = 3, image: int = 1, **more: Any) -> dict[str, Any]:
    segmentation = polygon if isinstance(polygon, dict) else [polygon]
    return {"image_id": image, "category_id": category, "segmentation": segmentation, **more}


def coco(path: Path, areas: list[dict[str, Any]], images: int = 2, **more: Any) -> Path:
    """A file with images 0.jpg, 1.jpg, …, whose ids are 1, 2, …"""
    entries = [
        {"id": i + 1, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH}
        for i in range(images)
    ]
    areas = [{"id": i, **one} for i, one in enumerate(areas)]
    content = {"images": entries, "categories": CATEGORIES, "annotations": areas, **more}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def labelme(path: Path, shapes: list[dict[str, Any]], **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {"imageHeight": HEIGHT, "imageWidth": WIDTH}
    path.write_text(json.dumps({"version": "5", "shapes": shapes, **size, **more}))
    return path


def shape(points: Any, label: str = "cat", kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, **more}


def ids(path: Path, **label_map: Any) -> np.ndarray:
    return Labels(3, label_map, names=NAMES).read(path)


def test_a_square_of_whole_corners_is_its_pixels_and_the_rest_is_background(
    tmp_path: Path,
) -> None:
    file = coco(tmp_path / "a.json", [area(SQUARE)])
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[5:25, 10:30] = 1
    np.testing.assert_array_equal(ids(file / "0.jpg"), expected)
    assert not ids(file / "1.jpg").any()  # listed, without an annotation


def test_classes_are_found_by_name_and_categories_are_in_the_order_of_their_ids(
    tmp_path: Path,
) -> None:
    file = coco(tmp_path / "a.json", [area(SQUARE, 7)])
    mask = read_annotated(file / "0.jpg")
    assert (mask.names, mask.values.max()) == (("cat", "dog"), 2)
    swapped = Labels(3, names=["background", "dog", "cat"]).read(file / "0.jpg")
    assert swapped.max() == 1 and ids(file / "0.jpg").max() == 2


def test_polygons_and_run_lengths_are_drawn_as_pycocotools_draws_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    areas, expected = [], np.zeros((10, HEIGHT, WIDTH), np.uint8)
    for image in range(10):
        polygon = (rng.uniform(-5, 65, (6, 2)) * 100).round() / 100
        blob = np.asfortranarray(rng.random((HEIGHT, WIDTH)) < 0.01, np.uint8)
        packed = reference.encode(blob)
        counts = np.diff(np.flatnonzero(np.diff(blob.ravel("F"), prepend=0, append=0)))
        first = int(blob.ravel("F").argmax())
        loose = [first, *counts.tolist()]
        loose.append(HEIGHT * WIDTH - sum(loose))
        runs: dict[str, Any] = {"size": [HEIGHT, WIDTH], "counts": packed["counts"].decode()}
        if image % 2:
            runs["counts"] = loose
        areas += [area([*polygon.ravel().tolist()], 3, image + 1)]
        areas += [area(runs, 7, image + 1, iscrowd=1)]
        drawn = reference.decode(reference.frPyObjects([polygon.ravel().tolist()], HEIGHT, WIDTH))
        layers = sorted([(drawn[..., 0], 1), (blob, 2)], key=lambda layer: -int(layer[0].sum()))
        for layer, value in layers:
            expected[image][layer > 0] = value
    file = coco(tmp_path / "a.json", areas, 10)
    for image in range(10):
        np.testing.assert_array_equal(ids(file / f"{image}.jpg"), expected[image])


def test_a_smaller_area_lies_above_a_larger_one_in_either_order(tmp_path: Path) -> None:
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[5:25, 10:30], expected[10:15, 15:20] = 1, 2
    for order in (1, -1):
        areas = [area(SQUARE, 3), area(INNER, 7)][::order]
        file = coco(tmp_path / f"{order}.json", areas)
        np.testing.assert_array_equal(ids(file / "0.jpg"), expected)


def test_a_label_map_takes_names_and_0_for_what_is_not_annotated(tmp_path: Path) -> None:
    file = coco(tmp_path / "a.json", [area(SQUARE, 3), area(INNER, 7)])
    found = ids(file / "0.jpg", **{"0": "ignore", "dog": 1, "cat": 0})
    assert found[0, 0] == IGNORE_INDEX and found[6, 11] == 0 and found[11, 16] == 1
    with pytest.raises(InputError, match="cat maps to 5, which is neither a class id"):
        Labels(3, {"cat": 5}, names=NAMES)
    with pytest.raises(DataError, match=r"label 'dog' \(25 pixels\) is in neither data\.class_nam"):
        Labels(2, names=["background", "cat"]).read(file / "0.jpg")
    with pytest.raises(DataError, match=r"begin data\.class_names with background"):
        Labels(2, names=["cat", "dog"]).read(file / "0.jpg")
    values = Labels(2, {"0": "ignore"}, names=["cat", "dog"]).read(file / "0.jpg")
    assert values[6, 11] == 0 and values[0, 0] == IGNORE_INDEX


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (area([1, 1, 5, 5]), "a polygon of 2 points; it needs 3 or more"),
        (area([1, 1, 5, 5, 9]), "a polygon of 2.5 points"),
        (area([100, 5, 130, 5, 130, 25]), "a polygon lies outside the image of 40 x 60 pixels"),
        (area([1, 1, float("nan"), 5, 9, 9]), "a corner is no number"),
        (area(["a", 1, 5, 5, 9, 9]), "TypeError"),
        (area(SQUARE, 5), "category id 5 is none of [3, 7]"),
        ({"image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 5]}, "has no segmentation; a box"),
        (area({"size": [5, 5], "counts": [5, 5, 15]}), "run lengths of 5 x 5 pixels, the image"),
        (area({"size": [40, 60], "counts": [5, 5]}), "run lengths of 10 pixels, not 40 x 60"),
        (area({"size": [40, 60], "counts": "zzzz"}), "cannot be drawn (run lengths of"),
        (area({"size": [40, 60], "counts": "P13700000`"}), "cannot be drawn (run lengths of"),
    ],
)
def test_what_is_wrong_with_an_annotation_is_said_with_its_image(
    wrong: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = coco(tmp_path / "a.json", [area(SQUARE, image=2), wrong])
    with pytest.raises(DataError) as error:
        ids(file / "0.jpg")
    assert str(error.value).startswith(f"{file}/0.jpg: ") and message in str(error.value)
    assert ids(file / "1.jpg").sum() == 400  # the other image is read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a file of COCO annotations (JSONDecodeError"),
        ("[]", "not a file of COCO annotations"),
        ('{"images": [], "categories": []}', "KeyError: 'annotations'"),
        ('{"images": [], "categories": [], "annotations": []}', "has 0 images and 0 categories"),
        (
            '{"images": [], "categories": [], "annotations": [{"segments_info": []}]}',
            "panoptic annotations come with pictures",
        ),
    ],
)
def test_a_file_that_is_none_of_coco_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError) as error:
        ids(tmp_path / "a.json" / "0.jpg")
    assert str(error.value).startswith(f"{tmp_path}/a.json: ") and message in str(error.value)


def test_without_pycocotools_the_package_to_install_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = coco(tmp_path / "a.json", [area(SQUARE)])
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(InputError, match=r"Annotations in JSON need pycocotools .*: pip install p"):
        ids(file / "0.jpg")


def test_a_file_is_parsed_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []
    real = annotations.read_coco
    monkeypatch.setattr(annotations, "read_coco", lambda path: parsed.append(path) or real(path))
    file = coco(tmp_path / "a.json", [area(SQUARE)])
    for name in ("0.jpg", "1.jpg", "0.jpg"):
        ids(file / name)
    assert len(parsed) == 1
    coco(file, [area(SQUARE), area(INNER)])
    ids(file / "0.jpg")
    assert len(parsed) == 2


def test_shapes_of_labelme_are_drawn(tmp_path: Path) -> None:
    png = BytesIO()
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(png, "PNG")
    shapes = [
        shape([[2, 2], [12, 2], [12, 9], [2, 9]], "cat"),
        shape([[30, 20], [20, 10]], "dog", "rectangle"),
        shape([[45, 25], [45, 35]], "cat", "circle"),
        shape([[50, 1]], "dog", "mask", mask=base64.b64encode(png.getvalue()).decode()),
        shape([[0, 38], [5, 38], [5, 40], [0, 40]], "__ignore__"),
    ]
    drawn = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(drawn)
    draw.rectangle((2, 2, 11, 8), fill=1)
    draw.rectangle((20, 10, 29, 19), fill=2)
    expected = np.array(drawn)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    expected[np.hypot(x - 45, y - 25) <= 10] = 1
    expected[1:9, 50:58][np.eye(8, dtype=bool)] = 2
    expected[38:, :5] = IGNORE_INDEX
    np.testing.assert_array_equal(ids(labelme(tmp_path / "0.json", shapes)), expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (shape([[1, 1]], kind="point"), "a point has no area; delete it, or draw it as a polygon"),
        (shape([[1, 1], [2, 2]], kind="linestrip"), "a linestrip has no area"),
        (shape([[1, 1], [2, 2]]), "2 points; a polygon needs 3 or more"),
        (shape([[1, 1], [2, 2]], kind="star"), "star is none of polygon, rectangle, circle, mask"),
        (shape([[70, 1], [80, 1], [80, 9]]), "it lies outside the image of 40 x 60 pixels"),
        (shape([[1, 1]], kind="mask", mask="AAAA"), "its mask is no picture of one channel"),
        ({"label": "cat"}, "KeyError: 'points'"),
        (shape("abc"), "ValueError"),
    ],
)
def test_a_shape_that_is_no_area_is_refused(
    wrong: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = labelme(tmp_path / "0.json", [wrong])
    with pytest.raises(DataError) as error:
        ids(path)
    assert str(error.value).startswith(f"{path}: shape 0 ('cat'): ") and message in str(error.value)


def images(folder: Path, names: list[str], size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 255, (*size, 3))
        Image.fromarray(noise.astype(np.uint8)).save(folder / name)


def data(root: Path, **options: Any) -> SegmentationDataModule:
    given = {"class_names": NAMES, "crop_size": [32, 32], "batch_size": 2, "num_workers": 0}
    return SegmentationDataModule(str(root), **given, **options)


AREAS = [area(SQUARE, 3, 1), area(INNER, 7, 1), area(SQUARE, 7, 2), area(INNER, 3, 2)]


@pytest.mark.parametrize(
    ("files", "json_file", "options"),
    [
        ("images/{s}/{i}.jpg", "{s}.json", {"masks": "{split}.json"}),
        ("{s}/{i}.jpg", "{s}/_annotations.coco.json",
         {"images": "{split}", "masks": "{split}/_annotations.coco.json"}),
        ("all/{s}/{i}.jpg", "{s}.json", {"images": "all", "masks": "{split}.json"}),
    ],
    ids=["folders", "roboflow", "one folder"],
)  # fmt: skip
def test_files_of_coco_pair_with_images(
    files: str, json_file: str, options: dict[str, str], tmp_path: Path
) -> None:
    for split in ("train", "val"):
        images(tmp_path, [files.format(s=split, i=i) for i in range(3)])
        path = coco(tmp_path / json_file.format(s=split), AREAS, 3)
        if options.get("images") == "all":
            path.write_text(path.read_text().replace('"file_name": "', f'"file_name": "{split}/'))
    found = data(tmp_path, **options)
    found.setup("fit")
    assert found.class_counts().pixels.tolist() == [3 * 2400 - 800, 375 + 25, 375 + 25]
    (mask,) = {tuple(batch["mask"].shape) for batch in found.val_dataloader()}
    assert mask[1:] == (HEIGHT, WIDTH)


def test_what_does_not_pair_is_told_together(tmp_path: Path) -> None:
    images(tmp_path / "images/train", ["0.jpg", "5.jpg"])
    images(tmp_path / "images/train", ["1.jpg"], (50, 50))
    stray = area(SQUARE, 3, 99)
    file = coco(tmp_path / "train.json", [*AREAS, stray], 3)
    with pytest.raises(DataError) as error:
        data(tmp_path, masks="{split}.json").dataset("train")
    text = str(error.value)
    assert (
        "1 annotations are of images that are not in it, such as annotation 4 of image id 99"
        in text
    )
    assert f"{file}/2.jpg: no image in {tmp_path}/images/train is called 2.*" in text
    assert f"5.jpg: no mask in {file} is called 5.*" in text
    assert f"1.jpg is 50 x 50 but {file}/1.jpg is 40 x 60" in text
    file.unlink()
    with pytest.raises(DataError, match=r"train\.json: no such file \(data\.masks\)"):
        data(tmp_path, masks="{split}.json").dataset("train")


def test_a_split_remembers_its_scan_beside_that_of_another(tmp_path: Path) -> None:
    for split in ("train", "val"):
        images(tmp_path / "images" / split, ["0.jpg", "1.jpg"])
        coco(tmp_path / f"{split}.json", AREAS)
    data(tmp_path, masks="{split}.json").setup("fit")
    again = data(tmp_path, masks="{split}.json")
    done: list[int] = []
    for split in ("train", "val"):
        dataset = again.dataset(split)
        dataset.mask_values = lambda index: done.append(index)
        assert again.scan(split).pixels.sum() == 2 * 2400
    assert not done
    coco(tmp_path / "train.json", [area(SQUARE, 3, 1), area(SQUARE, 7, 2)])
    changed = data(tmp_path, masks="{split}.json").scan("train")
    assert changed.pixels.sum(0).tolist() == [4000, 400, 400]


def test_files_of_labelme_pair_with_images_beside_them(tmp_path: Path) -> None:
    for split in ("train", "val"):
        images(tmp_path / split, ["a/0.jpg", "1.jpg"])
        for name, label in (("a/0", "cat"), ("1", "dog")):
            labelme(tmp_path / split / f"{name}.json", [shape([[1, 1], [11, 1], [11, 11]], label)])
    found = data(tmp_path, images="{split}", masks="{split}/{stem}.json")
    found.setup("fit")
    assert found.dataset("train").pairs.names == ("1", "a/0")
    assert (found.class_counts().pixels[1:] >= 45).all()


@pytest.mark.parametrize("option", ["mask_threshold", "color_tolerance"])
def test_options_of_pictures_are_refused(option: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {option: 40, "class_colors": [[0, 0, 0], [1, 1, 1], [2, 2, 2]]}
    with pytest.raises(InputError, match="annotations in JSON: leave them out"):
        data(tmp_path, masks="{split}.json", **given)
