"""Clauses on how a loss lives with torch: buffers, compilation, export, memory formats."""

from collections.abc import Callable

import torch
from torch import Tensor

from seg.losses.contract.subject import (
    Loss,
    Subject,
    measure,
    plain_tensors,
    require,
    tensors,
)


def weights_are_buffers(subject: Subject) -> None:
    """Every tensor is a buffer or parameter, class weights are saved, a wrong length is refused."""
    plain = plain_tensors(subject.original)
    require(not plain, f"neither buffer nor parameter: {plain}")
    weights = {
        name
        for _, name, tensor in tensors(subject.original)
        if tensor.shape == (subject.channels,) and tensor.is_floating_point()
    }
    saved = {key.rsplit(".", 1)[-1] for key in subject.original.state_dict()}
    require(weights <= saved, f"not in the state_dict: {sorted(weights - saved)}")
    if not weights or subject.channels == 1:
        return
    logits, target = subject.sample(2, 3, 5)
    longer = torch.cat([logits, logits[:, :1]], 1)
    labels = torch.cat([target, target[:, :1]], 1) if target.ndim == logits.ndim else target
    try:
        subject.loss(longer, labels)
    except Exception:
        return
    raise AssertionError(f"weights of {subject.channels} classes serve {longer.shape[1]} too")


def input_untouched(subject: Subject) -> None:
    """Neither logits nor target are changed in place."""
    logits, target = subject.sample(2, 3, 5, ignored=True)
    kept = logits.clone(), target.clone()
    with torch.no_grad():
        subject.loss(logits, target)
    require(torch.equal(logits, kept[0]), "the logits were changed")
    require(torch.equal(target, kept[1]), "the target was changed")
    leaf = logits.requires_grad_()
    subject.loss(leaf, target).sum().backward()
    require(torch.equal(leaf, kept[0]), "the logits were changed in the backward pass")


def compiled(subject: Subject) -> None:
    """``torch.compile(loss, fullgraph=True)`` gives the same loss and gradient."""
    torch.compiler.reset()  # else losses that share code count as recompilations, up to a limit
    pair = subject.sample(2, 3, 5, ignored=True)
    graph = torch.compile(subject.loss, fullgraph=True, backend="aot_eager")
    subject.agree(measure(graph, *pair), measure(subject.loss, *pair))


def exported(subject: Subject) -> None:
    """``torch.export`` of the loss gives the same loss on other inputs."""
    pair = subject.sample(2, 3, 5, ignored=True)
    program = torch.export.export(subject.loss, pair).module()
    logits, target = (part.flip(0) for part in pair)
    torch.testing.assert_close(
        program(logits, target), subject.loss(logits, target), rtol=subject.rtol, atol=1e-13
    )


def deterministic(subject: Subject) -> None:
    """Under ``torch.use_deterministic_algorithms`` it runs, agrees, and repeats to the bit."""
    pair = subject.sample(2, 9, 8, ignored=True)
    expected = measure(subject.loss, *pair)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = measure(subject.loss, *pair), measure(subject.loss, *pair)
    finally:
        torch.use_deterministic_algorithms(False)
    subject.agree(first, expected)
    require(all(map(torch.equal, first, second)), "two runs differ")


def channels_last(subject: Subject) -> None:
    """Logits in channels_last give the same loss, and a gradient in channels_last."""
    logits, target = subject.sample(2, 3, 5, ignored=True)
    last = logits.to(memory_format=torch.channels_last)
    value, slope = measure(subject.loss, last, target)
    subject.agree((value, slope), measure(subject.loss, logits, target))
    held = slope.is_contiguous(memory_format=torch.channels_last)
    require(held, "the gradient is not channels_last")


def strided(subject: Subject) -> None:
    """Logits and targets that are transposed, or slices of larger tensors, give the same."""
    logits, target = subject.sample(2, 3, 5, ignored=True)
    expected = measure(subject.loss, logits, target)
    for lay in (_transposed, _every_other):
        subject.agree(measure(_laid_out(subject.loss, lay), logits, target), expected)


def _laid_out(loss: Loss, lay: Callable[[Tensor], Tensor]) -> Loss:
    return lambda logits, target: loss(lay(logits), lay(target))


def _transposed(values: Tensor) -> Tensor:
    return values.mT.contiguous().mT


def _every_other(values: Tensor) -> Tensor:
    return torch.stack([values, values], -1)[..., 0]
