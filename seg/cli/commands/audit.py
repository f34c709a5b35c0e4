"""`seg audit`: how bad the imbalance is, and what to set."""

import json
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from seg.audit import Recommendation, audit_data, recommend
from seg.audit.page import audit_page
from seg.cli.data_parser import advancing, data_parser
from seg.files import refuse_overwriting, replacing
from seg.report.tables import print_wide

_SHOWN = 5
_FIRST_WORDS = "# seg fit -c DATA.yaml"


def main(args: list[str]) -> int:
    """Audit the data of a YAML; returns the exit status.

    Raises:
        InputError: If the data cannot be found or read.
    """
    parser = data_parser("audit", "Scan all masks: how bad is the imbalance, and what to set?")
    parser.add_argument("--output", default="audit", help="Folder of audit.json, audit.html, …")
    config = parser.parse_args(args)
    folder = Path(config.output)
    written = [folder / name for name in ("audit.json", "audit.html", "recommended.yaml")]
    refuse_overwriting(written, map(str, config.config or []), _may_be_replaced)
    data = parser.instantiate(config).data
    console = Console()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        facts = audit_data(data, lambda name, total: advancing(bar, name, total))
    train = facts["splits"][data.splits["train"]]
    advice = recommend(train, data.crop_size, data.resize)
    facts["recommendation"] = advice.reasons
    _write(folder / "audit.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    _write(folder / "audit.html", audit_page(facts))
    _write(folder / "recommended.yaml", _recommended(advice, folder))
    for name, split in facts["splits"].items():
        print_wide(_table(name, split), console)
    lines = [*_remarks(facts), *(f"{key}: {reason}" for key, reason in advice.reasons.items())]
    lines.append(f"Written: {folder}/audit.json, audit.html, recommended.yaml")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True, highlight=False)
    return 0


def _may_be_replaced(path: Path) -> bool:
    """Whether a file that is there is of an earlier audit; only a YAML may be the user's own."""
    return path.suffix != ".yaml" or path.read_bytes().startswith(_FIRST_WORDS.encode())


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _recommended(advice: Recommendation, folder: Path) -> str:
    lines = [f"{_FIRST_WORDS} -c {folder}/recommended.yaml"]
    lines += [f"# {key}: {reason}" for key, reason in advice.reasons.items()]
    settings: str = yaml.safe_dump(advice.config, sort_keys=False)
    return "\n".join([*lines, settings])


def _table(name: str, split: dict[str, Any]) -> Table:
    ratio = split["imbalance_ratio"]
    title = f"{name}: {split['images']} images, {split['ignored_share']:.1%} ignored"
    caption = "" if ratio is None else f"imbalance ratio {ratio:,.1f}"
    table = Table(title=Text(title), caption=Text(caption), box=box.SIMPLE_HEAD)
    table.add_column("class", no_wrap=True)
    for heading in ("share", "pixels", "images", "components", "median component"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in split["classes"]:
        median = row["median_component"]
        table.add_row(
            Text(row["name"]),
            f"{100 * row['share']:.3f} %",
            f"{row['pixels']:,}",
            f"{row['images']:,}",
            f"{row['components']:,}",
            "–" if median is None else f"{median:,.1f} px",
        )
    return table


def _remarks(facts: dict[str, Any]) -> list[str]:
    """What should not be as it is, one line each."""
    lines = [f"{name}: not audited: {text}" for name, text in facts["not_found"].items()]
    for name, split in facts["splits"].items():
        if split["missing_classes"]:
            lines.append(f"{name}: no pixel of {', '.join(split['missing_classes'])}")
        for key, text in (
            ("masks_of_one_class", "masks show one class only"),
            ("masks_all_ignored", "masks are ignored throughout"),
        ):
            if split[key]:
                lines.append(f"{name}: {split[key]} of {split['images']} {text}")
        lines += [f"{name}: {text}" for text in _first(split["unreadable"])]
    lines += facts["palettes"]
    pairs = [f"the same image in two splits: {', '.join(files)}" for files in facts["duplicates"]]
    return lines + _first(pairs)


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return lines[:_SHOWN] + ([f"… and {more} more, in audit.json"] if more > 0 else [])
