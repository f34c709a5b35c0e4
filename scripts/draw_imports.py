"""Draw which room of `seg` imports which, as a Mermaid graph in docs/architecture.md.

usage: python scripts/draw_imports.py
"""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "seg"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- imports: begin -->", "<!-- imports: end -->"
FLOOR = {"errors", "files", "constants", "exact_sums", "lightning_compat"}
"""What every room may import; arrows to it would hide the others."""
ALIASES = {"checkpoint", "metrics", "optim", "sharding", "__main__"}
"""Modules of one line for public paths."""


def room(name: str) -> str:
    """The part of the package that a dotted name belongs to."""
    return name.split(".")[1]


def arrows() -> dict[str, set[str]]:
    """Rooms by the room that imports them."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        importer = path.relative_to(PACKAGE).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("seg."):
                imported = room(node.module or "")
                if importer not in {imported, *FLOOR, *ALIASES, "__init__"}:
                    found[importer].add(imported)
    return {importer: rooms - FLOOR for importer, rooms in sorted(found.items())}


def graph() -> str:
    """The arrows as a Mermaid graph, those that a longer way implies left out."""
    direct = arrows()

    def reached(start: str, without: str) -> set[str]:
        """What is imported by way of other rooms."""
        seen: set[str] = set()
        todo = [r for r in direct.get(start, ()) if r != without]
        while todo:
            seen.add(here := todo.pop())
            todo += [r for r in direct.get(here, ()) if r not in seen]
        return seen

    lines = [
        f"  {importer} --> {imported}"
        for importer, rooms in direct.items()
        for imported in sorted(rooms)
        if imported not in reached(importer, imported)
    ]
    return "\n".join(["```mermaid", "graph TD", *lines, "```"])


def page(text: str) -> str:
    """The page with the graph between its marks renewed."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{graph()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
