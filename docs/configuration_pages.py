"""Writes docs/reference/{command_line,configuration}.md from what `seg` says of itself."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from configuration_examples import EXAMPLES  # beside this file

from seg.cli.command_table import COMMANDS

FOLDER = Path(__file__).parent / "reference"
GROUPS = {
    "data": "The data: images, masks, splits, augmentation, batches",
    "model": "The network, the loss and the optimiser",
    "checkpoint": "What is kept as the best checkpoint",
    "trainer": "Lightning's Trainer",
    "": "The run",
}
OPTION = re.compile(r"^  (?:-\w, )?--([\w.]+)(?: \S.*?)?(?:\s{2,}|$)")
DEFAULT = re.compile(
    r"\(?(?:required, )?type: .*?(?:, default: (.*?))?(?:, known subclasses: .*)?\)$"
)


def help_text(*args: str) -> str:
    """What a command prints, in lines of any length."""
    command = [sys.executable, "-m", "seg", *args]
    wide = {**os.environ, "COLUMNS": "10000"}
    return subprocess.run(command, env=wide, capture_output=True, text=True, check=True).stdout


def options(text: str) -> dict[str, str]:
    """The sentence of each option in a help text."""
    found: dict[str, str] = {}
    name = None
    for line in text.splitlines():
        if match := OPTION.match(line):
            name = match[1]
            found[name] = line[match.end() :].strip()
        elif name and re.match(r"^ {10,}\S", line):
            found[name] = f"{found[name]} {line.strip()}".strip()
        else:
            name = None
    return {key: said for key, said in found.items() if "type: " in said}


def row(key: str, said: str) -> str:
    """A line of the table: the key, and what it does with default and example."""
    match = DEFAULT.search(said)
    default = "" if match is None or match[1] is None else f"`{match[1]}`"
    meaning = said if match is None else said[: match.start()].strip()
    example = f"Example: `{EXAMPLES[key]}`." if key in EXAMPLES else ""
    default = f"Default: {default}." if default else ""
    cells = (f"`{key}`", " ".join(part for part in (meaning, default, example) if part))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def configuration() -> str:
    """Every key of the YAML, its default and what it does."""
    parts = [
        "# Configuration\n\nEvery key of a YAML file of `seg fit`, with default and example. "
        "On the command line a key is an option: `--data.crop_size [256,256]`. `seg fit -c FILE "
        "--print_config` prints what a run would use.\n"
    ]
    keys = options(help_text("fit", "--help-all"))
    for prefix, title in GROUPS.items():
        own = [k for k in keys if (k.split(".")[0] if "." in k else "") == prefix]
        head = ["| key | what it does |", "| --- | --- |"]
        table = "\n".join([*head, *(row(key, keys[key]) for key in own)])
        parts.append(f"## {title}\n\n{table}\n")
    return "\n".join(parts)


def command_line() -> str:
    """The help of every command."""
    parts = ["# Command line\n"]
    for name in COMMANDS:
        narrow = {**os.environ, "COLUMNS": "90"}
        command = [sys.executable, "-m", "seg", name, "--help"]
        said = subprocess.run(command, env=narrow, capture_output=True, text=True, check=True)
        parts.append(f"## seg {name}\n\n```text\n{said.stdout.rstrip()}\n```\n")
    return "\n".join(parts)


def write_pages(*_: Any) -> None:
    """Write both pages."""
    (FOLDER / "configuration.md").write_text(configuration())
    (FOLDER / "command_line.md").write_text(command_line())


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("config-inited", write_pages)
    return {"version": "1", "parallel_read_safe": True}
