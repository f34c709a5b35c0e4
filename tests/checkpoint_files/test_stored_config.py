"""A checkpoint's configuration never imports what it names, whatever the key and the shape."""

import copy
import json
import sys

import pytest
import torch

from seg.checkpoint_files.contents import read_config
from seg.errors import InputError
from seg.lifecycle.checkpoint import load_module
from tests.cli.test_app import seg
from tests.lifecycle.test_old_checkpoints import CHECKPOINT, FILES

pytestmark = pytest.mark.slow

CANARY = """
import pathlib
pathlib.Path(__file__).with_name("imported").touch()
class Run:
    def __init__(self, *args, **kwargs):
        pathlib.Path(__file__).with_name("built").touch()
def run(*args, **kwargs):
    pathlib.Path(__file__).with_name("built").touch()
"""
OBJECT = {"class_path": "canary.Run", "init_args": {}}
SHAPES = {
    "text": "canary.Run",
    "function": "canary.run",
    "quoted": " 'canary.Run'  # a comment",
    "object": OBJECT,
    "list": ["canary.Run"],
    "objects": [OBJECT],
    "yaml": "{class_path: canary.Run}",
    "json": json.dumps(OBJECT),
    "yaml_list": "[canary.Run]",
    "file": "canary.yaml",
    "known_function": "torch.hub.load",
    "system": "torch.os.system",
    "called": {"class_path": "torch.hub.load", "init_args": {"repo_or_dir": "x", "model": "y"}},
}
TEXT = [
    *("name", "trainer.default_root_dir", "data.root", "data.class_names", "data.predict"),
    *("data.images", "data.masks", "data.split_files", "model.class_names", "checkpoint.monitor"),
    *("data.train_split", "data.val_split", "data.test_split", "checkpoint.dirpath"),
    *("checkpoint.filename", "model.encoder_weights", "model.init_from"),
]
"""Keys that take paths and names of the user's own, which no parser looks into."""


OF_THE_RUN = {"ckpt_path", "config", "weights_only", "trust", "model.init_from"}
OF_THE_RUN |= {"model.encoder_weights", "model.network.init_args.encoder_weights"}
"""Keys that are never handed on."""


@pytest.fixture(scope="module")
def stored():
    return torch.load(CHECKPOINT, map_location="cpu", weights_only=True)


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A folder on the path with a module that leaves a trace, and a YAML that names it."""
    (tmp_path / "canary.py").write_text(CANARY)
    (tmp_path / "canary.yaml").write_text("class_path: canary.Run\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("canary", None)


def untouched(folder):
    traces = [name for name in ("imported", "built") if (folder / name).exists()]
    return traces == [] and "canary" not in sys.modules


def keys_of(value, key=()):
    if key:
        yield key
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from keys_of(inner, (*key, name))


def with_value(config, key, value):
    config = copy.deepcopy(config)
    place = config
    for name in key[:-1]:
        place = place[name]
    place[key[-1]] = value
    return config


def save(folder, stored, config):
    path = folder / "changed.ckpt"
    torch.save({**stored, "config": config}, path)
    return str(path)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_key_takes_what_would_import_or_call_anything(stored, canary, shape):
    taken = []
    nested = ("model", "network", "init_args")
    added = [(*nested, "device"), (*nested, "dtype"), ("model", "optimizer", "init_args", "x")]
    for key in [*keys_of(stored["config"]), *added]:
        config = with_value(stored["config"], key, SHAPES[shape])
        try:
            read_config(save(canary, {}, config))
        except InputError as error:
            assert "\n" not in str(error)
        else:
            taken.append(".".join(key))
        assert untouched(canary), key
    assert set(taken) - OF_THE_RUN <= set(TEXT), shape


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("network.class_path", "canary.Run"),
        ("callbacks+", "canary.Run"),
        ("model.network", OBJECT),
        ("init_args.device", "canary.Run"),
    ],
)
@pytest.mark.parametrize("section", ["", "model", "data", "trainer", "model.network"])
def test_keys_that_a_parser_takes_apart_are_refused(stored, canary, section, key, value):
    place = tuple(section.split(".")) if section else ()
    config = with_value(stored["config"], (*place, key), value)
    with pytest.raises(InputError, match=r"take apart|outside"):
        read_config(save(canary, {}, config))
    assert untouched(canary)


def entries(path):
    on_cpu, target = ["--trainer.accelerator=cpu"], ["--output", "out.x"]
    return {
        "fit": lambda: seg("fit", *on_cpu, "--ckpt_path", path),
        "init_from": lambda: seg("fit", *on_cpu, "--model.init_from", path),
        "validate": lambda: seg("validate", *on_cpu, "--ckpt_path", path, "--output=out"),
        "test": lambda: seg("test", *on_cpu, "--ckpt_path", path, "--output=out"),
        "predict": lambda: seg(
            "predict", *on_cpu, "--ckpt_path", path, "--data.predict", FILES, "--output=out"
        ),
        "export": lambda: seg("export", "--ckpt_path", path, "--size=[64,64]", *target),
        "calibrate": lambda: seg("calibrate", "--ckpt_path", path, *target),
    }


DANGEROUS = {
    "sampler": (("data", "sampler"), "canary.Run"),
    "device": (("model", "network", "init_args", "device"), OBJECT),
    "lr": (("model", "optimizer", "init_args", "lr"), "canary.run"),
    "dotted": (("model", "network.class_path"), "canary.Run"),
}


@pytest.mark.parametrize("name", DANGEROUS)
def test_every_entry_refuses_it_in_one_line(stored, canary, name, capsys):
    key, value = DANGEROUS[name]
    path = save(canary, stored, with_value(stored["config"], key, value))
    for entry, run in entries(path).items():
        assert run() == 2, entry
        assert "seg: error" in capsys.readouterr().err
        assert untouched(canary), entry
    with pytest.raises(InputError):
        load_module(path)
    assert untouched(canary)


@pytest.mark.parametrize("key", ["name", "model.class_names"])
def test_text_of_the_user_may_look_like_a_module_and_is_not_imported(stored, canary, key):
    names = ["canary.Run", "[b]", "c: d", "'e'", "f"]
    value = names if key == "model.class_names" else "canary.Run"
    path = save(canary, stored, with_value(stored["config"], tuple(key.split(".")), value))
    given = ["--trainer.accelerator=cpu", "--ckpt_path", path, "--output=out"]
    assert seg("validate", *given) == 0
    assert untouched(canary)


def test_a_trusted_package_may_be_named(stored, canary):
    config = with_value(stored["config"], ("data", "sampler"), "canary.Run")
    path = save(canary, {}, config)
    assert read_config(path, trust=["canary"])["data"]["sampler"] == "canary.Run"


def test_what_the_shipped_recipes_store_is_taken(stored, canary):
    config = with_value(stored["config"], ("trainer", "strategy"), "seg.sharding.ShardedStrategy")
    network = {"class_path": "torch.nn.Conv2d", "init_args": {"padding_mode": "zeros"}}
    config = with_value(config, ("model", "network"), network)
    names = {"dirpath": "own", "filename": "{step}", "monitor": "val/loss"}
    named = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": names}
    early = {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {}}
    config = with_value(config, ("trainer", "callbacks"), [early, named])
    assert read_config(save(canary, {}, config))["trainer"]["callbacks"] == [early, named]
