"""Puts a link to Colab on the page of the notebook, where the repository's address is known."""

import json
import os
from typing import Any

PAGE = "notebooks/first_minute"
PLACEHOLDER = "OWNER/seg"
"""What the notebook says in the place of the repository's owner and name."""


def with_badge(notebook: str, repository: str) -> str:
    """The notebook with a badge below its title, and the address in the line that installs."""
    loaded = json.loads(notebook.replace(PLACEHOLDER, repository))
    address = f"https://colab.research.google.com/github/{repository}/blob/main/docs/{PAGE}.ipynb"
    image = "https://colab.research.google.com/assets/colab-badge.svg"
    title, *rest = "".join(loaded["cells"][0]["source"]).split("\n\n")
    text = "\n\n".join([title, f"[![Open in Colab]({image})]({address})", *rest])
    loaded["cells"][0]["source"] = text.splitlines(keepends=True)
    return json.dumps(loaded)


def add_badge(app: Any, page: str, source: list[str]) -> None:
    """Change the source of the one page. GitHub's workflows name their repository."""
    repository = os.environ.get("GITHUB_REPOSITORY")
    if page == PAGE and repository:
        source[0] = with_badge(source[0], repository)


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("source-read", add_badge)
    return {"version": "1", "parallel_read_safe": True}
