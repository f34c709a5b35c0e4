"""Sphinx: python -m sphinx -W -b html docs build/docs, with the extra `docs` installed."""

import importlib.metadata
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "seg"
copyright = "the seg developers"
release = importlib.metadata.version("seg")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinxcontrib.mermaid",
    "configuration_pages",  # beside this file, as the next
    "colab_badge",
]
nitpicky = False  # annotations name private aliases

myst_enable_extensions = ["colon_fence"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebook holds its outputs

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # jaxtyping's strings are no types to Sphinx; docstrings give the shapes
napoleon_google_docstring = True

html_theme = "pydata_sphinx_theme"
html_title = "seg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_sidebars = {page: [] for page in ("start", "faq", "notebooks/*")}  # nothing lies below them
html_theme_options = {"show_prev_next": False, "navigation_with_keys": False}

if "SEG_DOCS_OFFLINE" not in os.environ:
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "lightning": ("https://lightning.ai/docs/pytorch/stable", None),
    }

default_role = "code"  # `name` in docstrings is code


def escape_stars(app, what, name, obj, options, lines):
    """Shapes such as (n, c, *d) and |a - b| are text, not emphasis and substitutions."""
    for number, line in enumerate(lines):
        parts = line.split("`")
        parts[::2] = [re.sub(r"(?<!\*)(\*(?=d\b)|\|)", r"\\\1", part) for part in parts[::2]]
        lines[number] = "`".join(parts)


def setup(app):
    """What Sphinx calls."""
    app.connect("autodoc-process-docstring", escape_stars, priority=900)  # after napoleon
