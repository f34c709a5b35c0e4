"""The picture of the imports is that of the imports."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def drawing():
    spec = importlib.util.spec_from_file_location("drawing", ROOT / "scripts/draw_imports.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_the_imports_as_they_are():
    script = drawing()
    text = script.PAGE.read_text(encoding="utf-8")
    assert script.page(text) == text, "run python scripts/draw_imports.py"


def test_no_room_imports_itself_by_way_of_others():
    direct = drawing().arrows()
    for start in direct:
        todo, seen = list(direct[start]), set()
        while todo:
            seen.add(here := todo.pop())
            todo += [room for room in direct.get(here, ()) if room not in seen]
        assert start not in seen
