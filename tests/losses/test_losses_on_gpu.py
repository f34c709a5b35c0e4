"""Every loss on a CUDA device, against itself on the CPU in float64."""

import pytest
import torch

from tests.losses.test_losses import Case, every_loss, gradient, sample

pytestmark = [
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="needs a CUDA device: torch.cuda.is_available() is false",
    ),
    # of torch 2.11, about its own compiler
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
SHAPE = (3, 37, 41)
PRECISION = {torch.float32: 1e-5, torch.bfloat16: 2**-8}
"""What a gradient in that dtype may be off, as a share of its norm: half of its last bit."""


@every_loss
def test_in_float64_it_is_the_loss_of_the_cpu(case: Case) -> None:
    logits, target = sample(case, SHAPE)
    value, slope = gradient(case.build(), logits, target)
    found = gradient(case.build().cuda(), logits.cuda(), target.cuda())
    torch.testing.assert_close(found[0].cpu(), value, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found[1].cpu(), slope, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("dtype", PRECISION)
@every_loss
def test_in_less_precision_it_rounds_only_what_it_returns(case: Case, dtype: torch.dtype) -> None:
    logits, target = sample(case, SHAPE)
    rounded = logits.to(dtype)
    value, slope = gradient(case.build(), rounded.double(), target)
    found = gradient(case.build().cuda(), rounded.cuda(), target.cuda())
    assert found[0].dtype == torch.float32
    assert found[1].dtype == dtype
    torch.testing.assert_close(found[0].cpu().double(), value, rtol=1e-5, atol=1e-7)
    assert (found[1].cpu().double() - slope).norm() < PRECISION[dtype] * slope.norm()


@pytest.mark.parametrize("dtype", PRECISION)
@every_loss
def test_compiled_for_the_device_it_agrees(case: Case, dtype: torch.dtype) -> None:
    torch.compiler.reset()
    logits, target = sample(case, SHAPE)
    compiled = torch.compile(case.build().cuda(), fullgraph=True)
    rounded = logits.to(dtype)
    value, slope = gradient(case.build(), rounded.double(), target)
    found = gradient(compiled, rounded.cuda(), target.cuda())
    torch.testing.assert_close(found[0].cpu().double(), value, rtol=1e-5, atol=1e-7)
    assert (found[1].cpu().double() - slope).norm() < PRECISION[dtype] * slope.norm()


@every_loss
def test_no_call_waits_for_the_device(case: Case, device_waits) -> None:
    logits, target = sample(case, SHAPE)
    logits, target = logits.cuda(), target.cuda()
    loss = case.build().cuda()
    gradient(loss, logits, target)  # what is made once
    found: list[str] = []
    with device_waits(found):
        gradient(loss, logits, target)
    assert found == []
