"""Pasted components against brute force: what is pasted, where, how often, and nothing else."""

import pickle

import albumentations as A
import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import chisquare

from seg.data import Components, CopyPaste, SegmentationDataModule
from seg.data.augment.copy_paste import (
    Piece,
    cut,
    paste_image,
    paste_mask,
    placed,
    rarest_half,
    scaled,
)
from seg.data.augment.transforms import TrainingTransform
from seg.data.scan.components import find_regions
from seg.data.scan.table import Scan
from seg.errors import InputError
from tests.cli.test_app import seg
from tests.conftest import LIGHT, SYNTHETIC, write_pairs

CLASSES = 4


def pictures(count=6, size=(40, 50)):
    """Images of noise, masks with squares of the classes 1 to 3, of 36, 64 and 100 pixels."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        mask = np.zeros(size, np.uint8)
        for c, side in ((1, 6), (2, 8), (3, 10)):
            if (i + c) % 2:
                top, left = rng.integers(0, 12), 15 * (c - 1)
                mask[top : top + side, left : left + side] = c
        found.append((rng.integers(0, 256, (*size, 3)).astype(np.uint8), mask))
    return found


def components(made, classes=None, resize=None):
    scan = Scan.of([find_regions(mask, CLASSES) for _, mask in made], CLASSES)
    return Components.of(scan, classes, made.__getitem__, resize)


def test_a_component_is_cut_out_alone_from_others_of_its_class():
    rng = np.random.default_rng(1)
    for _ in range(40):
        mask = (rng.random((20, 24)) < 0.45).astype(np.uint8)
        image = rng.integers(0, 256, (20, 24, 3)).astype(np.uint8)
        regions = find_regions(mask, 2)
        numbers, _ = ndimage.label(mask, np.ones((3, 3)))
        for k in np.flatnonzero(regions.classes == 1):
            piece = cut(image, mask, regions.boxes[k], 1, int(regions.areas[k]))
            top, left, bottom, right = regions.boxes[k]
            inside = numbers[top:bottom, left:right]
            number = inside[piece.alpha][0]
            assert np.array_equal(piece.alpha, inside == number)
            assert piece.alpha.sum() == (numbers == number).sum()
            assert np.array_equal(piece.image, image[top:bottom, left:right])


@pytest.mark.parametrize("seed", range(20))
def test_pasted_pixels_are_the_pieces_and_all_others_stay(seed):
    rng = np.random.default_rng(seed)
    image, mask = (
        rng.integers(0, 256, (12, 14, 3)).astype(np.uint8),
        np.full((12, 14), 255, np.uint8),
    )
    pieces = [
        Piece(
            rng.integers(0, 256, (5, 7, 3)).astype(np.uint8),
            rng.random((5, 7)) < 0.6,
            c,
            int(rng.integers(-6, 14)),
            int(rng.integers(-8, 16)),
        )
        for c in (1, 2)
    ]
    expected_image, expected_mask = image.copy(), mask.copy()
    for piece in pieces:
        for r in range(5):
            for c in range(7):
                y, x = piece.top + r, piece.left + c
                if piece.alpha[r, c] and 0 <= y < 12 and 0 <= x < 14:
                    expected_image[y, x], expected_mask[y, x] = piece.image[r, c], piece.class_id
    before = image.copy(), mask.copy()
    assert np.array_equal(paste_image(image, pieces), expected_image)
    assert np.array_equal(paste_mask(mask, pieces), expected_mask)
    assert np.array_equal(image, before[0])
    assert np.array_equal(mask, before[1])


def test_a_piece_is_scaled_and_flipped_with_its_outline():
    # a triangle whose pixels are bright where it is, so that image and outline can be compared
    alpha = np.tri(16, 12, dtype=bool)
    piece = Piece(np.where(alpha, 200, 0)[..., None].repeat(3, 2).astype(np.uint8), alpha, 1)
    generator = np.random.default_rng(0)
    flipped = 0
    for _ in range(40):
        found = placed(piece, (100, 100), (0.5, 2.0), generator)
        assert found.image.shape[:2] == found.alpha.shape
        assert 8 <= found.alpha.shape[0] <= 32
        agree = (found.image[..., 0] > 100) == found.alpha
        assert agree.mean() > 0.9
        flipped += bool(found.alpha[0, -1])
    assert 8 < flipped < 32


def test_without_scale_or_flip_nothing_is_resampled():
    piece = Piece(np.random.default_rng(0).integers(0, 256, (5, 7, 3)), np.ones((5, 7), bool), 1)
    assert scaled(piece, 1.0, 1.0).image is piece.image


def test_pieces_have_the_size_that_their_image_has_when_it_is_resized():
    made = pictures()
    sources = components(made, [3], resize=(20, 100))  # half as high, twice as wide
    (piece,) = sources.cut(sources.draw(1, np.random.default_rng(0)))
    assert piece.alpha.shape == (5, 20)
    assert piece.alpha.all()


def test_classes_are_drawn_alike_whatever_the_number_of_their_components():
    made = [*pictures(4), *[(image, np.where(mask == 1, 1, 0)) for image, mask in pictures(40)]]
    sources = components([(i, m.astype(np.uint8)) for i, m in made], [1, 2, 3])
    assert np.bincount(sources.classes)[1] > 3 * np.bincount(sources.classes)[2]
    generator = np.random.default_rng(3)
    drawn = [sources.classes[sources.draw(1, generator)[0]] for _ in range(900)]
    assert chisquare(np.bincount(drawn)[1:]).pvalue > 1e-3


def test_the_components_of_one_draw_are_different_ones_of_one_image():
    sources = components(pictures(), [1, 2, 3])
    generator, sizes = np.random.default_rng(0), set()
    for _ in range(100):
        drawn = sources.draw(3, generator)
        assert len(set(sources.images[drawn])) == 1
        assert len(set(drawn)) == len(drawn) <= 3
        sizes.add(len(drawn))
    assert sizes >= {1, 2}


def test_left_out_the_classes_are_the_rarest_half():
    made = pictures()
    scan = Scan.of([find_regions(mask, CLASSES) for _, mask in made], CLASSES)
    pixels = scan.pixels.sum(0)
    assert rarest_half(scan) == sorted(range(4), key=lambda c: pixels[c])[:2]
    assert set(components(made).classes) == set(rarest_half(scan))


def test_small_components_are_left_alone_and_a_class_of_no_other_is_refused():
    mask = np.zeros((20, 20), np.uint8)
    mask[:2, :2] = 1
    mask[10:18, 10:18] = 2
    made = [(np.zeros((20, 20, 3), np.uint8), mask)]
    assert components(made, [2]).areas.tolist() == [64]
    with pytest.raises(InputError, match=r"no component of 32 pixels or more of class \[1\]"):
        components(made, [1, 2])


def test_in_a_pipeline_of_ones_own_it_adds_what_its_seed_says():
    made = pictures()
    image, mask = np.zeros((30, 30, 3), np.uint8), np.zeros((30, 30), np.uint8)
    pipeline = A.Compose([CopyPaste(classes=[3], sources=components(made, [3]), p=1.0)], seed=5)
    first = pipeline(image=image, mask=mask)
    assert set(np.unique(first["mask"])) == {0, 3}
    assert (first["image"][first["mask"] == 0] == 0).all()
    again = A.Compose([CopyPaste(classes=[3], sources=components(made, [3]), p=1.0)], seed=5)
    assert np.array_equal(again(image=image, mask=mask)["image"], first["image"])


def test_the_share_of_a_class_grows_by_what_is_pasted():
    sources = components(pictures(), [3])
    step = CopyPaste(classes=[3], count=1, scale=(1.0, 1.0), sources=sources, p=0.5)
    step.set_random_seed(0)
    blank = np.zeros((200, 200, 3), np.uint8), np.zeros((200, 200), np.uint8)
    areas = np.array([(step(image=blank[0], mask=blank[1])["mask"] == 3).sum() for _ in range(600)])
    assert areas.max() == 100
    # squares of 10 × 10 with a centre anywhere in 200 × 200: they lose 1 to 5 rows at one edge in
    # 5 of 200 places, 1 to 4 at the other in 4 of them; so do columns
    whole = (10 - sum([1, 2, 3, 4, 5]) / 200 - sum([1, 2, 3, 4]) / 200) ** 2
    assert areas.mean() == pytest.approx(0.5 * whole, abs=4 * areas.std() / 600**0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count 0 must be 1 or more"),
        ({"scale": [2, 1]}, "must be \\[low, high\\]"),
        ({"colour": 1}, "CopyPaste takes no 'colour'"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        TrainingTransform((8, 8), transforms=[{"CopyPaste": arguments}])


def test_alone_it_needs_components():
    with pytest.raises(InputError, match="no components to paste"):
        CopyPaste(p=1.0)(image=np.zeros((8, 8, 3), np.uint8), mask=np.zeros((8, 8), np.uint8))


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for split in ("train", "val"):
        write_pairs(tmp_path / "images" / split, tmp_path / "masks" / split, 6, (40, 56), range(3))
    return {"root": str(tmp_path), "class_names": ["a", "b", "c"]}


def module_of(given, **settings):
    steps = [{"CopyPaste": {"p": 1.0, **settings}}]
    options = {"transforms": steps, "crop_size": [32, 32], "batch_size": 2, "num_workers": 0}
    return SegmentationDataModule(**given, **options)


def samples(data):
    data.setup("fit")
    return [(b["image"].numpy(), b["mask"].numpy()) for b in data.train_dataloader()]


@pytest.mark.parametrize("kind", ["files", "synthetic"])
def test_a_data_set_pastes_its_own_components_the_same_for_the_same_seed(kind, files):
    given = files if kind == "files" else {"synthetic_length": 8, "synthetic_size": [64, 64]}
    first, again = samples(module_of(given)), samples(module_of(given))
    plain = samples(module_of(given, p=0.0))
    for (image, mask), (other_image, other_mask) in zip(first, again, strict=True):
        assert np.array_equal(image, other_image)
        assert np.array_equal(mask, other_mask)
    assert any((a[1] != b[1]).any() for a, b in zip(first, plain, strict=True))
    rare = set(rarest_half(module_of(given).scan("train")))
    for (_, mask), (_, plain_mask) in zip(first, plain, strict=True):
        assert set(np.unique(mask[mask != plain_mask])) <= rare


def test_workers_get_the_components_too(files):
    alone = samples(module_of(files))
    data = module_of(files)
    data.num_workers = 2
    for (image, mask), (other, other_mask) in zip(alone, samples(data), strict=True):
        assert np.array_equal(image, other)
        assert np.array_equal(mask, other_mask)


def test_the_data_set_with_its_components_can_be_sent_to_another_process(files):
    data = module_of(files)
    samples(data)
    dataset = data.dataset("train")
    copy = pickle.loads(pickle.dumps(dataset))
    key = (0, 1)
    assert np.array_equal(copy[key]["mask"], dataset[key]["mask"])


def test_classes_are_named_and_a_wrong_name_is_refused(files):
    data = module_of(files, classes=["c"])
    samples(data)
    assert set(data._transform.copy_pastes[0].sources.classes) == {2}
    with pytest.raises(InputError, match=r"\['crack'\] is no class"):
        samples(module_of(files, classes=["crack"]))


@pytest.mark.slow
def test_a_run_trains_with_it(tmp_path):
    steps = "--data.transforms=[{CopyPaste: {p: 1.0}}, {HorizontalFlip: {p: 0.5}}]"
    assert seg("fit", *SYNTHETIC, *LIGHT, steps, "--trainer.default_root_dir", tmp_path) == 0
