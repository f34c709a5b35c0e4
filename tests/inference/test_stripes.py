"""Logits a few rows at a time against all of them at once."""

from itertools import product

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from seg.inference import labels
from seg.inference.stripes import STRIPE, LowLogits
from seg.inference.whole_images import labels_of
from seg.losses import CrossEntropyLoss, LovaszLoss
from seg.training.split_scores import SplitScores
from tests.losses.test_losses import CASES, Case, sample


@pytest.fixture
def short_stripes(monkeypatch) -> None:
    monkeypatch.setitem(STRIPE, "cpu", 2**11)


def low(
    c: int, factor: int, layout: torch.memory_format, n: int = 2, width: int = 150
) -> LowLogits:
    """Logits of 9 rows, which are resized to 9 · factor, of which some are kept."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(n, c, 9, 20, generator=generator)
    full = 9 * factor, width
    return LowLogits(logits.contiguous(memory_format=layout), full, (full[0] - 3, width - 7))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_stripes_are_the_rows_of_the_whole_to_the_bit(layout, dtype, short_stripes) -> None:
    for c, factor in product((1, 2, 5, 19), (2, 4, 8, 32)):
        given = low(c, factor, layout)
        given = given._replace(logits=given.logits.to(dtype))
        whole, found = given.whole(), torch.full_like(given.whole(), torch.nan)
        parts = list(given.stripes())
        for images, rows, logits in parts:
            found[images, :, rows] = logits
        assert torch.equal(found, whole), (c, factor)
        assert len(parts) >= 2 * len(whole), (c, factor)


@pytest.mark.parametrize(
    "given",
    [
        low(5, 3, torch.contiguous_format),  # the places between rows are rounded by a third
        low(5, 1, torch.contiguous_format),
        low(5, 4, torch.contiguous_format, width=100),  # where torch takes another kernel
    ],
)
def test_what_would_not_be_exact_is_one_part(given: LowLogits, short_stripes) -> None:
    ((images, rows, logits),) = given.stripes()
    assert (images, rows) == (slice(0, 2), slice(0, given.size[0]))
    assert torch.equal(logits, given.whole())


def test_labels_of_stripes_are_those_of_the_whole_with_ties_and_nan(short_stripes) -> None:
    given = low(5, 8, torch.contiguous_format)
    given.logits[:, 1] = given.logits[:, 3]
    given.logits[0, 2, 4] = torch.nan
    bias = torch.tensor([0.0, 1.0, 0.5, 1.0, 0.0])
    assert torch.equal(labels_of(given, bias), labels(given.whole(), bias))


def peak(call) -> int:
    """Most bytes that a call holds at once."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        call()
    held = most = 0
    for event in found.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


@pytest.mark.slow
def test_labels_of_19_classes_take_less_than_a_tenth_of_the_memory() -> None:
    logits = torch.randn(1, 19, 128, 256)
    given = LowLogits(logits, (1024, 2048), (1024, 2048))
    assert peak(lambda: labels_of(given)) < 0.1 * peak(lambda: labels(given.whole()))


def rows_add_up(case: Case) -> bool:
    loss = case.build()
    logits, target = sample(case, (2, 9, 13))
    parts = [loss.terms(logits[:, :, rows], target[:, rows]) for rows in (slice(0, 2), slice(2, 9))]
    return torch.allclose(torch.stack(parts).sum(0), loss.terms(logits, target), rtol=1e-12)


def test_a_loss_whose_terms_are_said_to_add_up_over_rows_has_such_terms() -> None:
    said = {case.name for case in CASES if case.terms and case.build().adds_up}
    assert said == {case.name for case in CASES if case.terms and rows_add_up(case)}


class OwnLoss(CrossEntropyLoss):
    """May look at more than a pixel."""


@pytest.mark.parametrize("loss", [CrossEntropyLoss([0.5, 1, 2, 4, 1]), LovaszLoss(), OwnLoss()])
def test_an_evaluation_by_stripes_has_the_scores_of_the_whole(loss, short_stripes) -> None:
    given = low(5, 8, torch.contiguous_format)
    mask = torch.randint(0, 5, (2, *given.size), dtype=torch.uint8)
    mask[:, :9] = 255
    found = []
    for logits in (given, LowLogits(given.whole(), given.size, given.size)):
        split = SplitScores(loss.components(), list("abcde"), 2)
        prediction = split.update(loss.components(), logits, None, {"mask": mask})
        scores, values = split.finish(loss.components())
        found.append((prediction.tolist(), scores.iou.tolist(), float(values["loss"])))
    assert found[0][:2] == found[1][:2]
    assert found[0][2] == pytest.approx(found[1][2], rel=1e-6)
