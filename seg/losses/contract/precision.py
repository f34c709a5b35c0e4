"""Clauses on numbers: half precision, extreme logits, derivatives."""

import torch
from torch import Tensor

from seg.losses.contract.subject import Result, Subject, measure, require

CLOSE = 0.02
"""How far a half-precision loss may be off, relative to float64 of the same logits."""

MANY = 120
"""Logits beyond which the derivative is checked along one random direction instead of each."""


def half_precision(subject: Subject) -> None:
    """Loss and gradient in fp16, bf16 and under autocast are within 2 % of float64.

    So is the loss of an image in which one class has more pixels than fp16 can count, with a finite
    gradient: of so many pixels each has one of few digits in fp16.
    """
    logits, target = subject.sample(3, 6, 5, ignored=True)
    for dtype in (torch.float16, torch.bfloat16):
        half = logits.to(dtype)
        expected = measure(subject.loss, half.to(subject.dtype), target)
        _within(measure(subject.original, half, target), expected, f"{dtype}")
        with torch.autocast("cpu", dtype):
            mixed = measure(subject.original, half.float(), target)
        _within(mixed, expected, f"autocast to {dtype}")
    side = 384 if subject.channels <= 32 else 128  # 300 MB of float64 at 32
    logits, target = subject.sample(1, side, side)
    target[..., side // 2 :, :] = target.flatten()[0]
    large = logits.half()
    result = measure(subject.original, large, target)
    _require_finite(result, "a large image in fp16")
    exact = subject.loss(large.to(subject.dtype), target)
    _near(result[0].to(exact), exact.detach(), "a large image in fp16")


def extreme_logits(subject: Subject) -> None:
    """Logits of ±1e4 give a finite loss and gradient in fp16, bf16 and fp32."""
    logits, target = subject.sample(3, 6, 5, ignored=True)
    extremes = torch.tensor([-1e4, 1e4, 0.0, 1e-4, -88.0])
    generator = torch.Generator().manual_seed(0)
    mixture = extremes[torch.randint(5, logits.shape, generator=generator)]
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        _require_finite(measure(subject.original, mixture.to(dtype), target), f"{dtype}")


def certain_pixels(subject: Subject) -> None:
    """Where the probability of the label is exactly 0 or 1, loss and gradient are finite."""
    logits, target = subject.sample(2, 3, 5)
    if subject.sigmoid:
        right = (2.0 * target - 1).view_as(logits)
    else:
        right = torch.zeros_like(logits).scatter_(1, target.unsqueeze(1), 1.0)
    for gap in (40.0, 200.0, 1000.0):
        for dtype, loss in ((torch.float32, subject.original), (subject.dtype, subject.loss)):
            for name, scores in (("right", gap * right), ("wrong", -gap * right)):
                result = measure(loss, scores.to(dtype), target)
                _require_finite(result, f"certainly {name} by {gap:g} in {dtype}")


def gradient(subject: Subject) -> None:
    """The gradient is that of finite differences in float64 (gradcheck)."""
    logits, target = subject.sample(2, 3, 2, ignored=True)
    leaf = logits.double().requires_grad_()
    torch.autograd.gradcheck(
        lambda z: subject.loss(z, target), leaf, atol=1e-7, fast_mode=leaf.numel() > MANY
    )


def second_derivative(subject: Subject) -> None:
    """The second derivative is that of finite differences, or is refused in one line."""
    logits, target = subject.sample(2, 3, 2, ignored=True)
    leaf = logits.double().requires_grad_()
    try:
        value = subject.loss(leaf, target).sum()
        (slope,) = torch.autograd.grad(value, leaf, create_graph=True)
        require(slope.requires_grad, "the gradient has lost its graph, and nothing says so")
        torch.autograd.grad(slope.square().sum(), leaf)
    except (RuntimeError, NotImplementedError) as refusal:
        require("\n" not in str(refusal).strip(), "it is refused in more than one line")
        return
    torch.autograd.gradgradcheck(
        lambda z: subject.loss(z, target), leaf, atol=1e-6, fast_mode=leaf.numel() > MANY
    )


def _within(actual: Result, expected: Result, what: str) -> None:
    exact, exact_slope = expected
    value, slope = (part.to(exact_slope.dtype) for part in actual)
    _near(value, exact, what)
    off = _norm(slope - exact_slope)
    require(off <= CLOSE * _norm(exact_slope), f"{what}: the gradient is off by {off:g}")


def _near(value: Tensor, exact: Tensor, what: str) -> None:
    torch.testing.assert_close(
        value, exact, rtol=CLOSE, atol=1e-6, msg=lambda text: f"{what}: {text}"
    )


def _norm(values: Tensor) -> float:
    return float(values.norm())


def _require_finite(result: Result, what: str) -> None:
    for name, part in zip(("loss", "gradient"), result, strict=True):
        require(part.isfinite().all(), f"{what}: the {name} is not finite")
