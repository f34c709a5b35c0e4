"""`seg init` on folders as people have them: the YAML is read by `seg audit` and `seg fit`."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from seg.data import SegmentationDataModule
from tests.cli.test_app import seg
from tests.conftest import LIGHT, SMALL
from tests.data.discovery import folders, formats
from tests.data.discovery.folders import NUMBERS, coloured, write

STEPS = [*LIGHT, *[option for option in SMALL if "data." not in option], "--data.num_workers=0"]
STEPS += ["--trainer.max_steps=2", "--trainer.logger=false", "--trainer.enable_checkpointing=false"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Commands run in a folder apart from the data's, with its own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


def data_of(file="mine.yaml"):
    return yaml.safe_load(Path(file).read_text(encoding="utf-8"))["data"]


def contents(root):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in root.rglob("*")}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:no pixel of class")  # that the folder names and does not show
@pytest.mark.parametrize(
    "make", [*formats.FORMATS, *formats.ANNOTATED], ids=lambda make: make.__name__
)
def test_a_folder_is_audited_and_trained_on_without_an_edit(root, make, capsys):
    if make in formats.ANNOTATED:
        pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    make(root)
    before = contents(root)
    assert seg("init", root) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-2:] == [
        "  seg audit -c mine.yaml",
        "  seg fit -c mine.yaml -c rare",
    ]
    assert contents(root) == before
    assert seg("audit", "-c", "mine.yaml") == 0
    assert seg("fit", "-c", "mine.yaml", "-c", "rare", *STEPS) == 0
    facts = json.loads(Path("audit/audit.json").read_text(encoding="utf-8"))
    assert not facts["duplicates"] and not facts["nothing_to_learn"]


def pairs_of(role):
    return SegmentationDataModule(**data_of()).dataset(role).pairs


def test_a_published_test_split_stays_and_training_gives_the_validation_split(root):
    formats.train_and_test_only(root)
    assert seg("init", root) == 0
    images = {role: {str(p.relative_to(root)) for p in pairs_of(role).images}
              for role in ("train", "val", "test")}  # fmt: skip
    assert images["test"] == {f"test/{name}.jpg" for name in NUMBERS[:8]}
    assert images["train"] | images["val"] == {f"train/{name}.jpg" for name in NUMBERS[:8]}
    assert not images["train"] & images["val"]


def test_slices_of_a_patient_stay_in_one_split(root):
    formats.patients(root)
    assert seg("init", root) == 0
    of = {role: {name.split("_")[0] for name in pairs_of(role).names}
          for role in ("train", "val", "test")}  # fmt: skip
    assert all(of.values())
    assert sum(map(len, of.values())) == 6


def test_lists_with_a_byte_order_mark_are_taken_as_they_are(root):
    formats.voc(root)
    assert seg("init", root) == 0
    assert data_of()["split_files"] == "ImageSets/Segmentation/{split}.txt"
    assert pairs_of("val").names == ("004", "005")


def test_a_number_in_two_lists_is_left_out_of_training(root, capsys):
    write(root, "images/{}_image.jpg", "annotations/{}_annotation.png", NUMBERS, coloured)
    (root / "split.yaml").write_text("train: [1, 2, 3, 4, 5, 6]\ntest: [6, 7, 8, 9, 10]\n")
    assert seg("init", root) == 0
    assert "006 in train and in another split: left out of train" in capsys.readouterr().out
    assert pairs_of("test").names == tuple(NUMBERS[5:])
    assert sorted([*pairs_of("train").names, *pairs_of("val").names]) == NUMBERS[:5]


def test_the_classes_are_the_masks_values_or_colours(root):
    formats.black_and_white(root)
    assert seg("init", root) == 0
    assert data_of()["class_names"] == ["background", "object"]
    assert data_of()["label_map"] == {0: 0, 255: 1}


def test_classes_that_a_file_names_and_no_mask_shows_are_allowed(root):
    for split in ("train", "val"):
        image = f"leftImg8bit/{split}/ulm/ulm_{{}}_leftImg8bit.png"
        mask = f"gtFine/{split}/ulm/ulm_{{}}_gtFine_labelIds.png"
        write(root, image, mask, NUMBERS[:3], values=(7, 0, 33))
    assert seg("init", root) == 0
    data = data_of()
    assert (len(data["class_names"]), data["allow_empty_classes"]) == (19, True)
    scan = SegmentationDataModule(**data).scan("train")
    assert (scan.pixels.sum(0) > 0).nonzero()[0].tolist() == [0, 18]


def test_camvid_has_its_names_and_its_void_class_is_ignored(root):
    for split in ("train", "val"):
        names = [f"0001TP_{name}" for name in NUMBERS[:3]]
        write(root, f"{split}/{{}}.png", f"{split}annot/{{}}.png", names, values=(0, 10, 11))
    assert seg("init", root) == 0
    data = data_of()
    assert (data["class_names"][0], data["class_names"][10]) == ("sky", "bicyclist")
    assert data["label_map"] == {11: "ignore"}


def test_a_class_that_only_validation_shows_stops_a_training(root, capsys):
    write(root, "images/train/{}.jpg", "masks/train/{}.png", NUMBERS[:4], values=(0, 1))
    write(root, "images/val/{}.jpg", "masks/val/{}.png", NUMBERS[4:], values=(0, 1, 2))
    assert seg("init", root) == 1
    assert "class_2: in no training image" in capsys.readouterr().out


def test_a_random_division_is_that_which_was_judged(root):
    formats.two_folders(root)
    assert seg("init", root) == 0
    assert [*data_of()["split_fractions"]] == ["train", "val", "test"]
    assert [len(pairs_of(role)) for role in ("train", "val", "test")] == [6, 2, 2]


@pytest.mark.parametrize(
    ("make", "lines"),
    [
        (formats.soft_edges, {"class_names": ["background", "object"], "mask_threshold": 127}),
        (formats.jpeg_masks, {"class_names": ["background", "object"], "mask_threshold": 127}),
        (formats.cvat, {"class_names": ["background", "rust", "paint", "never"]}),
        (formats.roboflow, {"class_names": ["background", "weed", "crop"], "val_split": "valid"}),
        (formats.nnunet, {"class_names": ["background", "liver", "tumour"]}),
        (formats.ade20k, {"label_map": {0: "ignore", 1: 0, 2: 1}, "train_split": "training"}),
        (formats.from_one, {"label_map": {1: 0, 2: 1, 3: 2}, "in_channels": 4}),
        (formats.voc, {"masks": "SegmentationClass"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_lines_are_those_that_the_format_needs(root, make, lines):
    make(root)
    assert seg("init", root) == 0
    assert {key: data_of()[key] for key in lines} == lines


@pytest.mark.slow
def test_what_cannot_be_known_is_asked_and_refused_in_the_same_words(root, capsys):
    write(root, "images/{}.jpg", "masks/{}.png", NUMBERS, values=(0, 1, 200))
    assert seg("init", root) == 1
    words = "what is 200?"
    assert words in capsys.readouterr().out
    assert words in Path("mine.yaml").read_text(encoding="utf-8")
    assert data_of()["label_map"] == {200: "???"}
    assert seg("fit", "-c", "mine.yaml", *STEPS) == 2
    assert words in capsys.readouterr().err
    text = Path("mine.yaml").read_text(encoding="utf-8").replace("'???'", "ignore")
    Path("mine.yaml").write_text(text, encoding="utf-8")
    assert seg("audit", "-c", "mine.yaml") == 0


def test_another_file_is_not_written_over_without_a_word(root, capsys):
    formats.two_folders(root)
    Path("mine.yaml").write_text("mine")
    assert seg("init", root) == 2
    assert Path("mine.yaml").read_text() == "mine"
    assert "mine.yaml: exists; write it anew with --overwrite" in capsys.readouterr().err
    assert seg("init", root, "--overwrite") == 0
    assert data_of()["images"] == "images"


def test_the_yaml_is_not_written_into_the_folder(root, capsys):
    formats.two_folders(root)
    os.chdir(root)
    assert seg("init", ".") == 2
    assert "in which nothing is changed" in capsys.readouterr().err


def test_what_stops_a_training_is_told(root, capsys):
    formats.two_folders(root)
    (root / "masks/001.png").unlink()
    (root / "images/002.jpg").write_bytes(b"no picture")
    folders.save(root / "masks/003.png", folders.index_mask(3, size=(40, 40)))
    assert seg("init", root) == 1
    out = capsys.readouterr().out
    assert "images/001.jpg: image without a mask" in out
    assert "images/002.jpg: not a picture in a known format" in out
    assert "images/003.jpg is 40 x 48 but" in out
    assert "What stops a training" in Path("mine.yaml").read_text(encoding="utf-8")


def test_large_images_with_thin_areas_are_cropped_several_times_an_epoch(root):
    for number, name in enumerate(NUMBERS[:3]):
        mask = np.zeros((1200, 1200), np.uint8)
        mask[100 + number : 1100, 300:304] = 1
        folders.save(root / f"images/{name}.png", mask * 90)
        folders.save(root / f"masks/{name}.png", mask)
    assert seg("init", root) == 0
    data = data_of()
    assert "resize" not in data and (data["crop_size"], data["crops_per_image"]) == ([512, 512], 5)
    module = SegmentationDataModule(**data, num_workers=0)
    module.setup("fit")
    batches = [*module.train_dataloader()]
    assert len(batches) == len(pairs_of("train")) * 5 // data["batch_size"]
    assert batches[0]["image"].shape[2:] == (512, 512)


def test_images_that_a_file_of_coco_does_not_list_stop_a_training_and_lists_settle_it(root, capsys):
    pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    formats.coco_runs(root)
    folders.save(root / "images/spare.jpg", folders.picture(99, folders.index_mask(99)))
    assert seg("init", root) == 1
    said = f"1 image is not listed in annotations.json: {root}/images/spare.jpg; move them away"
    assert said in capsys.readouterr().out
    for split, names in (("train", NUMBERS[:7]), ("val", NUMBERS[7:])):
        (root / f"{split}.txt").write_text("\n".join(names))
    assert seg("init", root, "--overwrite") == 0
    assert len(pairs_of("train")) == 7


@pytest.mark.parametrize("given", ["../data", "absolute"])
def test_lists_are_found_after_yaml_and_folder_are_moved_together(root, tmp_path, given):
    formats.patients(root)
    assert seg("init", root if given == "absolute" else given) == 0
    before = pairs_of("train").names
    assert data_of()["split_files"] == "../here/mine_splits/{split}.txt"
    (tmp_path / "moved").mkdir()
    for folder in ("data", "here"):
        (tmp_path / folder).rename(tmp_path / "moved" / folder)
    os.chdir(tmp_path / "moved/here")
    data = data_of() | ({"root": f"{tmp_path}/moved/data"} if given == "absolute" else {})
    assert SegmentationDataModule(**data).dataset("train").pairs.names == before


def test_lists_of_a_folder_behind_a_link_are_named_from_the_top(tmp_path):
    formats.patients(tmp_path / "store/data")
    (tmp_path / "link").symlink_to(tmp_path / "store/data")
    assert seg("init", tmp_path / "link") == 0
    assert data_of()["split_files"] == f"{tmp_path}/here/mine_splits/{{split}}.txt"
    assert len(pairs_of("train")) > 0


@pytest.mark.parametrize("names", [["case_1.nii.gz", "case_2.nii.gz"], ["a/1.dcm", "a/2.dcm"]])
def test_volumes_are_refused_with_what_to_save_instead(root, capsys, names):
    for name in names:
        (root / "imagesTr" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "imagesTr" / name).write_bytes(b"volume")
    assert seg("init", root) == 2
    said = capsys.readouterr().err
    assert f"2 volumes such as imagesTr/{names[0]}, which are not read; save each slice" in said


def test_a_folder_of_pictures_alone_is_refused(root, capsys):
    write(root, "a/{}.png", "b/x{}y.png", NUMBERS[:2])
    assert seg("init", root / "a") == 2
    assert "no image and mask share a name" in capsys.readouterr().err
