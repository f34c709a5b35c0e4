"""Clauses on what a loss takes: shapes, dtypes, ignored pixels, labels."""

import re

import torch
import torch.nn.functional as F
from torch import Tensor

from seg.losses.contract.subject import Loss, Subject, measure, require

RANKS = ((6,), (3, 5), (2, 3, 5), (2, 2, 3, 2), (2, 2, 2, 2, 3))


def any_rank(subject: Subject) -> None:
    """Logits (N, C) to (N, C, d1, d2, d3) give a finite loss and a finite gradient.

    A loss that says ``uses_positions`` may ask for a spatial dim.
    """
    for shape in RANKS[1 if getattr(subject.loss, "uses_positions", False) else 0 :]:
        value, slope = measure(subject.loss, *subject.sample(*shape))
        require(value.isfinite().all(), f"the loss is not finite for a target {shape}")
        require(slope.isfinite().all(), f"the gradient is not finite for a target {shape}")


def flattened(subject: Subject) -> None:
    """Spatial dims flattened to (N, C, P) change neither loss nor gradient.

    A loss that says ``uses_positions`` is exempt.
    """
    if getattr(subject.loss, "uses_positions", False):
        return
    for shape in RANKS[2:]:
        logits, target = subject.sample(*shape, ignored=True)
        spatial = len(shape) - 1
        flat = logits.flatten(2), target.flatten(target.ndim - spatial)
        subject.agree(measure(subject.loss, *flat), measure(subject.loss, logits, target))


def classes_last_refused(subject: Subject) -> None:
    """Logits or probabilities with the classes in the last dim raise; the error names movedim."""
    height, width = [size for size in (5, 7, 11) if size != subject.channels][:2]
    logits, target = subject.sample(2, height, width)
    last = logits.movedim(1, -1)
    pairs = {"logits": (last, target)}
    if not subject.sigmoid:
        pairs["probabilities"] = (logits, last.softmax(-1))
    for name, pair in pairs.items():
        message = _refusal(subject.loss, *pair)
        require("movedim" in message, f"{name} with the classes last: {message or 'taken'}")


def integer_dtypes(subject: Subject) -> None:
    """Ids of uint8, int16, int32 and int64 give the same loss and gradient."""
    logits, target = subject.sample(2, 3, 5, ignored=True)
    low, high = (bound.item() for bound in torch.aminmax(target))
    expected = measure(subject.loss, logits, target)
    for dtype in (torch.uint8, torch.int16, torch.int32):
        held = torch.iinfo(dtype)
        if held.min <= low and high <= held.max:
            subject.agree(measure(subject.loss, logits, target.to(dtype)), expected)


def one_hot_equals_ids(subject: Subject) -> None:
    """Probabilities that are 0 and 1 give the loss and gradient of the ids, ignored pixels too."""
    for ignored in (False, True):
        logits, target = subject.sample(2, 3, 5, ignored=ignored)
        mask = target == subject.ignore_index
        target = target.masked_fill(mask, 0)
        if subject.sigmoid:
            soft = target.to(logits).masked_fill(mask, subject.ignore_index)
        else:
            soft = F.one_hot(target, subject.channels).movedim(-1, 1).to(logits)
            soft = soft.masked_fill(mask.unsqueeze(1), subject.ignore_index)
        ids = target.masked_fill(mask, subject.ignore_index)
        subject.agree(measure(subject.loss, logits, soft), measure(subject.loss, logits, ids))


def ignored_pixels(subject: Subject) -> None:
    """Ignored pixels are in neither sum nor divisor and have no gradient, even with inf or NaN."""
    if not getattr(subject.loss, "uses_positions", False):
        _ignored_equals_left_out(subject)
    logits, target = subject.spoiled(2, 3, 5)
    ignored = subject.ignored(logits, target)
    poisons = torch.tensor([torch.inf, -torch.inf, torch.nan, 1e30], dtype=subject.dtype)
    scattered = poisons[torch.arange(logits.numel()) % 4].view_as(logits)
    value, slope = measure(subject.loss, torch.where(ignored, scattered, logits), target)
    require((slope[ignored] == 0).all(), "an ignored pixel with inf or NaN logits has a gradient")
    subject.agree((value, slope), measure(subject.loss, torch.where(ignored, 0, logits), target))


def all_ignored(subject: Subject) -> None:
    """With every pixel ignored the loss is exactly 0, and so is its gradient."""
    for poison in (0.0, torch.inf, torch.nan):
        logits, target = subject.sample(2, 3, 5)
        nothing = torch.full_like(target, subject.ignore_index)
        value, slope = measure(subject.loss, logits + poison, nothing)
        require((value == 0).all(), f"the loss is {value.flatten()[0]:g}, logits + {poison}")
        require((slope == 0).all(), f"the gradient is not 0, logits + {poison}")


def ignored_image(subject: Subject) -> None:
    """An image that is all ignored leaves loss and gradient of the others alone."""
    logits, target = subject.sample(3, 3, 5)
    target[1] = subject.ignore_index
    others = [0, 2]
    value, slope = measure(subject.loss, logits, target)
    kept, kept_slope = measure(subject.loss, logits[others], target[others])
    require((slope[1] == 0).all(), "the ignored image has a gradient")
    subject.agree((value.sum(), slope[others]), (kept.sum(), kept_slope))


def labels_refused(subject: Subject) -> None:
    """A label outside the classes that is not ignore_index raises, and the error holds it."""
    strangers = (subject.labels + 13, -4, subject.labels)
    for label in (label for label in strangers if label != subject.ignore_index):
        logits, target = subject.sample(2, 3, 5)
        target[(1, -1, *[2] * (target.ndim - 2))] = label
        message = _refusal(subject.loss, logits, target)
        found = re.search(rf"(?<![\d-]){label}(?!\d)", message)
        require(found is not None, f"label {label}: {message or 'taken'}")


def _ignored_equals_left_out(subject: Subject) -> None:
    """As if they were not there: each image has its last pixels ignored, or is cut before them."""
    logits, target = subject.sample(2, 40)
    target[..., 25:] = subject.ignore_index
    value, slope = measure(subject.loss, logits, target)
    rest = logits[..., :25].contiguous(), target[..., :25].contiguous()
    cut, cut_slope = measure(subject.loss, *rest)
    require((slope[..., 25:] == 0).all(), "an ignored pixel has a gradient")
    subject.agree((value.sum(), slope[..., :25]), (cut.sum(), cut_slope))


def _refusal(loss: Loss, logits: Tensor, target: Tensor) -> str:
    """What a loss says when it refuses its input, nothing if it takes it."""
    try:
        loss(logits, target)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
