"""The weights that policies gave the classes, as a table at the start of a run."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from torch import Tensor

from seg.losses import SegmentationLoss
from seg.report.terminal import UNDEFINED, print_table


def print_weights(
    parts: Mapping[str, tuple[float, SegmentationLoss]],
    class_names: Sequence[str],
    pixels: Tensor,
    console: Console | None = None,
) -> None:
    """Prints each class's share of the training pixels and what policies made of it, if any did.

    Args:
        parts: The losses and their factors, by name.
        class_names: The C names.
        pixels: True pixels of each class in the training split, (C,).
        console: Where to print; standard output if None.
    """
    columns = _columns(parts, len(class_names))
    if not columns:
        return
    shares = (pixels / pixels.sum()).tolist()
    rows = zip(class_names, shares, *columns.values(), strict=True)
    print_table(
        "class weights by policy",
        ("share", *columns),
        ((name, f"{100 * share:.3f} %", *cells) for name, share, *cells in rows),
        console=console,
    )


def _columns(
    parts: Mapping[str, tuple[float, SegmentationLoss]], num_classes: int
) -> dict[str, list[str]]:
    """Cells of each buffer that a policy filled, by a heading that names both."""
    columns = {}
    for part, (_, loss) in parts.items():
        for buffer, policy in loss.policies.items():
            values = [f"{value:.4g}" for value in getattr(loss, buffer).tolist()]
            # a binary loss has one value, that of its foreground
            cells = [UNDEFINED] * (num_classes - len(values)) + values
            columns[f"{part}.{buffer} ({policy})" if part else f"{buffer} ({policy})"] = cells
    return columns
