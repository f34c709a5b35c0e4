import pytest
import torch

from seg.training.epoch_means import EpochMeans, reseed


def draws(step, rank):
    reseed(step, rank)
    return torch.rand(4).tolist()


def test_random_numbers_are_a_function_of_seed_step_and_rank(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    first = draws(5, 1)
    others = [draws(5, 0), draws(6, 1), draws(1, 5)]
    monkeypatch.setenv("PL_GLOBAL_SEED", "4")
    others.append(draws(5, 1))
    assert all(first != other for other in others)
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    torch.rand(10)
    assert draws(5, 1) == first


def test_without_a_seed_random_numbers_go_on(monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert draws(5, 1) != draws(5, 1)


def test_means_of_an_epoch_go_on_after_a_restart_and_begin_anew_with_the_next():
    values = torch.tensor([[1.0, 2.0], [3.0, 5.0], [8.0, 2.0]], dtype=torch.float64)
    means = EpochMeans()
    means.add(0, torch.tensor([100.0, 100.0], dtype=torch.float64))
    for value in values[:2]:
        means.add(1, value)
    restarted = EpochMeans()
    restarted.load(means.state())
    restarted.add(1, values[2])
    assert restarted.means().tolist() == pytest.approx(values.mean(0).tolist())
    restarted.add(2, values[0])
    assert restarted.means().tolist() == values[0].tolist()


def test_a_state_before_the_first_step_can_be_loaded():
    restarted = EpochMeans()
    restarted.load(EpochMeans().state())
    restarted.add(0, torch.tensor([2.0]))
    assert restarted.means().tolist() == [2.0]
