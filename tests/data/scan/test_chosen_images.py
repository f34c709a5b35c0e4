"""The images that previews show are the same whatever divides the work, and show rare classes."""

import numpy as np
import pytest
from PIL import Image

from seg.cli import app as cli
from seg.data.scan.chosen_images import images_of_rare_classes
from seg.data.scan.components import find_regions
from seg.data.scan.table import Scan
from tests.conftest import LIGHT, SMALL, write_pairs


def scan_of(masks, num_classes):
    return Scan.of([find_regions(np.asarray(m, np.uint8), num_classes) for m in masks], num_classes)


def mask(**pixels):
    """A mask of 100 pixels with so many of each class, `c1=3`, and else of class 0."""
    ids = np.zeros(100, np.uint8)
    place = 0
    for name, number in pixels.items():
        ids[place : place + number] = int(name[1:])
        place += number
    return ids.reshape(10, 10)


def test_the_rarest_class_is_shown_first_and_where_it_is_largest():
    masks = [mask(), mask(c1=30), mask(c1=50), mask(c2=2), mask(c2=4), mask(c1=50, c2=1)]
    scan = scan_of(masks, 3)
    assert images_of_rare_classes(scan, range(6), 1) == [4]
    assert images_of_rare_classes(scan, range(6), 2) == [4, 1]


def test_classes_that_never_come_together_are_shown_in_turn():
    scan = scan_of([mask(c1=50)] * 6 + [mask(c2=10)] * 3, 3)
    chosen = images_of_rare_classes(scan, range(9), 6)
    assert [index >= 6 for index in chosen] == [True, False] * 3


def test_neighbours_in_the_split_are_not_chosen_where_others_show_the_class_well():
    # frames of five videos, alike within each
    masks = [mask(c1=amount) for amount in (50, 40, 60, 30, 45) for _ in range(10)]
    chosen = images_of_rare_classes(scan_of(masks, 2), range(50), 5)
    assert len({index // 10 for index in chosen}) >= 4


def test_every_class_is_shown_where_there_are_places_for_all():
    rng = np.random.default_rng(0)
    masks = [rng.choice(8, (10, 10), p=[0.5, 0.3, 0.1, 0.04, 0.03, 0.01, 0.01, 0.01])]
    masks += [rng.integers(0, 2, (10, 10)) for _ in range(50)]
    masks += [mask(**{f"c{c}": 20}) for c in range(2, 8)]
    chosen = images_of_rare_classes(scan_of(masks, 8), range(len(masks)), 8)
    assert len(set(chosen)) == 8
    assert {c for i in chosen for c in np.unique(masks[i])} == set(range(8))


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9])
def test_so_many_images_are_chosen_as_there_are_also_where_all_is_ignored(count):
    scan = scan_of([np.full((4, 5), 255)] * 3 + [np.zeros((0, 1))], 2)
    chosen = images_of_rare_classes(scan, range(4), count)
    assert sorted(chosen) == list(range(min(count, 4)))


def test_the_choice_is_among_the_images_that_are_judged_in_any_order():
    scan = scan_of([mask(c1=number) for number in (50, 40, 30, 20)], 2)
    assert images_of_rare_classes(scan, [3, 1, 2], 1) == [1]
    assert images_of_rare_classes(scan, [], 3) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data of 23 validation images, of which one shows class 4, and a run on it."""
    root = tmp_path_factory.mktemp("previews")
    data = root / "data"
    for seed, (split, count, classes) in enumerate((("train", 8, 5), ("val", 23, 4))):
        folders = data / "images" / split, data / "masks" / split
        write_pairs(*folders, count, (40, 56), range(classes), seed)
    rare = np.asarray(Image.open(root / "data/masks/val/13.png")).copy()
    rare[:9, :9] = 4
    Image.fromarray(rare).save(root / "data/masks/val/13.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        given = ["--data.root=data", "--data.class_names=[a,b,c,d,e]", "--name=run"]
        assert cli.main(["fit", *SMALL, *LIGHT, *given, "--trainer.max_epochs=2"]) == 0
    return root


def names(path):
    return sorted(picture.name for picture in path.glob("*.png"))


@pytest.mark.slow
def test_a_fit_pictures_the_rare_class_and_as_many_images_as_it_says(folder):
    found = names(folder / "runs/run/version_0/previews")
    assert len(found) == 8
    assert found[0] == "0_13.png"


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3, 30])
def test_any_batch_size_pictures_the_same_images(folder, batch, monkeypatch):
    monkeypatch.chdir(folder)
    last = "--ckpt_path=runs/run/version_0/checkpoints/best.ckpt"
    given = [last, f"--data.eval_batch_size={batch}", f"--output=out{batch}"]
    assert cli.main(["validate", *given]) == 0
    assert names(folder / f"out{batch}/previews") == names(folder / "runs/run/version_0/previews")


@pytest.mark.slow
def test_of_a_part_of_the_split_images_of_that_part_are_pictured(folder, monkeypatch):
    monkeypatch.chdir(folder)
    last = "--ckpt_path=runs/run/version_0/checkpoints/best.ckpt"
    part = ["--data.eval_batch_size=2", "--trainer.limit_val_batches=2", "--output=part"]
    assert cli.main(["validate", last, *part]) == 0
    shown = {name.partition("_")[2] for name in names(folder / "part/previews")}
    assert shown == {"00.png", "01.png", "02.png", "03.png"}


@pytest.mark.slow
def test_a_mask_of_one_pixel_is_pictured_where_images_are_resized(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "images/train", tmp_path / "masks/train", 4, (32, 40), range(2))
    for kind, value in (("images", [9, 9, 9]), ("masks", 1)):
        (tmp_path / kind / "val").mkdir()
        pixel = np.full((1, 1, 3) if kind == "images" else (1, 1), value, np.uint8)
        Image.fromarray(pixel).save(tmp_path / kind / "val" / "dot.png")
    given = ["--data.root=.", "--data.class_names=[a,b]", "--data.resize=[32,32]", "--name=run"]
    assert cli.main(["fit", *SMALL, *LIGHT, *given]) == 0
    assert names(tmp_path / "runs/run/version_0/previews") == ["0_dot.png"]
