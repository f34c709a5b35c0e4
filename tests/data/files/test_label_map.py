"""Values of masks, whatever their type, become class ids by single values, ranges and names."""

import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile

from seg.data import SegmentationDataModule
from seg.data.files import labels as labels_module
from seg.data.files.headers import DataError
from seg.data.files.label_map import LabelMap
from seg.data.files.labels import Labels
from seg.data.scan.components import find_regions
from seg.errors import InputError
from tests.cli.test_app import seg
from tests.conftest import LIGHT, SMALL, write_pairs


def written(path: Path, values: object, dtype: type, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.array(values, dtype), **options)
    return path


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.float32, np.float64])
def test_a_value_below_0_is_mapped_in_every_type_that_has_one(dtype: type, tmp_path: Path) -> None:
    path = written(tmp_path / "mask.tif", [[-1, 0], [1, -1]], dtype)
    assert Labels(2, {-1: 255}).read(path).tolist() == [[255, 0], [1, 255]]
    with pytest.raises(DataError, match=r"label -1 \(2 pixels\) is in neither label_map"):
        Labels(2).read(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_ranges_hold_both_their_ends(dtype: type, tmp_path: Path) -> None:
    path = written(tmp_path / "mask.tif", [[0, 1, 20, 21, 100]], dtype)
    given = Labels(3, {"1-20": 1, "21-100": 2})
    assert given.read(path).tolist() == [[0, 1, 1, 2, 2]]
    values = given.read_values(path)
    found = find_regions(values.values, 3, values.to_ids)
    assert found.pixels.tolist() == [1, 2, 2]


def test_the_later_of_two_entries_counts_and_ignore_is_255() -> None:
    found = LabelMap(3, {"-10--5": "ignore", "-5-70000": 1, 7: 2, "nan": "ignore"})
    values = np.array([-10, -6, -5, -1, 0, 7, 8, 70000, np.nan])
    assert found.ids(values).tolist() == [255, 255, 1, 1, 1, 2, 1, 1, 255]
    assert found.ids(np.array([-11, 70001, 0.5])).tolist() == [254] * 3
    assert found.named == [*range(65536), 7]


def test_ids_of_wide_types_agree_with_the_table() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 300, (40, 30))
    found = LabelMap(5, {"10-99": 3, 200: 4, "250-260": "ignore"})
    for dtype in (np.int16, np.uint32, np.int64, np.float32):
        np.testing.assert_array_equal(found.ids(values.astype(dtype)), found.table[values])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"5-1": 0}, "'5-1' is no whole number, no range"),
        ({1.5: 0}, "1.5 is no whole number"),
        ({1: 2}, "1 maps to 2, which is neither a class id 0..1 nor 255 or ignore"),
        ({1: -1}, "1 maps to -1"),
        ({1: "void"}, "1 maps to void"),
    ],
)
def test_an_entry_that_is_none_is_named(given: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LabelMap(2, given)


def test_maps_that_read_values_alike_have_one_code() -> None:
    assert LabelMap(3, {1: 1}).code == LabelMap(3, {}).code
    codes = {LabelMap(3, given).code for given in ({}, {-1: 255}, {-1: 1}, {"nan": 1}, {9: 1})}
    assert len(codes) == 5


NODATA = [(np.int16, -9999), (np.float32, -9999), (np.float32, "nan"), (np.uint8, 200)]


@pytest.mark.parametrize(("dtype", "nodata"), NODATA)
def test_what_a_geotiff_declares_as_no_data_is_ignored_and_said_once(
    dtype: type, nodata: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels_module._say_once.cache_clear()
    values = [[float(nodata), 0], [1, float(nodata)]]
    tag = [(42113, "s", 0, str(nodata), True)]
    path = written(tmp_path / "mask.tif", values, dtype, extratags=tag)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert Labels(2).read(path).tolist() == [[255, 0], [1, 255]]
    assert caplog.text.count("to be no data: it is ignored") == 1
    mask = Labels(2).read_values(path)
    assert find_regions(mask.values, 2, mask.to_ids).ignored == 2
    assert Labels(2, {str(nodata): 1}).read(path).tolist() == [[1, 0], [1, 1]]


def test_other_values_without_a_class_are_still_told_beside_no_data(tmp_path: Path) -> None:
    tag = [(42113, "s", 0, "-9999", True)]
    path = written(tmp_path / "mask.tif", [[-9999, 7]], np.int16, extratags=tag)
    with pytest.raises(DataError, match=r"label 7 \(1 pixels\)"):
        Labels(2).read(path)


def test_a_large_label_is_told_in_full(tmp_path: Path) -> None:
    for dtype in (np.int32, np.float64):
        path = written(tmp_path / "mask.tif", [[0, 1234567]], dtype)
        with pytest.raises(DataError, match=r"label 1234567 \(1 pixels\)"):
            Labels(2).read(path)


def test_a_class_keeps_its_value_though_it_is_declared_as_no_data(tmp_path: Path) -> None:
    path = written(
        tmp_path / "mask.tif", [[0, 1]], np.uint8, extratags=[(42113, "s", 0, "0", True)]
    )
    assert Labels(2).read(path).tolist() == [[0, 1]]


@pytest.mark.slow
def test_ranges_in_a_yaml_are_read_and_travel_in_the_checkpoint(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_pairs(tmp_path / "images" / split, tmp_path / "masks" / split, 4, (40, 56), (3, 5, 7))
    (tmp_path / "mine.yaml").write_text(
        f"data: {{root: {tmp_path}, class_names: [a, b], label_map: {{1-4: 0, 5: 1, 7: ignore}}}}\n"
    )
    out = ["--trainer.default_root_dir", tmp_path, "--name=ranges"]
    assert seg("fit", "-c", tmp_path / "mine.yaml", *SMALL, *LIGHT, *out) == 0
    best = tmp_path / "ranges/version_0/checkpoints/best.ckpt"
    assert seg("validate", "--ckpt_path", best, "--output", tmp_path / "judged") == 0
    one = (tmp_path / "judged/per_class.json").read_bytes()
    assert one == (tmp_path / "ranges/version_0/per_class.json").read_bytes()
    data = SegmentationDataModule(
        str(tmp_path), class_names=["a", "b"], label_map={3: 0, 5: 1, 7: 255}
    )
    assert data.class_counts().pixels.min() > 0
