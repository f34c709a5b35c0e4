import cv2
import numpy as np
import pytest

from seg.constants import IGNORE_INDEX
from seg.data.scan.components import MOST_PLACES, find_regions
from seg.data.scan.table import Scan


def reference(mask, class_id):
    """Top, left, bottom, right and area of OpenCV's 8-connected components of one class."""
    _, _, stats, _ = cv2.connectedComponentsWithStats((mask == class_id).astype(np.uint8))
    left, top, width, height, area = stats[1:].T
    return sorted(zip(top, left, top + height, left + width, area, strict=True))


def random_mask(seed, most=40, least_block=1):
    rng = np.random.default_rng(seed)
    size, blocks = rng.integers(1, most, 2), least_block + rng.integers(0, 4)
    coarse = rng.choice([0, 1, 2, 4, IGNORE_INDEX], -(-size // blocks))
    return coarse.repeat(blocks, 0).repeat(blocks, 1)[: size[0], : size[1]].astype(np.uint8)


@pytest.mark.parametrize("sizes", [(40, 1), (400, 90)], ids=["short runs", "long runs"])
@pytest.mark.parametrize("seed", range(60))
def test_pixels_and_components_equal_those_of_opencv(seed, sizes):
    mask = random_mask(seed, *sizes)
    regions = find_regions(mask, 5)
    assert regions.pixels.tolist() == [(mask == c).sum() for c in range(5)]
    assert regions.ignored.tolist() == [(mask == IGNORE_INDEX).sum()]
    assert regions.size.tolist() == list(mask.shape)
    for c in range(5):
        own = regions.classes == c
        found = np.column_stack([regions.boxes[own], regions.areas[own]])
        assert sorted(map(tuple, found)) == reference(mask, c)


@pytest.mark.parametrize("seed", range(30))
def test_places_are_different_pixels_of_their_class_and_spread_over_it(seed):
    mask = random_mask(seed)
    regions = find_regions(mask, 5)
    ends = regions.num_places.cumsum()
    for c in range(5):
        own = np.flatnonzero(mask.ravel() == c)
        places = regions.places[ends[c] - regions.num_places[c] : ends[c]]
        assert len(places) == min(len(own), MOST_PLACES)
        assert len(places) == 0 or np.isin(places, own).all()
        assert len(set(places)) == len(places)
        # the pixels in the middle of equal parts of the class, in the order of its rows
        middles = (np.arange(len(places)) + 0.5) * len(own) / max(1, len(places))
        assert np.abs(np.searchsorted(own, places) - (middles - 0.5)).max(initial=0) <= 0.5


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_values_that_share_a_class_are_as_one(seed, dtype):
    table = np.array([0, 1, 1, 255, 2, 0], np.uint8)
    values = np.random.default_rng(seed).integers(0, 6, (7, 9)).astype(dtype)
    found, expected = find_regions(values, 3, lambda v: table[v]), find_regions(table[values], 3)
    for name in vars(expected):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name


def test_a_diagonal_is_one_component_and_an_edge_is_no_way_to_the_next_row():
    assert find_regions(np.eye(5, dtype=np.uint8), 2).areas[0:].tolist().count(5) == 1
    mask = np.zeros((2, 4), np.uint8)
    mask[0, 3] = mask[1, 0] = 1
    regions = find_regions(mask, 2)
    assert regions.areas[regions.classes == 1].tolist() == [1, 1]


def test_a_mask_without_a_pixel_has_no_regions():
    regions = find_regions(np.zeros((0, 1), np.uint8), 3)
    assert regions.pixels.tolist() == [0, 0, 0]
    assert len(regions.classes) == len(regions.places) == 0


def test_a_scan_gives_back_the_regions_it_was_made_of():
    made = [find_regions(random_mask(seed), 5) for seed in range(9)]
    for before, after in zip(made, Scan.of(made, 5).regions(), strict=True):
        for name in vars(before):
            assert np.array_equal(getattr(before, name), getattr(after, name)), name
