import pytest

from seg.audit.notation import percent


@pytest.mark.parametrize(
    ("share", "text"),
    [
        *((0, "0 %"), (1, "100 %"), (0.9996, "100 %"), (0.902, "90.2 %"), (0.1, "10.0 %")),
        *((0.09996, "10.0 %"), (0.0636, "6.36 %"), (0.01, "1.00 %"), (0.00996, "1.00 %")),
        *(
            (0.0031, "0.31 %"),
            (0.0000231, "0.0023 %"),
            (0.0000999, "0.010 %"),
        ),
    ],
)
def test_a_share_has_three_digits_or_below_one_percent_two(share, text):
    assert percent(share) == text
