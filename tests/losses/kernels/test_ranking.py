"""The order from hard to easy against NumPy's stable sort."""

import numpy as np
import pytest
import torch

from seg.losses.kernels.ranking import hardest_first


@pytest.mark.parametrize("length", [7, 50_000])  # torch sorts long rows in another way
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_stable_order_of_falling_errors(dtype: torch.dtype, length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    errors = torch.rand(length, generator=generator, dtype=dtype)
    errors[::3] = errors[:1]  # ties
    errors[1] = 1e30
    expected = np.argsort(-errors.numpy(), kind="stable")
    assert hardest_first(errors).tolist() == expected.tolist()


def test_ignored_positions_come_last_even_behind_an_error_of_zero() -> None:
    errors = torch.tensor([0.5, 0.0, 9.0, -0.0, 0.7, 1e-45])
    ignored = torch.tensor([True, False, True, False, False, False])
    assert hardest_first(errors, ignored).tolist() == [4, 5, 1, 3, 0, 2]


def test_rows_are_ordered_each_for_itself() -> None:
    errors = torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
    assert hardest_first(errors).tolist() == [[2, 1, 0], [0, 2, 1]]


def test_a_nan_comes_first_whatever_its_sign() -> None:
    errors = torch.tensor([1.0, torch.inf, torch.nan]).copysign(torch.tensor([1.0, 1.0, -1.0]))
    assert hardest_first(errors).tolist() == [2, 1, 0]
