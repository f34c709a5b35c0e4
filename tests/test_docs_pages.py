"""The pages of the documentation lead to each other, and none is lost."""

import math
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
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
    pages = {page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES}
    assert listed == pages - {"index"} | GENERATED


def test_the_example_of_focal_loss_has_the_numbers_of_its_page():
    page = (DOCS / "explanation" / "focal_loss.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    found = {}
    exec(code, found)  # trusted: it is our own documentation
    p_t = [0.9, 0.2, 0.9]
    cross_entropy = [-math.log(p) for p in p_t]
    focal = [(1 - p) ** 2 * loss for p, loss in zip(p_t, cross_entropy, strict=True)]
    weighted = (3 * cross_entropy[0] + 3 * cross_entropy[1] + cross_entropy[2]) / 7
    assert found["cross_entropy"].flatten().tolist() == pytest.approx(cross_entropy, rel=1e-5)
    assert found["focal"].flatten().tolist() == pytest.approx(focal, rel=1e-4)
    assert float(found["weighted"]) == pytest.approx(weighted, rel=1e-5)
    assert [f"{x:.4f}" for x in cross_entropy] == ["0.1054", "1.6094", "0.1054"]
    assert [f"{x:.5f}" for x in focal] == ["0.00105", "1.03004", "0.00105"]
    assert "0.7500" in page and f"{weighted:.4f}" == "0.7500"
    assert "0.6067" in page and f"{sum(cross_entropy) / 3:.4f}" == "0.6067"
