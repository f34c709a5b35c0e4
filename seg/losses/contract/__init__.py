"""The contract of a loss as a function: which of its clauses does a loss, ours or foreign, break?

Example:
    >>> from torch import nn
    >>> from seg.losses import CrossEntropyLoss
    >>> from seg.losses.contract import check_loss
    >>> check_loss(CrossEntropyLoss())
    []
    >>> "all_ignored" in check_loss(nn.CrossEntropyLoss(ignore_index=255))
    True
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import torch
from torch import nn

from seg.losses.contract import inputs, precision, usage, values
from seg.losses.contract.subject import Subject, prepare

CLAUSES: Mapping[str, Callable[[Subject], None]] = MappingProxyType(
    {
        "any_rank": inputs.any_rank,
        "flattened": inputs.flattened,
        "classes_last_refused": inputs.classes_last_refused,
        "integer_dtypes": inputs.integer_dtypes,
        "one_hot_equals_ids": inputs.one_hot_equals_ids,
        "ignored_pixels": inputs.ignored_pixels,
        "all_ignored": inputs.all_ignored,
        "ignored_image": inputs.ignored_image,
        "reductions": values.reductions,
        "split_terms": values.split_terms,
        "split_shares": values.split_shares,
        "shift_invariance": values.shift_invariance,
        "permutation": values.permutation,
        "absent_class": values.absent_class,
        "half_precision": precision.half_precision,
        "extreme_logits": precision.extreme_logits,
        "certain_pixels": precision.certain_pixels,
        "gradient": precision.gradient,
        "second_derivative": precision.second_derivative,
        "labels_refused": inputs.labels_refused,
        "weights_are_buffers": usage.weights_are_buffers,
        "input_untouched": usage.input_untouched,
        "compile": usage.compiled,
        "export": usage.exported,
        "deterministic": usage.deterministic,
        "channels_last": usage.channels_last,
        "strided": usage.strided,
    }
)
"""What a loss must hold, by name; the docstring of each function says what it asserts."""

_log = logging.getLogger(__name__)


def check_loss(loss: nn.Module, num_classes: int | None = None) -> list[str]:
    """Names the clauses of the contract of `seg.losses` that a loss breaks.

    A clause is broken if what it asserts does not hold, or if the loss raises. The reason goes to
    the logger ``seg.losses.contract`` at level INFO: ``logging.basicConfig(level="INFO")`` shows
    it. `CLAUSES` says what each asserts. The check takes seconds, on the CPU, with seeded random
    inputs, on a copy of the loss in eval mode. RNG states and torch settings stay as they are, but
    functions compiled before will compile anew.

    Args:
        loss: A module that takes (logits, target). Pixels are ignored at `loss.ignore_index`, or at
            255 if it has none. Weights that still wait for class counts get made-up ones.
        num_classes: Number of logits a pixel, by default the length of the loss's class weights,
            else 4. For a foreign loss, 1 stands for one sigmoid logit; for a binary loss of ours,
            more than 2 for so many independent ones.

    Returns:
        Names from `CLAUSES`, in its order; an empty list if none is broken.

    Raises:
        TypeError: If the loss is no module.
        ValueError: If `num_classes` is below 1.
    """
    if not isinstance(loss, nn.Module):
        raise TypeError(f"{loss!r}: expected a loss that is an nn.Module; pass an instance.")
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes={num_classes}: expected 1 or more logits a pixel.")
    with _as_found():
        subject = prepare(loss, num_classes)
        return [name for name, clause in CLAUSES.items() if not _holds(name, clause, subject)]


def _holds(name: str, clause: Callable[[Subject], None], subject: Subject) -> bool:
    try:
        clause(subject)
    except Exception as error:  # whatever a foreign loss raises is a finding, not a failure
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        _log.info("%s breaks %s: %s", type(subject.loss).__name__, name, reason[:400])
        return False
    return True


@contextmanager
def _as_found() -> Iterator[None]:
    """Known settings inside; afterwards RNG states and settings are those from before."""
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with (
            warnings.catch_warnings(),
            torch.random.fork_rng(devices=[]),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast("cpu", enabled=False),
        ):
            warnings.simplefilter("ignore")  # of a foreign loss, and of the compiler
            torch.manual_seed(0)
            torch.use_deterministic_algorithms(False)
            yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
