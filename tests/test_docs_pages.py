"""The pages of the documentation lead to each other, and none is lost."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted(DOCS.glob("**/*.ipynb"))
GENERATED = {"reference/configuration", "reference/command_line"}
PAGES = [p for p in sorted(DOCS.glob("**/*.md")) if p.stem not in ("configuration", "command_line")]


def headings(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda p: p.stem)
def test_the_links_of_a_page_lead_to_files_and_headings_that_exist(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for link in (link for link in links if not link.startswith("http")):
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link


def test_every_page_is_in_the_contents():
    listed = set()
    for page in PAGES:
        blocks = re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), re.S)
        lines = [line for block in blocks for line in block.splitlines()]
        names = [line for line in lines if line and not line.startswith(":")]
        listed |= {(page.parent / name).resolve().relative_to(DOCS).as_posix() for name in names}
    pages = {p.relative_to(DOCS).with_suffix("").as_posix() for p in [*PAGES, *NOTEBOOKS]}
    assert listed == pages - {"index"} | GENERATED
