"""`seg audit`: how bad the imbalance is, and what to set."""

import json
import shlex
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import Progress

from seg.audit import Recommendation, audit_data, recommend
from seg.audit.notation import percent
from seg.cli.data_parser import advancing, data_parser
from seg.cli.given_values import root_from_environment
from seg.data import SegmentationDataModule
from seg.files import refuse_overwriting, write_text
from seg.prediction.palette import default_colors
from seg.report.audit_page import Origin, audit_page
from seg.report.provenance import data_named
from seg.report.sample_pictures import sample_pictures
from seg.report.terminal import UNDEFINED, print_lines, print_table

_SHOWN = 5
_NAMED = 10
_UNSETTLED = "Nothing is recommended until that is settled, or data.allow_empty_classes is true."
_FIRST_WORDS = "# seg fit -c DATA.yaml"


def main(args: list[str]) -> int:
    """Audit the data of a YAML; returns the exit status, 1 if there is nothing to learn from.

    Raises:
        InputError: If the data cannot be found or read.
    """
    parser = data_parser("audit", "Scan all masks: how bad is the imbalance, and what to set?")
    parser.add_argument("--output", default="audit", help="Folder of audit.json, audit.html, …")
    config = parser.parse_args([*root_from_environment(args), *args])
    folder = Path(config.output)
    written = [folder / name for name in ("audit.json", "audit.html", "recommended.yaml")]
    refuse_overwriting(written, map(str, config.config or []), _may_be_replaced)
    data = parser.instantiate(config).data
    with Progress(console=Console(stderr=True), transient=True) as bar:
        facts = audit_data(data, lambda name, total: advancing(bar, name, total))
    train = facts["splits"][data.splits["train"]]
    unsettled = facts["nothing_to_learn"]
    advice = None if unsettled else recommend(train, data.crop_size, data.resize)
    facts["recommendation"] = {} if advice is None else advice.reasons
    write_text(written[0], json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    origin = _origin(data_named(config.data, predicted=False), args)
    write_text(written[1], _page(facts, data, origin))
    if advice is None:
        written.pop().unlink(missing_ok=True)
    else:
        write_text(written[2], _recommended(advice, folder))
    print_lines([f"{line} {_UNSETTLED}" for line in unsettled], style="bold red")
    for name, split in facts["splits"].items():
        _print_table(name, split)
    reasons = facts["recommendation"].items()
    lines = [*_remarks(facts, _first), *(f"{key}: {reason}" for key, reason in reasons)]
    lines.append(f"Written: {folder}/{', '.join(path.name for path in written)}")
    print_lines(lines)
    return 1 if unsettled else 0


def _may_be_replaced(path: Path) -> bool:
    """Whether a file that is there is of an earlier audit; only a YAML may be the user's own."""
    return path.suffix != ".yaml" or path.read_bytes().startswith(_FIRST_WORDS.encode())


def _recommended(advice: Recommendation, folder: Path) -> str:
    lines = [f"{_FIRST_WORDS} -c {folder}/recommended.yaml"]
    lines += [f"# {key}: {reason}" for key, reason in advice.reasons.items()]
    settings: str = yaml.safe_dump(advice.config, sort_keys=False)
    return "\n".join([*lines, settings])


def _print_table(name: str, split: dict[str, Any]) -> None:
    ratio = split["imbalance_ratio"]
    print_table(
        f"{name}: {split['images']} images, {percent(split['ignored_share'])} ignored",
        ("share", "pixels", "images", "components", "median component"),
        map(_row, split["classes"]),
        caption="" if ratio is None else f"imbalance ratio {ratio:,.1f}",
    )


def _row(of_class: dict[str, Any]) -> tuple[str, ...]:
    median = of_class["median_component"]
    return (
        of_class["name"],
        percent(of_class["share"]),
        *(f"{of_class[key]:,}" for key in ("pixels", "images", "components")),
        UNDEFINED if median is None else f"{median:,.1f} px",
    )


def _origin(data: str, args: list[str]) -> Origin:
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return Origin(data, now, shlex.join(["seg", "audit", *args]))


def _page(facts: dict[str, Any], data: SegmentationDataModule, origin: Origin) -> str:
    """The page, with pictures of training images."""
    colors = data.class_colors or default_colors(data.num_classes)
    pixels = [c["pixels"] for c in facts["splits"][data.splits["train"]]["classes"]]
    draw = data.dataset("train").draw
    seen_as = data.class_names, colors, data.shown_channels
    pictures = sample_pictures(facts["samples"], draw, pixels, *seen_as)
    return audit_page(facts, _remarks(facts, list), origin, colors, pictures)


def _remarks(facts: dict[str, Any], shortened: Callable[[list[str]], list[str]]) -> list[str]:
    """What should not be as it is, one line each; long lists `shortened`."""
    lines = [f"{name}: not audited: {text}" for name, text in facts["not_found"].items()]
    for name, split in facts["splits"].items():
        if split["missing_classes"]:
            lines.append(f"{name}: no pixel of {_names(split['missing_classes'])}")
        for key, text in (
            ("masks_of_one_class", "masks show one class only"),
            ("masks_all_ignored", "masks are ignored throughout"),
        ):
            if split[key]:
                lines.append(f"{name}: {split[key]} of {split['images']} {text}")
        lines += [f"{name}: {text}" for text in shortened(split["unreadable"])]
    lines += facts["palettes"]
    pairs = [f"the same image in two splits: {', '.join(files)}" for files in facts["duplicates"]]
    return lines + shortened(pairs)


def _names(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more classes" if more > 0 else "")


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return lines[:_SHOWN] + ([f"… and {more} more, in audit.json"] if more > 0 else [])
