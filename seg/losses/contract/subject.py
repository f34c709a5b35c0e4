"""A loss under examination, with the inputs that it takes, and how results are compared."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from seg.constants import IGNORE_INDEX

Loss = Callable[[Tensor, Tensor], Tensor]
Result = tuple[Tensor, Tensor]
"""Value of a loss and gradient of its sum with respect to the logits."""


@dataclass(frozen=True)
class Subject:
    """What the clauses examine.

    Attributes:
        loss: A copy in eval mode, of which every weight is of `dtype`.
        original: Another with the weights as they were given.
        channels: Number C of logits a pixel.
        sigmoid: Whether each logit stands alone, with labels 0 and 1, instead of a softmax.
        ignore_index: Target value of the ignored pixels.
        dtype: float64, or float32 for a loss that does not take it.
    """

    loss: nn.Module
    original: nn.Module
    channels: int
    sigmoid: bool
    ignore_index: int
    dtype: torch.dtype = torch.float64

    @property
    def labels(self) -> int:
        """Number of values that a label may have."""
        return 2 if self.sigmoid else self.channels

    @property
    def rtol(self) -> float:
        """How far two results may be apart that are equal but for rounding."""
        return 1e-9 if self.dtype == torch.float64 else 1e-4

    @property
    def works(self) -> bool:
        """Whether the loss gets through an ordinary batch."""
        try:
            measure(self.loss, *self.sample(2, 3, 5))
        except Exception:
            return False
        return True

    @cached_property
    def ignores(self) -> bool:
        """Whether ignored pixels, with logits of this world, have no gradient and do no harm."""
        logits, target = self.spoiled(2, 3, 4)
        try:
            value, slope = measure(self.loss, logits, target)
        except Exception:
            return False
        silent = (slope[self.ignored(logits, target)] == 0).all()
        return bool(silent and value.isfinite().all() and slope.isfinite().all())

    def sample(self, *shape: int, ignored: bool = False) -> tuple[Tensor, Tensor]:
        """Seeded logits (N, C, *d) and int64 ids for `shape` (N, *d).

        With `ignored`, three tenths of the ids are `ignore_index`, unless the loss does not ignore
        them, which is the matter of clauses of its own.
        """
        return self._draw(shape, ignored and self.ignores)

    def spoiled(self, *shape: int) -> tuple[Tensor, Tensor]:
        """A sample with ignored ids, whatever the loss makes of them."""
        return self._draw(shape, ignored=True)

    def ignored(self, logits: Tensor, target: Tensor) -> Tensor:
        """Which logits (N, C, *d) are those of an ignored pixel."""
        ignored = target == self.ignore_index
        return (ignored if target.ndim == logits.ndim else ignored.unsqueeze(1)).expand_as(logits)

    def agree(self, actual: Result, expected: Result) -> None:
        """Requires values and gradients to be equal but for rounding, and for their shapes."""
        self.agree_in("value", actual[0], expected[0])
        self.agree_in("gradient", actual[1], expected[1])

    def agree_in(self, what: str, actual: Tensor, expected: Tensor) -> None:
        """Requires two tensors to be equal but for rounding, and for their shapes."""
        torch.testing.assert_close(
            actual.flatten(),
            expected.flatten(),
            rtol=self.rtol,
            atol=1e-4 * self.rtol,
            msg=lambda text: f"the {what} differs: {text}",
        )

    def _draw(self, shape: tuple[int, ...], ignored: bool) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(len(shape))
        size = (shape[0], self.channels, *shape[1:])
        logits = 3 * torch.randn(size, generator=generator, dtype=torch.float64)
        if self.sigmoid and self.channels > 1:
            shape = size  # a label for each logit
        ids = torch.tensor([i for i in range(self.labels) if i != self.ignore_index])
        target = ids[torch.randint(len(ids), shape, generator=generator)]
        if ignored:
            target[torch.rand(shape, generator=generator) < 0.3] = self.ignore_index
        return logits.to(self.dtype), target


def prepare(loss: nn.Module, num_classes: int | None) -> Subject:
    """Copies a loss for examination and finds out what inputs it takes."""
    original = copy.deepcopy(loss).cpu().eval()
    of_ours = getattr(original, "channels", None)
    sigmoid = num_classes == 1 or (callable(of_ours) and of_ours(2) == 1)
    channels = num_classes
    if channels is None or (sigmoid and channels == 2):
        lengths = [len(b) for b in original.buffers() if b.ndim == 1 and b.is_floating_point()]
        channels = max(lengths, default=0) or (1 if sigmoid else 4)
    if getattr(original, "needs_class_counts", False):
        classes = 2 if sigmoid else channels
        counts = [1000 + 300 * i for i in range(classes)]
        original.set_class_counts(counts, [4000] * classes)  # type: ignore[operator]
    ignore_index = getattr(original, "ignore_index", None)
    subject = Subject(
        loss=_float64(original),
        original=original,
        channels=channels,
        sigmoid=sigmoid,
        ignore_index=IGNORE_INDEX if ignore_index is None else ignore_index,
    )
    if subject.works:
        return subject
    single = replace(subject, loss=original, dtype=torch.float32)
    return single if single.works else subject


def tensors(loss: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Every buffer, parameter and plain tensor of a loss: its module, its name there, itself."""
    for module in loss.modules():
        buffers = module.named_buffers(recurse=False, remove_duplicate=False)
        parameters = module.named_parameters(recurse=False, remove_duplicate=False)
        for store in (buffers, parameters, vars(module).items()):
            for name, value in store:
                if isinstance(value, Tensor):
                    yield module, name, value


def plain_tensors(loss: nn.Module) -> list[str]:
    """Names of the tensors of a loss that are neither buffers nor parameters."""
    own = {"_buffers", "_parameters", "_modules"}
    return [
        name
        for module in loss.modules()
        for name, value in vars(module).items()
        if name not in own and any(isinstance(x, Tensor) for x in _contents(value))
    ]


def measure(loss: Loss, logits: Tensor, target: Tensor) -> Result:
    """Value of a loss and the gradient of its sum; the logits keep dtype and strides."""
    leaf = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    value = loss(leaf, target)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), slope


def require(condition: bool | Tensor, message: str) -> None:
    """An assertion that holds under ``python -O`` as well."""
    if not condition:
        raise AssertionError(message)


def _contents(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else [value]


def _float64(loss: nn.Module) -> nn.Module:
    """A copy in float64, plain tensors included."""
    loss = copy.deepcopy(loss).double()
    for module, name, value in list(tensors(loss)):
        if value.dtype == torch.float32:
            setattr(module, name, value.double())
    return loss
