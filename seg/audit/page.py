"""An audit as one HTML file that needs nothing else: tables, and plots drawn as SVG."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --bar: #0072b2; --other: #d55e00; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; } figure { margin: 1.5rem 0; overflow-x: auto; }
th, td { padding: .2rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child, .reasons td { text-align: left; }
svg text { font: 12px system-ui; fill: currentColor; }
.bar { fill: var(--bar); } .warn { color: var(--other); } .grid { stroke: var(--line); }
"""
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
    parts = [_recommendation(facts["recommendation"])]
    parts += [_split(name, split) for name, split in facts["splits"].items()]
    notes = [f"{name}: not audited: {text}" for name, text in facts["not_found"].items()]
    notes += facts["palettes"]
    notes += ["The same image in two splits: " + ", ".join(d) for d in facts["duplicates"]]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Audit</title>'
        f"<style>{_STYLE}</style></head><body><h1>Audit</h1>{''.join(parts)}{_notes(notes)}"
        "</body></html>\n"
    )


def bars(title: str, names: Sequence[str], values: Sequence[float | None]) -> str:
    """An SVG of horizontal bars on a logarithmic scale; 0 and None have none.

    Args:
        title: What the values are.
        names: One a bar.
        values: One a bar, none negative.
    """
    known = [v for v in values if v]
    low = math.floor(math.log10(min(known))) if known else 0
    high = math.ceil(math.log10(max(known))) if known else 1
    high = max(high, low + 1)
    height = _ROW * len(names) + 24
    shapes = []
    for power in range(low, high + 1):
        x = _LEFT + _WIDTH * (power - low) / (high - low)
        shapes.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 20}"/>')
        shapes.append(
            f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle">{10.0**power:g}</text>'
        )
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        y = i * _ROW
        length = _WIDTH * (math.log10(value) - low) / (high - low) if value else 0.0
        shapes.append(f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        shapes.append(
            f'<rect class="bar" x="{_LEFT}" y="{y + 3}" width="{length:.1f}" height="{_ROW - 6}">'
            f"<title>{escape(name)}: {_number(value)}</title></rect>"
        )
    size = f'width="{_LEFT + _WIDTH + 30}" height="{height}"'
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg role="img" aria-label="{escape(title)}" {size}>{"".join(shapes)}</svg></figure>'
    )


def _split(name: str, split: Mapping[str, Any]) -> str:
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
    rows = "".join(
        f"<tr><td>{escape(c['name'])}</td>"
        + "".join(f"<td>{_number(c[key])}</td>" for key, _ in _COLUMNS)
        + "</tr>"
        for c in classes
    )
    heads = "".join(f"<th>{text}</th>" for text in ("class", *(text for _, text in _COLUMNS)))
    return (
        f"<h2>{escape(name)}</h2><p>{summary}</p>{_notes([*notes, *split['unreadable']])}"
        f"<table><tr>{heads}</tr>{rows}</table>{''.join(plots)}"
    )


def _recommendation(reasons: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>" for k, v in reasons.items())
    return f'<h2>What to set</h2><table class="reasons">{rows}</table>'


def _notes(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="warn">{items}</ul>' if items else ""


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
