"""How many pixels each class has, for weights that are given by the name of a policy."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from seg.errors import InputError
from seg.losses import SegmentationLoss
from seg.losses.class_weights import counts_of_classes


def fill_weights(loss: SegmentationLoss, counts: Any, class_names: Sequence[str]) -> Tensor:
    """Give the weights of policies their values; returns the pixels of each class, float64 (C,).

    Args:
        loss: Whose weights.
        counts: Pixels of each class in a list, tuple, array or tensor (C,); or what has them as
            `pixels` and, where known, as `image_pixels` those of all images that show the class,
            such as `seg.data.ClassCounts`. Without these, median_frequency is inverse_frequency.
        class_names: The C names.

    Raises:
        InputError: If no weight is given by a policy, or these are no counts of these classes.
    """
    if not loss.needs_class_counts:
        raise InputError(
            f"model.class_counts has no effect: {type(loss).__name__} has no weights that are given"
            " by the name of a policy, such as median_frequency; leave it out."
        )
    pixels, image_pixels = getattr(counts, "pixels", counts), getattr(counts, "image_pixels", None)
    try:
        found = counts_of_classes("class_counts", pixels)
        if len(found) != len(class_names):
            raise ValueError(
                f"class_counts has {len(found)} numbers for the {len(class_names)} classes "
                f"{list(class_names)}; give the pixels of each class."
            )
        loss.set_class_counts(found, image_pixels, class_names)
    except ValueError as error:
        raise InputError(f"model.{error}") from error
    return found


def fill_waiting(module: Any) -> None:
    """Give the weights of policies that still wait, as no checkpoint has them, their values.

    Args:
        module: The SegmentationModule; its `class_pixels` are filled in.

    Raises:
        InputError: If the trainer's data module does not tell the pixels of each class.
    """
    if module.loss.needs_class_counts:
        counts = counts_of_data(getattr(module.trainer, "datamodule", None), module.loss)
        module.class_pixels = fill_weights(module.loss, counts, module.class_names)


def counts_of_data(data: Any, loss: SegmentationLoss) -> Any:
    """The counts of a trainer's data module.

    Args:
        data: The data module; None where the fit was given loaders alone.
        loss: Which needs them.

    Raises:
        InputError: If it has no `class_counts()`.
    """
    count = getattr(data, "class_counts", None)
    if callable(count):
        return count()
    given = "a loader" if data is None else type(data).__name__
    policies = {p for _, part in loss.components().values() for p in part.policies.values()}
    raise InputError(
        f"model.loss {type(loss).__name__}: {', '.join(sorted(policies))} needs the pixels of each "
        f"class, which {given} does not tell; give SegmentationModule class_counts=[…], one number "
        "a class, or fit a data module that has class_counts()."
    )
