"""Nothing is trained on masks that nothing can be learnt from."""

import logging

import numpy as np
import pytest
from PIL import Image

from seg.data import SegmentationDataModule
from seg.data.files.headers import DataError
from tests.cli.test_app import seg
from tests.conftest import LIGHT, SMALL
from tests.processes import make_runs

ALL = np.full((16, 16), 255)
NONE = np.zeros((16, 16))
HALF = np.where(np.arange(16) < 8, 0, 255) * np.ones((16, 1))
CORNER = np.zeros((16, 16))
CORNER[:4, :4] = 1


@pytest.fixture
def root(tmp_path):
    """A folder with a validation split of two classes; each test writes its training masks."""
    write(tmp_path, "val", [CORNER])
    return tmp_path


def write(root, split, masks, mode="L"):
    for kind in ("images", "masks"):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
    for i, mask in enumerate(masks):
        Image.new("RGB", mask.shape[::-1]).save(root / "images" / split / f"{i}.png")
        file = Image.fromarray(mask.astype(np.uint8)).convert(mode)
        file.save(root / "masks" / split / f"{i}.png")


def prepared(root, names=("ground", "crack"), **options):
    data = SegmentationDataModule(str(root), class_names=list(names), **options)
    data.setup("fit")
    return data


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("masks", [[HALF, NONE], [HALF, HALF, ALL], [ALL, ALL, HALF]])
def test_masks_of_0_and_255_are_refused_with_the_line_to_write(masks, mode, root):
    write(root, "train", masks, mode)
    with pytest.raises(DataError, match=r"0 and 255 only, .*data.label_map: \{0: 0, 255: 1\}"):
        prepared(root)
    counts = prepared(root, label_map={0: 0, 255: 1}).class_counts()
    assert counts.pixels.tolist() == [sum((m == 0).sum() for m in masks),
                                      sum((m == 255).sum() for m in masks)]  # fmt: skip


def test_a_class_without_a_pixel_is_refused_by_name(root):
    write(root, "train", [CORNER, NONE])
    with pytest.raises(DataError, match=r"No training mask has a pixel of bolt, nut; leave it out"):
        prepared(root, ["ground", "crack", "bolt", "nut"])


def test_masks_most_of_which_are_ignored_are_refused_with_their_number(root):
    write(root, "train", [CORNER, ALL, ALL])
    with pytest.raises(DataError, match=r"2 of 3 training masks are ignored throughout"):
        prepared(root)
    write(root, "train", [CORNER, CORNER, ALL])
    prepared(root)


def test_what_is_allowed_is_warned_of(root, caplog):
    write(root, "train", [CORNER, ALL, ALL])
    with caplog.at_level(logging.WARNING):
        prepared(root, ["ground", "crack", "bolt"], allow_empty_classes=True)
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "2 of 3 training masks are ignored throughout: every pixel is 255 after data.label_map",
        "No training mask has a pixel of bolt",
    ]


@pytest.mark.parametrize("split", ["training", "validation"])
def test_a_split_without_a_pixel_that_counts_is_always_refused(split, root):
    write(root, "train", [ALL * 0 + 7] if split == "training" else [CORNER])
    if split == "validation":
        write(root, "val", [ALL])
    with pytest.raises(DataError, match=f"All 1 {split} masks are ignored throughout"):
        prepared(root, allow_empty_classes=True, label_map={7: 255})


@pytest.mark.slow
def test_fit_says_so_in_one_line_and_audit_says_it_first(root, tmp_path, capsys):
    write(root, "train", [HALF, NONE])
    output = tmp_path / "audit"
    output.mkdir()
    (output / "recommended.yaml").write_text("# seg fit -c DATA.yaml -c of an earlier audit")
    data = ["--data.root", root, "--data.class_names=[ground, crack]"]
    assert seg("fit", *data, *SMALL, "--trainer.default_root_dir", tmp_path) == 2
    fit = capsys.readouterr().err
    assert "Traceback" not in fit
    assert seg("audit", *data, "--output", output) == 1
    audit = capsys.readouterr().out
    for said in (fit, audit, (output / "audit.html").read_text()):
        assert "data.label_map: {0: 0, 255: 1}" in said
    assert not (output / "recommended.yaml").exists()


@pytest.mark.slow
def test_ranks_that_wait_for_the_first_ones_scan_train_as_one_does(root):
    write(root, "train", [CORNER] * 4)
    data = ["--data.root=.", "--data.class_names=[ground, crack]", *SMALL, "--name=two"]
    make_runs(root, [[2, ["fit", *data, *LIGHT, "--data.crop_size=[16,16]"]]])
    assert (root / "runs/two/version_0/per_class.json").exists()


def test_audit_recommends_nothing_where_no_training_mask_can_be_read(root, tmp_path, capsys):
    write(root, "train", [CORNER] * 2)
    masks = list(root.rglob("train/*.png"))
    for mask in (path for path in masks if "masks" in str(path)):
        whole = mask.read_bytes()
        mask.write_bytes(whole[: whole.index(b"IDAT") + 6])  # the header stays
    data = ["--data.root", root, "--data.class_names=[ground, crack]"]
    assert seg("audit", *data, "--output", tmp_path / "audit") == 1
    assert "None of the 2 training masks can be read." in capsys.readouterr().out
    assert not (tmp_path / "audit" / "recommended.yaml").exists()
