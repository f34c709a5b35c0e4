import numpy as np
import pytest
from PIL import Image

from seg.constants import IGNORE_INDEX
from seg.prediction.label_images import write_prediction
from seg.prediction.palette import IGNORE_COLOR, default_colors
from tests.report.test_previews import COLORS, PREDICTION


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_a_written_prediction_reads_back_as_class_ids_in_class_colors(dtype, tmp_path):
    ids = PREDICTION.astype(dtype)
    ids[0, 0] = IGNORE_INDEX
    write_prediction(tmp_path / "sub" / "a.png", ids, COLORS)
    picture = Image.open(tmp_path / "sub" / "a.png")
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), ids)
    seen = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(seen[ids != IGNORE_INDEX], np.array(COLORS)[ids[ids < 3]])
    assert seen[0, 0].tolist() == IGNORE_COLOR


def test_a_prediction_of_every_class_id_reads_back(tmp_path):
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_prediction(tmp_path / "a.png", ids, default_colors(255))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), ids)


@pytest.mark.parametrize("wrong", [3, 254, -1])
def test_a_class_without_a_color_is_refused_and_nothing_is_written(wrong, tmp_path):
    with pytest.raises(ValueError, match=f"class id {wrong} has no colour: expected 0 to 2 or 255"):
        write_prediction(tmp_path / "a.png", np.array([[0, wrong]]), COLORS)
    assert not list(tmp_path.iterdir())
