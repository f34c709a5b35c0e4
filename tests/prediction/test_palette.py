import numpy as np
import pytest

from seg.prediction.palette import IGNORE_COLOR, default_colors


def test_as_many_distinct_colors_as_there_are_mask_values():
    colors = default_colors(255)
    assert len({tuple(color) for color in colors}) == 255
    assert IGNORE_COLOR not in colors
    assert all(type(level) is int and 0 <= level <= 255 for color in colors for level in color)


def test_colors_do_not_depend_on_the_number_of_classes():
    assert default_colors(7) == default_colors(30)[:7]


def test_colors_of_twenty_classes_are_far_apart():
    colors = np.array([*default_colors(20), IGNORE_COLOR], dtype=float)
    distances = np.linalg.norm(colors[:, None] - colors, axis=2)
    assert distances[~np.eye(21, dtype=bool)].min() > 40


@pytest.mark.parametrize("num_classes", [0, 256])
def test_more_classes_than_mask_values_are_refused(num_classes):
    with pytest.raises(ValueError, match=rf"num_classes is {num_classes}, expected 1 to 255"):
        default_colors(num_classes)
