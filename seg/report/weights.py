"""The weights that policies gave the classes, as a table at the start of a run."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from seg.losses import SegmentationLoss
from seg.report.tables import print_wide


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
    table = Table(title=Text("class weights by policy"), box=box.SIMPLE_HEAD)
    table.add_column("class", no_wrap=True)
    for heading in ("share", *columns):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    shares = (pixels / pixels.sum()).tolist()
    for row, (name, share) in enumerate(zip(class_names, shares, strict=True)):
        table.add_row(Text(name), f"{100 * share:.3f} %", *(c[row] for c in columns.values()))
    print_wide(table, console)


def _columns(
    parts: Mapping[str, tuple[float, SegmentationLoss]], num_classes: int
) -> dict[str, list[str]]:
    """Cells of each buffer that a policy filled, by a heading that names both."""
    columns = {}
    for part, (_, loss) in parts.items():
        for buffer, policy in loss.policies.items():
            values = [f"{value:.4g}" for value in getattr(loss, buffer).tolist()]
            # a binary loss has one value, that of its foreground
            cells = ["–"] * (num_classes - len(values)) + values
            columns[f"{part}.{buffer} ({policy})" if part else f"{buffer} ({policy})"] = cells
    return columns
