import pytest

from seg.data import SegmentationDataModule
from seg.data.groups import check_groups, group_of
from seg.errors import InputError


@pytest.mark.parametrize(
    ("expression", "group"), [(r"^(\w+)_\d+$", "seq"), (r"^\w{3}", "seq"), (r"(x)?q_", "")]
)
def test_a_group_is_the_first_one_of_the_expression_or_all_of_it(expression, group):
    assert group_of(expression, "--group", "seq_01") == group


def test_an_expression_that_is_none_is_refused_before_any_file_is_opened():
    with pytest.raises(InputError, match=r"^data\.group '\(' is no regular expression"):
        SegmentationDataModule(group="(")


def test_a_name_without_a_group_is_told():
    check_groups(r"\d+", "data.group", ["1", "22"])
    with pytest.raises(InputError, match=r"data\.group '\\\\d\+' is not found in 'x'; widen it"):
        check_groups(r"\d+", "data.group", ["1", "x"])
