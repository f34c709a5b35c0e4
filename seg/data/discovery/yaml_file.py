"""A YAML whose comments say what was found, and why each line is there."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from seg.data.discovery.folder import Found
from seg.data.discovery.setting import Setting

_WIDTH = 100


def yaml_text(found: Found, given: str, output: Path) -> str:
    """The text of the YAML.

    Args:
        found: In the folder.
        given: The folder, as the user wrote it.
        output: Where the YAML goes, as the user wrote it.
    """
    lines = [f"# {command}" for command in next_commands(output)]
    lines += ["", f"# Written by seg init {given}. It found:"]
    for text in found.summary:
        lines += _comment(f"- {text}")
    for title, texts in (
        ("What stops a training", found.faults),
        ("Worth knowing", found.remarks),
        ("To be filled in", found.questions),
    ):
        if texts:
            lines += ["", f"# {title}:"]
            lines += [line for text in texts[:10] for line in _comment(f"- {text}")]
            lines += [f"# … and {len(texts) - 10} more"] * (len(texts) > 10)
    lines += ["", "data:"]
    for setting in found.settings:
        lines += _lines(setting)
    return "\n".join(lines) + "\n"


def next_commands(output: Path) -> tuple[str, str]:
    """What uses the YAML."""
    return f"seg audit -c {output}", f"seg fit -c {output} -c rare"


def _comment(text: str, indent: str = "") -> list[str]:
    after = "  " if text.startswith("- ") else ""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# {after}",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _lines(setting: Setting) -> Iterator[str]:
    if setting.reason:
        yield from _comment(setting.reason, "  ")
    flow = _flow({setting.key: setting.value})
    if len(flow) < _WIDTH - 2 or not isinstance(setting.value, list | dict):
        yield f"  {flow}"
        return
    yield f"  {setting.key}:"
    if isinstance(setting.value, dict):
        yield from (f"    {_flow({key: value})}" for key, value in setting.value.items())
    else:
        yield from (f"    - {_flow([value])}" for value in setting.value)


def _flow(value: Any) -> str:
    """A list or a mapping in one line, without its brackets."""
    text: str = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, width=10**9, allow_unicode=True
    )
    return text.strip()[1:-1]
