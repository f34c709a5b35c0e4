import logging

import pytest

from seg.checkpoint_files.classes import check_classes
from seg.errors import InputError

STORED = ["sky", "road", "crack"]


@pytest.mark.parametrize("stored", [None, STORED])
def test_equal_or_unknown_classes_say_nothing(stored, caplog):
    check_classes(stored, STORED)
    assert not caplog.records


def test_another_number_of_classes_names_both_lists_and_what_differs():
    with pytest.raises(InputError) as error:
        check_classes(STORED, ["road", "car"])
    assert str(error.value) == (
        "The checkpoint has 3 classes, the data 2: checkpoint: sky, road, crack; data: road, car; "
        "only in the checkpoint: sky, crack; only in the data: car; use data of the checkpoint's "
        "classes, or --model.init_from to start a fine-tuning from it."
    )


def test_a_class_of_another_id_is_refused_with_both_ids():
    with pytest.raises(InputError) as error:
        check_classes(STORED, ["sky", "crack", "street"])
    said = str(error.value)
    assert "crack (id 2 in the checkpoint, 1 in the data)" in said and "\n" not in said
    assert "in the checkpoint's order, sky, road, crack" in said and "sky (" not in said


def test_a_class_of_another_name_in_its_place_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING, "seg"):
        check_classes(STORED, ["sky", "street", "crack"])
    (record,) = caplog.records
    assert "checkpoint: sky, road, crack; data: sky, street, crack." in record.getMessage()


def test_many_classes_are_named_in_part():
    with pytest.raises(InputError) as error:
        check_classes([f"class_{i}" for i in range(150)], STORED)
    assert "class_11 and 138 more; data: sky" in str(error.value) and len(str(error.value)) < 400
