"""Augmentation is a function of its seed, keeps image and mask together and invents no label."""

import os

import albumentations
import numpy as np
import pytest

from seg.constants import IGNORE_INDEX
from seg.data.augment import transforms
from seg.data.augment.cropping import random_scaled_crop, resize_image, resize_mask
from seg.data.augment.transforms import TrainingTransform, default_transforms

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (60, 80, 3), np.uint8)
MASK = RNG.integers(0, 5, (60, 80), np.uint8)


def blocks(height: int, width: int, side: int = 10) -> np.ndarray:
    """A mask of large blocks of the classes 1 to 4."""
    rows, columns = np.mgrid[:height, :width] // side
    return ((rows * 3 + columns) % 4 + 1).astype(np.uint8)


def test_importing_asks_no_network_for_a_newer_version() -> None:
    assert transforms.A is albumentations
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"


def test_the_same_seed_gives_the_same_crop_and_others_differ() -> None:
    augment = TrainingTransform((32, 32))
    first = augment(IMAGE, MASK, (0, 1, 2))
    augment(IMAGE, MASK, (7, 7, 7))
    again = augment(IMAGE, MASK, (0, 1, 2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3)):
        assert (augment(IMAGE, MASK, other)[0] != first[0]).any()


def test_steps_draw_independently_of_each_other() -> None:
    flips = [{"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}}]
    augment = TrainingTransform((60, 80), scale_jitter=(1, 1), transforms=flips)
    corner = np.zeros((60, 80), np.uint8)
    corner[0, 0] = 1
    places = [np.argwhere(augment(IMAGE, corner, (0, i))[1] == 1)[0] for i in range(400)]
    shares = np.unique(np.array(places), axis=0, return_counts=True)[1] / 400
    np.testing.assert_allclose(shares, [0.25] * 4, atol=0.08)


@pytest.mark.parametrize("resize", [None, (30, 40), (90, 120)])
@pytest.mark.parametrize("crop", [(32, 32), (20, 70), (128, 64)])
def test_crops_have_the_asked_size_and_no_new_labels(
    crop: tuple[int, int], resize: tuple[int, int] | None
) -> None:
    for seed in range(10):
        image, mask = TrainingTransform(crop, resize)(IMAGE, MASK, (seed,))
        assert image.shape == (*crop, 3)
        assert mask.shape == crop
        assert image.dtype == mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {*range(5), IGNORE_INDEX}


def test_a_crop_without_scaling_is_a_window_of_the_source() -> None:
    for seed in range(20):
        image, mask = random_scaled_crop(IMAGE, MASK, (16, 24), np.random.default_rng(seed))
        starts = [
            (r, c)
            for r in range(60 - 15)
            for c in range(80 - 23)
            if (IMAGE[r : r + 16, c : c + 24] == image).all()
        ]
        [(r, c)] = starts
        np.testing.assert_array_equal(mask, MASK[r : r + 16, c : c + 24])


def test_every_place_of_the_source_is_reached() -> None:
    rows, columns = np.mgrid[:6, :8]
    where = np.stack([rows, columns, rows], axis=2).astype(np.uint8)
    generator = np.random.default_rng(0)
    corners = {
        tuple(random_scaled_crop(where, MASK[:6, :8], (4, 4), generator)[0][0, 0, :2].tolist())
        for _ in range(500)
    }
    assert corners == {(r, c) for r in range(3) for c in range(5)}


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7])
def test_image_and_mask_stay_in_line_at_every_scale(scale: float) -> None:
    mask = blocks(60, 80)
    image = np.repeat(mask[..., None] * 50, 3, axis=2)
    for seed in range(5):
        generator = np.random.default_rng(seed)
        crop, labels = random_scaled_crop(
            image, mask, (40, 40), generator, scale_jitter=(scale, scale)
        )
        seen = labels != IGNORE_INDEX
        agreement = np.abs(crop[..., 0][seen] / 50 - labels[seen]) < 0.5
        assert agreement.mean() > 0.9  # all but the blended edges


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_the_scale_is_that_of_resizing_the_whole_picture_first(scale: float) -> None:
    rows, columns = np.mgrid[:120, :160]
    ramp = np.stack([rows, columns, rows], axis=2).astype(np.uint8)
    image, _ = random_scaled_crop(
        ramp,
        np.zeros((120, 160), np.uint8),
        (24, 24),
        np.random.default_rng(0),
        resize=(60, 80),  # 2 source pixels a pixel
        scale_jitter=(scale, scale),
    )
    slope = np.polyfit(np.arange(24), image[:, 12, 0].astype(float), 1)[0]
    assert slope == pytest.approx(2 / scale, rel=0.05)


def test_padding_is_ignored_by_the_mask_and_black_in_the_image() -> None:
    image, mask = random_scaled_crop(
        np.full((10, 12, 3), 200, np.uint8),
        np.ones((10, 12), np.uint8),
        (30, 30),
        np.random.default_rng(0),
    )
    assert (mask == 1).sum() == 120
    assert (mask == IGNORE_INDEX).sum() == 900 - 120
    assert (image[mask == IGNORE_INDEX] == 0).all()
    assert (image[mask == 1] == 200).all()


@pytest.mark.parametrize(
    "name", ["Rotate", "SafeRotate", "Affine", "Perspective", "GridDistortion"]
)
def test_no_padded_mask_pixel_becomes_class_0(name: str) -> None:
    augment = TrainingTransform((64, 64), transforms=[{name: {"p": 1.0}}], scale_jitter=(1, 1))
    mask = np.full((64, 64), 3, np.uint8)
    image = np.full((64, 64, 3), 128, np.uint8)
    found = np.concatenate([augment(image, mask, (i,))[1] for i in range(20)])
    assert set(np.unique(found)) <= {3, IGNORE_INDEX}


def test_a_rotation_really_pads() -> None:
    rotation = [{"Rotate": {"limit": [45, 45], "p": 1.0}}]
    augment = TrainingTransform((64, 64), transforms=rotation, scale_jitter=(1, 1))
    mask = np.full((64, 64), 3, np.uint8)
    padded = (augment(np.zeros((64, 64, 3), np.uint8), mask, (0,))[1] == IGNORE_INDEX).mean()
    assert 0.1 < padded < 0.25  # at 45 degrees, 3 - 2 sqrt(2) = 17 % of a square


def test_dropout_leaves_labels_alone_by_default() -> None:
    dropout = [{"CoarseDropout": {"p": 1.0, "fill": 0}}]
    augment = TrainingTransform((60, 80), transforms=dropout, scale_jitter=(1, 1))
    image, mask = augment(np.full_like(IMAGE, 9), MASK, (0,))
    np.testing.assert_array_equal(mask, MASK)
    assert (image == 0).any()


def test_no_transforms_leave_a_whole_crop_as_it_is() -> None:
    augment = TrainingTransform((60, 80), transforms=[], scale_jitter=(1, 1))
    image, mask = augment(IMAGE, MASK, (0,))
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(mask, MASK)


@pytest.mark.parametrize("channels", [1, 3, 4, 7])
def test_the_default_flips_and_jitters_any_number_of_channels(channels: int) -> None:
    augment = TrainingTransform((60, 80), scale_jitter=(1, 1), channels=channels)
    image = np.random.default_rng(1).integers(50, 200, (60, 80, channels), np.uint8)
    results = [augment(image, MASK, (i,)) for i in range(30)]
    assert all(i.shape == image.shape and i.dtype == np.uint8 for i, _ in results)
    flipped = [(m == MASK[:, ::-1]).all() for _, m in results]
    assert 0 < sum(flipped) < 30
    assert len({i.mean() for i, _ in results}) > 5


def test_the_default_is_a_list_that_a_config_can_hold() -> None:
    listed = TrainingTransform((32, 32), transforms=default_transforms(3))
    default = TrainingTransform((32, 32))
    for seed in range(5):
        a, b = listed(IMAGE, MASK, (seed,)), default(IMAGE, MASK, (seed,))
        np.testing.assert_array_equal(a[0], b[0])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"HorizontalFlipp": {}}, r"'HorizontalFlipp' is no transform; did you mean Horizontal"),
        ({"os": {}}, r"'os' is no transform"),
        ({"Compose": {}}, r"'Compose' is no transform"),
        ({"Rotate": {"limits": 10}}, r"Rotate takes no 'limits'; did you mean limit"),
        ({"Rotate": {"limit": "far"}}, r"(?s)data.transforms: Rotate: .*limit"),
        ({"HorizontalFlip": {"p": 2.0}}, r"data.transforms: HorizontalFlip: "),
        ({"Rotate": {"fill_mask": 0}}, r"Rotate with fill_mask 0 would label unknown pixels"),
        ({"CoarseDropout": {"fill_mask": 1}}, r"CoarseDropout with fill_mask 1"),
        ({"Rotate": {"mask_interpolation": 1}}, r"mask_interpolation 1 would blend class ids"),
        ({"RandomCrop": {"height": 8, "width": 8}}, r"RandomCrop turns uint8 \(32, 32, 3\) into"),
        ({"Normalize": {}}, r"Normalize turns uint8 .* into float32"),
        ({}, r"is not one \{name: \{argument: value\}\}"),
    ],
)
def test_impossible_transforms_are_refused_when_built(entry: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingTransform((32, 32), transforms=[entry])


def test_a_transform_for_other_channels_is_refused_when_built() -> None:
    with pytest.raises(ValueError, match=r"HueSaturationValue fails on images of 5 channels"):
        TrainingTransform((32, 32), transforms=[{"HueSaturationValue": {}}], channels=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop_size": [32]}, r"data.crop_size \[32\]"),
        ({"crop_size": [32, 0]}, r"data.crop_size \[32, 0\]"),
        ({"crop_size": [32, 32], "resize": [4, 4, 4]}, r"data.resize \[4, 4, 4\]"),
        ({"crop_size": [32, 32], "scale_jitter": [2, 1]}, r"data.scale_jitter \[2, 1\]"),
        ({"crop_size": [32, 32], "scale_jitter": [0, 1]}, r"data.scale_jitter \[0, 1\]"),
    ],
)
def test_impossible_sizes_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingTransform(**arguments)


def test_every_transform_with_a_zero_mask_fill_is_given_the_ignore_index() -> None:
    step = TrainingTransform((32, 32), transforms=[{"Affine": {}}]).steps[0]
    assert isinstance(step, albumentations.Affine)
    assert step.fill_mask == IGNORE_INDEX


NO_STRICT = [{name: {"p": 1}} for name in ("RandomRotate90", "MedianBlur", "ToSepia")]


@pytest.mark.parametrize("entry", NO_STRICT, ids=lambda entry: next(iter(entry)))
def test_transforms_that_do_not_check_their_settings_are_taken_too(entry: dict) -> None:
    augment = TrainingTransform((60, 60), scale_jitter=(1, 1), transforms=[entry])
    image, mask = IMAGE[:60, :60], MASK[:60, :60]
    turned = set()
    for seed in range(20):
        found_image, found_mask = augment(image, mask, (seed,))
        [times] = [k for k in range(4) if (np.rot90(mask, k) == found_mask).all()]
        turned.add(times)
        if "RandomRotate90" in entry:
            np.testing.assert_array_equal(found_image, np.rot90(image, times))
        else:
            assert (found_image != image).any()
    assert turned == (set(range(4)) if "RandomRotate90" in entry else {0})


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("size", [(15, 20), (45, 60), (90, 70)])
def test_resizing_treats_each_channel_alone(channels: int, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, channels), np.uint8)
    found = resize_image(image, size)
    assert found.shape == (*size, channels)
    for i in range(channels):
        np.testing.assert_array_equal(
            found[..., i : i + 1], resize_image(image[..., i : i + 1], size)
        )


def test_shrinking_to_a_quarter_averages_areas() -> None:
    expected = IMAGE.reshape(15, 4, 20, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(resize_image(IMAGE, (15, 20)), expected, atol=0.51)


def test_masks_are_resized_by_the_nearest_centre() -> None:
    np.testing.assert_array_equal(resize_mask(MASK, (20, 16)), MASK[1::3, 2::5])


@pytest.mark.parametrize("resize", [None, (30, 40)])
@pytest.mark.parametrize("focus", [(0, 0), (59, 79), (25, 33), (2, 70)])
def test_a_crop_shows_its_focus_in_its_middle_half_or_ends_at_the_edge(resize, focus) -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[focus[0] // 2 * 2 : focus[0] // 2 * 2 + 2, focus[1] // 2 * 2 : focus[1] // 2 * 2 + 2] = 1
    rows, columns = np.indices(mask.shape)
    image = np.stack([rows, columns, rows], axis=2).astype(np.uint8)  # says where a pixel was
    places = set()
    for seed in range(40):
        generator = np.random.default_rng(seed)
        crop, labels = random_scaled_crop(
            image, mask, (16, 16), generator, resize, (1.0, 1.0), focus
        )
        found = np.argwhere(labels == 1)
        assert len(found) > 0
        places.add(tuple(found[0]))
        for axis, length in enumerate(mask.shape):
            before = crop[0, 0, axis] <= 1
            after = crop[-1, -1, axis] >= length - 2
            assert before or after or 3 <= found[0][axis] <= 12
    assert len(places) > 1 or focus != (25, 33)  # jittered where the edge leaves room
