"""`seg configs`: the configurations that `-c` takes by name."""

from seg.cli.parsers import CommandParser
from seg.cli.shipped_configs import shipped_names, shipped_path


def main(args: list[str]) -> int:
    """List the shipped configurations, or print one; returns the exit status.

    Raises:
        InputError: If there is none of the name that is given.
    """
    parser = CommandParser(
        prog="seg configs",
        description="List the configurations that -c takes by name, each with a command.",
    )
    parser.add_argument(
        "name", type=str | None, nargs="?", help="Print this one: `seg configs rare > mine.yaml`."
    )
    name = parser.parse_args(args).name
    print(_listed() if name is None else _text(name).rstrip("\n"))
    return 0


def _text(name: str) -> str:
    return shipped_path(name).read_text(encoding="utf-8")


def _listed() -> str:
    """A line each: the name, and the command that the file begins with."""
    names = shipped_names()
    width = max(map(len, names))
    commands = (_text(name).partition("\n")[0].lstrip("# ") for name in names)
    return "\n".join(f"{n:{width}}  {c}" for n, c in zip(names, commands, strict=True))
