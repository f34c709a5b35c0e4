"""Names and colours of classes are taken from the files that annotation programs write."""

import json
from pathlib import Path, PurePosixPath

import pytest

from seg.data.discovery.label_files import read_label_files
from seg.data.discovery.setting import KnownLabels

CVAT = """# label:color_rgb:parts:actions
background:0,0,0::
cat:51,221,255::
"""
ROBOFLOW = "Pixel Value, Class\n0, background\n1, cat\n2, big dog\n"
CAMVID = "64 128 64\tAnimal\n0 0 0\t\tVoid\n192 128 255    Traffic Light\n"
CLASS_DICT = "name,r,g,b\nurban_land,0,255,255\nunknown,0,0,0\n"
NNUNET = {"labels": {"background": 0, "edema": 1, "whole": [1, 2]}, "numTraining": 2}
OLD_NNUNET = {"labels": {"0": "background", "1": "edema"}}
SUPERVISELY = {"classes": [{"title": "cat", "shape": "bitmap", "color": "#33DDFF"}], "tags": []}
MAPILLARY = {
    "labels": [
        {"name": "a--road", "readable": "Road", "color": [128, 64, 128], "evaluate": True},
        {"name": "void--car", "readable": "Car Mount", "color": [32, 32, 32], "evaluate": False},
    ]
}


@pytest.mark.parametrize(
    ("name", "text", "names", "colors"),
    [
        ("labelmap.txt", CVAT, {}, {(0, 0, 0): "background", (51, 221, 255): "cat"}),
        ("train/_classes.csv", ROBOFLOW, {0: "background", 1: "cat", 2: "big dog"}, {}),
        (
            "label_colors.txt",
            CAMVID,
            {},
            {(64, 128, 64): "Animal", (0, 0, 0): "Void", (192, 128, 255): "Traffic Light"},
        ),
        ("class_dict.csv", CLASS_DICT, {}, {(0, 255, 255): "urban_land", (0, 0, 0): "unknown"}),
        ("objectInfo150.txt", "Idx\tRatio\tName\n1\t0.1\twall, cave\n", {1: "wall, cave"}, {}),
        ("classes.txt", "background\ncat\n", {0: "background", 1: "cat"}, {}),
        ("labels.txt", "__ignore__\nsky\ncat\n", {-1: "__ignore__", 0: "sky", 1: "cat"}, {}),
        ("labels.txt", "0: background\n7: cat\n", {0: "background", 7: "cat"}, {}),
        ("dataset.json", json.dumps(NNUNET), {0: "background", 1: "edema"}, {}),
        ("dataset.json", json.dumps(OLD_NNUNET), {0: "background", 1: "edema"}, {}),
        ("meta.json", json.dumps(SUPERVISELY), {}, {(51, 221, 255): "cat"}),
        (
            "config_v1.2.json",
            json.dumps(MAPILLARY),
            {0: "Road", 1: "Car Mount"},
            {(128, 64, 128): "Road", (32, 32, 32): "Car Mount"},
        ),
    ],
)  # fmt: skip
def test_names_and_colours_are_read(
    name: str,
    text: str,
    names: dict[int, str],
    colors: dict[tuple[int, int, int], str],
    tmp_path: Path,
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    found = read_label_files(tmp_path, [PurePosixPath("notes.md"), PurePosixPath(name)])
    assert (found.names, found.colors, found.source) == (names, colors, name)
    assert list(found.colors) == list(colors)  # the order of the classes


def test_classes_that_are_not_evaluated_are_void(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MAPILLARY))
    found = read_label_files(tmp_path, [PurePosixPath("config.json")])
    assert found.ignored == {1, (32, 32, 32)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labelmap.txt", "no colours here\n"),
        ("labelmap.txt", "cat:300,0,0::\n"),
        ("dataset.json", '{"labels": 3}'),
        ("dataset.json", "[1, 2"),
        ("config.json", '{"labels": [{"id": 1}]}'),
        ("meta.json", '{"classes": [{"title": "cat", "color": "red"}]}'),
        ("class_dict.csv", "a,b\n1,2\n"),
        ("_classes.csv", "Pixel Value, Class\nx, y\n"),
        ("labelmap.txt", "\ud83d".encode("utf-16-le", "surrogatepass").decode("latin-1")),
    ],
)
def test_another_file_of_that_name_says_nothing(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="latin-1")
    assert read_label_files(tmp_path, [PurePosixPath(name)]) == KnownLabels()
