"""An audit as one HTML file that needs nothing else: tables, and plots drawn as SVG."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_LEFT, _WIDTH, _ROW = 150, 560, 22
_COLUMNS = (
    ("share", "share of pixels"),
    ("pixels", "pixels"),
    ("images", "images"),
    ("components", "components"),
    ("median_component", "median component (px)"),
)
_WARNINGS = (
    ("masks_of_one_class", "masks show one class only"),
    ("masks_all_ignored", "masks are ignored throughout"),
)


def audit_page(facts: Mapping[str, Any]) -> str:
    """The page of what `audit_data` found, with `recommendation`, reasons by what is set."""
    notes = [f"{name}: not audited: {text}" for name, text in facts["not_found"].items()]
    notes += facts["palettes"]
    notes += ["The same image in two splits: " + ", ".join(d) for d in facts["duplicates"]]
    return _rendered(
        "page.html",
        columns=_COLUMNS,
        recommendation=facts["recommendation"],
        unsettled=facts["nothing_to_learn"],
        splits=[_split(name, split) for name, split in facts["splits"].items()],
        notes=notes,
    )


def bars(title: str, names: Sequence[str], values: Sequence[float | None]) -> Markup:
    """An SVG of horizontal bars on a logarithmic scale; 0 and None have none.

    Args:
        title: What the values are.
        names: One a bar.
        values: One a bar, none negative.
    """
    known = [v for v in values if v]
    low = math.floor(math.log10(min(known))) if known else 0
    high = math.ceil(math.log10(max(known))) if known else 1
    scale = _WIDTH / (max(high, low + 1) - low)  # pixels a power of ten
    powers = range(low, max(high, low + 1) + 1)
    lengths = [scale * (math.log10(value) - low) if value else 0.0 for value in values]
    figure = _rendered(
        "bars.html",
        **{"title": title, "left": _LEFT, "width": _WIDTH, "row": _ROW},
        height=_ROW * len(names) + 24,
        ticks=[(_LEFT + scale * (power - low), f"{10.0**power:g}") for power in powers],
        bars=list(zip(names, lengths, map(_number, values), strict=True)),
    )
    return Markup(figure)  # escaped by its own template


@cache
def _environment() -> Environment:
    """Templates in which every value is escaped."""
    loader = PackageLoader("seg.audit")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.filters["number"] = _number
    return environment


def _rendered(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values) + "\n"


def _split(name: str, split: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of one split."""
    classes = split["classes"]
    names = [c["name"] for c in classes]
    ratio = split["imbalance_ratio"]
    summary = f"{split['images']} images, {split['ignored_share']:.2%} of the pixels ignored"
    if ratio is not None:
        summary += f", imbalance ratio {ratio:,.1f}"
    notes = [f"{split[key]} {text}" for key, text in _WARNINGS if split[key]]
    if split["missing_classes"]:
        notes.append("No pixel of " + ", ".join(split["missing_classes"]))
    if split["sizes"].get("smaller_than_crop"):
        notes.append(f"{split['sizes']['smaller_than_crop']} images are smaller than the crop")
    plots = [
        bars("Share of the pixels", names, [c["share"] for c in classes]),
        bars("Images", names, [c["images"] for c in classes]),
        bars("Median component, pixels", names, [c["median_component"] for c in classes]),
    ]
    notes += split["unreadable"]
    return {
        **{"name": name, "summary": summary, "notes": notes, "classes": classes},
        "plots": plots,
    }


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
