"""Which images belong together, by their names."""

import pytest

from seg.data.discovery.groups import divided_groups, find_groups


@pytest.mark.parametrize(
    ("names", "group"),
    [
        ([f"patient{i}_slice{j:02}" for i in range(4) for j in range(3)], "patient0"),
        ([f"scan_subject-{i}_{j}" for i in range(4) for j in range(3)], "subject-0"),
        ([f"city{i}/{j}" for i in range(4) for j in range(3)], "city0"),
        ([f"a{i}_jpg.rf.{j:02x}" for i in range(4) for j in range(3)], "a0_jpg"),
        ([f"000{i}TP_00{j}" for i in range(4) for j in range(3)], "0000TP"),
    ],
)
def test_images_of_one_owner_are_a_group(names, group):
    found = find_groups(names)
    assert found.of[:3] == (group,) * 3 and len(set(found.of)) == 4


@pytest.mark.parametrize(
    "names",
    [
        [f"{i:03}" for i in range(12)],
        [f"img_{i:03}" for i in range(12)],
        [f"{year}_{i:06}" for year in (2007, 2008, 2009) for i in range(4)],
        [f"patient{i}" for i in range(12)],
        ["a1_1", "a1_2", "other", "b2_1"],
    ],
    ids=["numbers", "one prefix", "years", "one image each", "not all"],
)
def test_numbers_alone_are_no_groups(names):
    assert find_groups(names) is None


def test_a_patient_in_two_splits_is_told():
    names = {"train": ["patient1_1", "patient2_1"], "val": ["patient2_2"], "test": ["patient3_1"]}
    (line,) = divided_groups(names)
    assert line.startswith("patient2: in train and in val, so scores")
    assert not divided_groups({"train": ["a1"], "val": ["a2"]})
