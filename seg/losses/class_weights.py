"""Class weights, and priors, from pixel counts: one function for each named policy.

The weights have mean 1 over the classes that occur, so that the size of the loss, and with it the
learning rate, does not depend on the policy. A class without a pixel gets weight 0.
"""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Policy = Callable[[Tensor, Tensor | None, float | None], Tensor]
"""(pixels, image_pixels, beta), float64 and of occurring classes only, to unnormalised weights."""


def inverse_frequency(pixels: Tensor, image_pixels: Tensor | None, beta: float | None) -> Tensor:
    """Weights 1 / n_c: every class has the same share of the loss, the harshest policy."""
    return pixels.sum() / pixels


def sqrt_inverse_frequency(
    pixels: Tensor, image_pixels: Tensor | None, beta: float | None
) -> Tensor:
    """Weights sqrt(1 / n_c): on a log scale halfway between equal weights and 1 / n_c."""
    return (pixels.sum() / pixels).sqrt()


def median_frequency(pixels: Tensor, image_pixels: Tensor | None, beta: float | None) -> Tensor:
    """Weights median(f) / f_c, where f_c is the share of c in the images in which c occurs.

    Without `image_pixels` f_c is the share of all pixels, which makes it `inverse_frequency`.

    Reference:
        Eigen & Fergus, Predicting Depth, Surface Normals and Semantic Labels with a Common
        Multi-Scale Convolutional Architecture, 2015, section 6.3.2.
    """
    frequency = pixels / (pixels.sum() if image_pixels is None else image_pixels)
    return frequency.median() / frequency


def log_frequency(pixels: Tensor, image_pixels: Tensor | None, beta: float | None) -> Tensor:
    """Weights 1 / ln(1.02 + f_c), f_c the share of all pixels: none is over 36 times another.

    Reference:
        Paszke et al., ENet: A Deep Neural Network Architecture for Real-Time Semantic
        Segmentation, 2016, section 5.2.
    """
    return 1 / torch.log(1.02 + pixels / pixels.sum())


def effective_number(pixels: Tensor, image_pixels: Tensor | None, beta: float | None) -> Tensor:
    """Weights (1 - β) / (1 - β^n_c): softer than 1 / n_c, as further pixels of a class add less.

    β defaults to (N - 1) / N with N pixels in all. β near 1 and β^n near 1 both cancel if written
    as above, hence the detour over log1p and expm1.

    Reference:
        Cui et al., Class-Balanced Loss Based on Effective Number of Samples, 2019, eq. 2 and
        section 4.
    """
    rest = 1 / pixels.sum() if beta is None else pixels.new_tensor(1 - beta)  # 1 - β
    return rest / -torch.expm1(pixels * torch.log1p(-rest))


POLICIES: Mapping[str, Policy] = {
    "inverse_frequency": inverse_frequency,
    "sqrt_inverse_frequency": sqrt_inverse_frequency,
    "median_frequency": median_frequency,
    "log_frequency": log_frequency,
    "effective_number": effective_number,
}
"""Policy by the name that a config uses."""


def class_weights(
    policy: str,
    pixels: Tensor | Sequence[int],
    image_pixels: Tensor | Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
    beta: float | None = None,
) -> Tensor:
    """Weights of the classes under a policy, with mean 1 over the classes that occur.

    Args:
        policy: A name in `POLICIES`; β may follow in brackets, as in effective_number(0.9999).
        pixels: Number of valid pixels of each class in the training set, (C,).
        image_pixels: Number of valid pixels of all the images in which the class occurs, (C,).
        class_names: The C names that warnings and errors use in place of the index.
        beta: β in [0, 1) of `effective_number`; no other policy takes it.

    Returns:
        Weights (C,), float32, on the CPU; 0 for a class without a pixel, of which a warning tells.

    Raises:
        ValueError: If the policy is unknown, if the counts are negative, all 0 or not C of them,
            or if `beta` is out of range or does not apply.
    """
    name, own_beta = parse_policy(policy, "policy")
    if beta is not None:
        _check_beta(f"beta={beta}", name, beta)
        if own_beta is not None:
            raise ValueError(f"policy={policy!r} names its β; leave out beta={beta}.")
    counts = counts_of_classes("pixels", pixels)
    names = list(class_names) if class_names is not None else [str(c) for c in range(len(counts))]
    images = None if image_pixels is None else counts_of_classes("image_pixels", image_pixels)
    _check_counts(counts, images, names)
    present = counts > 0
    _warn_of_absent(present, names, "its weight is 0, so nothing trains it")
    raw = POLICIES[name](
        counts[present],
        None if images is None else images[present],
        own_beta if beta is None else beta,
    )
    weights = torch.zeros_like(counts)
    weights[present] = raw / raw.mean()
    return weights.float()


def parse_policy(policy: str, option: str) -> tuple[str, float | None]:
    """Splits a policy such as effective_number(0.9999) into its name and its β, if it has one.

    Args:
        policy: What was given for the weights.
        option: The argument for which it was given, for the message.

    Raises:
        ValueError: If the policy is unknown, or if its β is out of range or does not apply.
    """
    match = re.fullmatch(r"(\w+)(?:\((.+)\))?", policy)
    name, argument = match.groups() if match else (policy, None)
    if name not in POLICIES:
        raise ValueError(
            f"{option}={policy!r}: unknown policy; use one of {sorted(POLICIES)}, "
            "effective_number(β) such as effective_number(0.9999), or a list of numbers."
        )
    if argument is None:
        return name, None
    try:
        beta = float(argument)
    except ValueError:
        beta = float("nan")  # no number is refused as one out of range is
    _check_beta(f"{option}={policy!r}: β={argument}", name, beta)
    return name, beta


def log_priors(pixels: Tensor | Sequence[int], class_names: Sequence[str] | None = None) -> Tensor:
    """Logarithms of the classes' shares of the pixels.

    A class without a pixel counts as if it had one, so that its logarithm is finite.

    Args:
        pixels: Number of valid pixels of each class in the training set, (C,).
        class_names: The C names that warnings and errors use in place of the index.

    Returns:
        Natural logarithms (C,), float32, on the CPU, of shares that add up to 1.

    Raises:
        ValueError: If the counts are negative, all 0 or not C of them.
    """
    counts = counts_of_classes("pixels", pixels)
    names = list(class_names) if class_names is not None else [str(c) for c in range(len(counts))]
    _check_counts(counts, None, names)
    _warn_of_absent(counts > 0, names, "its prior is that of a single pixel")
    counts = counts.clamp_min(1)
    return (counts / counts.sum()).log().float()


def _warn_of_absent(present: Tensor, names: list[str], consequence: str) -> None:
    absent = [name for name, there in zip(names, present.tolist(), strict=True) if not there]
    if absent:
        warnings.warn(
            f"no pixel of class {', '.join(absent)}: {consequence}; "
            "add images that show it, or leave it out of the classes.",
            UserWarning,
            stacklevel=3,
        )


def counts_of_classes(name: str, values: Any) -> Tensor:
    """The counts of a list, tuple, array or tensor as float64 on the CPU, (C,).

    Raises:
        ValueError: If they are not one number a class.
    """
    try:
        # an array may be a view that torch has no strides for
        counts = torch.as_tensor(values.copy() if isinstance(values, np.ndarray) else values)
        counts = counts.detach().to("cpu", torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name}={values!r}: expected one count a class, (C,).") from None
    if counts.ndim != 1:
        raise ValueError(
            f"{name} of shape {tuple(counts.shape)}: expected one count a class, (C,); "
            "sum over the images first."
        )
    return counts


def _check_beta(given: str, name: str, beta: float) -> None:
    if name != "effective_number":
        raise ValueError(f"{given} does not apply to {name!r}; leave it out.")
    if not 0 <= beta < 1:
        raise ValueError(f"{given}: expected a number in [0, 1), such as 0.9999.")


def _check_counts(pixels: Tensor, image_pixels: Tensor | None, names: list[str]) -> None:
    """Refuses counts that no set of masks can have."""
    if len(names) != len(pixels):
        raise ValueError(
            f"{len(names)} class names for {len(pixels)} pixel counts; give one name a class."
        )
    for name, count in zip(names, pixels.tolist(), strict=True):
        if not 0 <= count < float("inf"):
            raise ValueError(f"class {name}: {count:g} pixels; a count is 0 or more, count again.")
    if not pixels.any():
        raise ValueError(
            "no pixel of any class: weights need at least one; check that the masks are not "
            "ignored throughout."
        )
    if image_pixels is None:
        return
    if image_pixels.shape != pixels.shape:
        raise ValueError(
            f"{len(image_pixels)} image_pixels for {len(pixels)} classes; give one count a class."
        )
    for name, own, images in zip(names, pixels.tolist(), image_pixels.tolist(), strict=True):
        if not own <= images < float("inf"):
            raise ValueError(
                f"class {name}: {images:g} pixels in the images that show it, but {own:g} of its "
                "own; image_pixels counts every valid pixel of those images."
            )
