"""Small pictures of images and masks: what they show, and that they fit into a page."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from seg.constants import IGNORE_INDEX
from seg.errors import InputError
from seg.report.sample_pictures import reduced, sample_pictures


def opened(url, kind):
    head, _, data = url.partition(",")
    assert head == f"data:image/{kind};base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))


@pytest.mark.parametrize("step", [1, 2, 3, 7, 50])
def test_a_block_shows_the_rarest_class_in_it_and_ignored_only_where_it_has_no_other(step):
    rng = np.random.default_rng(step)
    pixels = [500, 3, 40, 0]
    ids = rng.choice([0, 0, 0, 2, IGNORE_INDEX], (22, 31)).astype(np.uint8)
    ids[3, 4], ids[:8, 20:] = 1, IGNORE_INDEX
    rank = {IGNORE_INDEX: 4, 0: 3, 2: 2, 1: 1}
    expected = [
        [min(np.unique(ids[y : y + step, x : x + step]).tolist(), key=rank.get) for x in columns]
        for y in range(0, 22, step)
        for columns in [range(0, 31, step)]
    ]
    np.testing.assert_array_equal(reduced(ids, step, pixels), expected)


COLORS = [[10, 20, 30], [200, 0, 0], [0, 200, 0]]
NAMES = ["ground", "plate", "crack"]
SAMPLES = [{"index": 7, "image": "a/b", "best_of": ["crack"]}]


def test_the_mask_has_the_colours_of_its_classes_and_the_image_is_as_large():
    ids = np.zeros((40, 60), np.uint8)
    ids[10:20], ids[30, 5], ids[35:] = 1, 2, IGNORE_INDEX
    image = np.full((40, 60, 3), (200, 100, 50), np.uint8)
    image[16:] = 40
    drawn = []

    def draw(index):
        drawn.append(index)
        return image, ids

    (found,) = sample_pictures(SAMPLES, draw, [900, 90, 1], NAMES, COLORS)
    assert (drawn, found.name, found.chosen_for) == ([7], "a/b", ["crack"])
    assert found.classes == ["crack", "plate", "ground"]  # the rarest first
    mask = opened(found.mask, "png")
    for class_id, color in enumerate(COLORS):
        np.testing.assert_array_equal((mask == color).all(2), ids == class_id)
    shown = opened(found.image, "jpeg")
    assert shown.shape == mask.shape == (40, 60, 3)
    assert np.abs(shown.astype(int) - image).mean() < 12


def test_an_object_of_one_pixel_of_a_large_image_is_seen():
    ids = np.zeros((2000, 3000), np.uint8)
    ids[1234, 2345] = 2
    draw = np.zeros((2000, 3000, 5), np.uint8), ids
    (found,) = sample_pictures(SAMPLES, lambda i: draw, [9, 9, 1], NAMES, COLORS, [4, 1, 0])
    mask = opened(found.mask, "png")
    assert max(mask.shape) <= 480
    assert (mask == COLORS[2]).all(2).sum() == 1


@pytest.mark.slow
def test_pictures_that_cannot_be_made_smaller_by_coding_are_made_smaller():
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (150, 3)).tolist()
    image = rng.integers(0, 256, (600, 700, 3), dtype=np.uint8)
    ids = rng.integers(0, 150, (600, 700), dtype=np.uint8)
    names = [f"class {i}" for i in range(150)]
    samples = [{"index": i, "image": str(i), "best_of": []} for i in range(8)]
    found = sample_pictures(samples, lambda i: (image, ids), [1] * 150, names, colors)
    assert len(found) == 8
    assert sum(len(p.image) + len(p.mask) for p in found) < 1_200_000
    assert (len(found[0].classes), found[0].more) == (10, 140)


def test_an_image_that_cannot_be_read_is_told_in_its_place():
    def draw(index):
        raise InputError("b.jpg: it is damaged")

    (found,) = sample_pictures(SAMPLES, draw, [1, 1, 1], NAMES, COLORS)
    assert (found.fault, found.image) == ("b.jpg: it is damaged", "")
