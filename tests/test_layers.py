"""Imports point one way: to lower layers, or to the same room."""

import ast
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "seg"

LAYERS = [
    {"constants", "errors"},
    {"files", "lightning_compat", "exact_sums"},
    {"checkpoint_files", "distributed"},
    {"losses", "inference", "evaluation"},
    {"calibration", "data", "networks"},
    {"audit", "training"},
    {"module"},
    {"lifecycle", "prediction"},
    {"report"},
    {"cli"},
    {"__main__"},
]
ALIASES = {"checkpoint", "metrics", "optim", "sharding"}
"""Public paths of what lies in a room: they import from it, and nothing in `seg` imports them."""
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
LEVEL |= dict.fromkeys(ALIASES, len(LAYERS))
LONGEST = 300
"""Lines of a file, which is to be read in one sitting."""
APART_FROM_DATA = {"module", "networks", "training", "lifecycle"}


def module_name(path, package=PACKAGE):
    """Dotted name of a source file, "seg.data.dataset" or "seg.data" for its __init__.py."""
    parts = ("seg", *path.relative_to(package).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path, package=PACKAGE):
    """Dotted names of all that a file imports, also in functions and under TYPE_CHECKING."""
    inside = module_name(path, package).split(".")
    if path.name != "__init__.py":
        inside = inside[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) + 1 - node.level] if node.level else []
            base = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def room(name):
    """The part of the package a dotted name belongs to: "data" for "seg.data.dataset"."""
    return [*name.split("."), ""][1]


def fault(importer, imported):
    """What is wrong with `importer` importing `imported`, two rooms; None if nothing is."""
    if importer == imported:
        return None
    for name in (importer, imported):
        if name not in LEVEL:
            return f"seg.{name} has no layer; give it one in LAYERS"
    if LEVEL[imported] >= LEVEL[importer]:
        return f"seg.{importer} imports seg.{imported}, which is not below it"
    if importer in APART_FROM_DATA and imported == "data":
        return f"seg.{importer} imports seg.{imported}; they meet in the CLI only"
    return None


def faults(package):
    found = []
    for path in sorted(package.rglob("*.py")):
        importer = room(module_name(path, package))
        for name in imported_names(path, package):
            is_own = name.split(".")[0] == "seg" and importer
            if is_own and room(name) != "__version__":
                wrong = fault(importer, room(name))
                found += [f"{path.relative_to(package)}: {wrong}"] if wrong else []
    return found


def sources():
    return sorted(PACKAGE.rglob("*.py"))


def importers_of(library):
    """Source files that import `library` or anything in it."""
    return [
        str(path.relative_to(PACKAGE))
        for path in sources()
        if any(name.split(".")[0] == library for name in imported_names(path))
    ]


def test_every_import_inside_the_package_points_down():
    assert faults(PACKAGE) == []


def test_every_module_has_a_layer():
    assert {room(module_name(path)) for path in sources()} - {""} <= set(LEVEL)


@pytest.mark.parametrize(
    ("path", "statement", "expected"),
    [
        ("losses/focal.py", "from seg.module import X", "seg.losses imports seg.module"),
        ("losses/focal.py", "from seg import cli", "seg.losses imports seg.cli"),
        ("losses/focal.py", "import seg.evaluation.metrics", "seg.losses imports seg.evaluation"),
        ("losses/focal.py", "from ..report.tables import X", "seg.losses imports seg.report"),
        ("losses/focal.py", "from .. import data", "seg.losses imports seg.data"),
        ("losses/__init__.py", "from ..data import X", "seg.losses imports seg.data"),
        ("networks.py", "def f():\n    from . import module", "seg.networks imports seg.module"),
        ("module.py", "from seg.data.dataset import X", "seg.module imports seg.data; they meet"),
        ("data/dataset.py", "from seg.module import X", "seg.data imports seg.module"),
        ("lifecycle/saving.py", "from seg.data import X", "seg.lifecycle imports seg.data; they"),
        ("losses/focal.py", "from seg.surprise import X", "seg.surprise has no layer"),
        ("cli/app.py", "from seg.metrics import X", "seg.cli imports seg.metrics"),
    ],
)
def test_an_import_that_points_up_is_found(path, statement, expected, tmp_path):
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(statement)
    (found,) = faults(tmp_path)
    assert found.startswith(f"{path}: {expected}")


@pytest.mark.parametrize(
    ("path", "statement"),
    [
        (
            "losses/focal.py",
            "from seg.distributed.ranks import X\nfrom .dice import Y\nimport torch",
        ),
        ("losses/__init__.py", "from seg.losses.focal import X\nfrom .focal import Y"),
        ("report/callbacks.py", "from seg.module import X\nfrom seg.data import Y"),
        ("cli/app.py", "from seg import data, __version__"),
        ("metrics.py", "from seg.evaluation.metrics import X"),
    ],
)
def test_an_import_that_points_down_is_not_found(path, statement, tmp_path):
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(statement)
    assert faults(tmp_path) == []


def test_no_file_is_too_long_to_be_read_in_one_sitting():
    lengths = {
        str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in sources()
    }
    assert {path: length for path, length in lengths.items() if length > LONGEST} == {}


def test_every_room_says_what_is_in_it():
    empty = []
    for folder in {path.parent for path in sources()}:
        init = folder / "__init__.py"
        text = ast.get_docstring(ast.parse(init.read_text())) if init.exists() else None
        empty += [] if text else [str(folder.relative_to(PACKAGE))]
    assert empty == []


def test_no_two_classes_or_types_are_called_the_same():
    meanings = defaultdict(dict)  # a type may be written twice where it says the same
    for path in sources():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                meanings[node.name][str(path.relative_to(PACKAGE))] = path
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp):
                for name in (t.id for t in node.targets if isinstance(t, ast.Name)):
                    meanings[name][str(path.relative_to(PACKAGE))] = ast.unparse(node.value)
    twice = {name: list(found) for name, found in meanings.items() if len(set(found.values())) > 1}
    assert {name: where for name, where in twice.items() if not name.isupper()} == {}


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def private_names(text):
    """What a source reaches for that others keep to themselves: attributes and imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            whole, owner = ast.unparse(node), ast.unparse(node.value)
            if owner not in {"self", "cls", "super()"} and node.attr not in ("_replace", "_exit"):
                yield whole
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            names = [f"{module}.{alias.name}" for alias in node.names]
            yield from (n for n in names if any(is_private(part) for part in n.split(".")))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(name.value):
                yield ast.unparse(node)


def test_private_names_of_libraries_are_reached_for_in_one_place():
    found = {
        str(path.relative_to(PACKAGE)): names
        for path in sources()
        if room(module_name(path)) != "lightning_compat"
        and (names := list(private_names(path.read_text(encoding="utf-8"))))
    }
    assert found == {}, "give it a name in seg/lightning_compat"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("trainer.fit_loop._data_fetcher", ["trainer.fit_loop._data_fetcher"]),
        ("self.trainer._loop = None", ["self.trainer._loop"]),
        ("from torch._C import X", ["torch._C.X"]),
        ("from torch.nn import _Y as Y", ["torch.nn._Y"]),
        ("import torch._dynamo", [".torch._dynamo"]),
        ("getattr(trainer, '_x', None)", ["getattr(trainer, '_x', None)"]),
        ("self._x, cls._y, super()._z(), row._replace(a=1), os._exit(1), x.__name__", []),
        ("from __future__ import annotations", []),
    ],
)
def test_a_private_name_of_others_is_found(statement, expected):
    assert list(private_names(statement)) == expected


PUBLIC = {
    "seg.metrics": "ConfusionMatrix",
    "seg.optim": "PolynomialDecay",
    "seg.training.optim": "PolynomialDecay",  # so checkpoints of before seg.training.schedules
    "seg.sharding": "ShardedStrategy",
    "seg.checkpoint": "load_module",
}


def test_albumentations_is_imported_in_one_file_so_that_it_can_be_replaced():
    assert len(importers_of("albumentations")) == 1


def test_lightning_is_imported_by_one_name():
    assert importers_of("pytorch_lightning") == []
    assert importers_of("lightning")


def test_no_module_is_called_utils():
    assert [str(path) for path in PACKAGE.rglob("*") if path.stem in {"utils", "helpers"}] == []


IMPORTS = f"""
import gc, importlib, json, pkgutil, socket, sys
gc.disable()
asked = []
def refuse(name):
    def call(*args, **kwargs):
        asked.append([name, repr(args[-1] if name == "connect" else args[:2])])
        raise OSError("no network in this test")
    return call
socket.getaddrinfo = refuse("getaddrinfo")
socket.create_connection = refuse("create_connection")
socket.socket.connect = refuse("connect")
import seg.cli
for module in pkgutil.walk_packages(seg.__path__, "seg."):
    if module.name != "seg.__main__":
        importlib.import_module(module.name)
leads = {{}}
for path, name in {PUBLIC}.items():  # each as the first of the package
    for module in [module for module in sys.modules if module.split(".")[0] == "seg"]:
        del sys.modules[module]
    leads[path] = getattr(importlib.import_module(path), name).__module__
print(json.dumps([asked, leads]))
"""


@pytest.fixture(scope="module")
def imports():
    """Where imports of a new process asked the network, and where the public paths led it."""
    # What someone may have set to keep the libraries quiet must not be needed.
    quiet = {"NO_ALBUMENTATIONS_UPDATE", "HF_HUB_OFFLINE"}
    environment = {key: value for key, value in os.environ.items() if key not in quiet}
    command = [sys.executable, "-c", IMPORTS]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_importing_the_package_asks_the_network_for_nothing(imports):
    assert imports[0] == []


@pytest.mark.slow
def test_a_public_path_leads_to_what_lies_in_a_room_whatever_is_imported_before(imports):
    assert imports[1].keys() == PUBLIC.keys()
    assert [path for path, module in imports[1].items() if module == path] == []
