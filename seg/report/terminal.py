"""What commands print: tables of classes, as wide as they need, and lines as they are."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

UNDEFINED = "–"
"""Cell of a figure that there is none of."""

_UNBOUNDED = 10_000
"""Columns of a terminal on which nothing is ever wrapped."""


def print_table(
    title: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    summary: Sequence[str] = (),
    caption: str = "",
    console: Console | None = None,
) -> None:
    """Prints a row a class, as wide as it needs, whatever width the output claims to have.

    Nothing is cut off or wrapped by rich, so that logs and pipes (80 columns) stay readable. All
    text is shown letter by letter: neither rich's markup nor its emoji codes count in it.

    Args:
        title: Printed above.
        headings: Of the columns after that of the names.
        rows: The name of the class, and a cell a heading.
        summary: A last row, set apart; none if empty.
        caption: Printed below.
        console: Where to print; standard output if None.
    """
    table = Table(title=Text(title), caption=Text(caption), box=box.SIMPLE_HEAD)
    table.add_column("class", no_wrap=True)
    for heading in headings:
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    if summary:
        table.add_section()
        table.add_row(*map(Text, summary), style="bold")
    console = console or Console()
    options = console.options.update(width=_UNBOUNDED, max_width=_UNBOUNDED)
    table.width = console.measure(table, options=options).maximum
    console.print(table, crop=False)


def print_lines(lines: Iterable[str], style: str = "") -> None:
    """Prints lines to standard output as they are, without markup or line breaks.

    Args:
        lines: What to print.
        style: Colour of all of it, such as "bold red"; a pipe gets none.
    """
    console = Console()
    for line in lines:
        console.print(line, style=style, markup=False, soft_wrap=True, highlight=False)
