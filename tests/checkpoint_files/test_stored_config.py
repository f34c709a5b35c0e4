"""A checkpoint's configuration never imports what it names, whatever the key and the shape."""

import copy
import json
import sys

import pytest
import timm
import torch
from lightning.pytorch.loggers import CSVLogger

from seg.checkpoint_files.contents import read_config
from seg.errors import InputError
from seg.lifecycle.checkpoint import load_module
from tests.cli.test_app import CONVOLUTION, seg
from tests.conftest import SYNTHETIC, write_pairs
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
        place = place.setdefault(name, {})
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
@pytest.mark.parametrize(
    "section", ["", "model", "data", "trainer", "model.network", "model.network.init_args.stem"]
)
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


NO_CLASSES = ["Unet", "torch.", ".nn.Conv2d", "torch.nn.2d", "torch nn", "torch.nn.Conv2d ", "", 3]


@pytest.mark.parametrize("name", [*NO_CLASSES, None], ids=repr)
@pytest.mark.parametrize("key", ["network", "loss", "optimizer"])
def test_a_class_path_that_is_no_dotted_name_is_refused(stored, canary, key, name):
    config = with_value(stored["config"], ("model", key), {"class_path": name})
    with pytest.raises(InputError, match=r"expected the dotted name of a class|names no network"):
        read_config(save(canary, {}, config))


@pytest.mark.parametrize("fault", ["RuntimeError('no driver\\nat all')", "OSError('gone')"])
def test_a_package_that_is_broken_is_named_in_one_line(stored, canary, monkeypatch, fault):
    (canary / "broken.py").write_text(f"raise {fault}")
    monkeypatch.setattr(timm, "__path__", [*timm.__path__, str(canary)])
    loss = {"class_path": "timm.broken.Loss"}
    path = save(canary, {}, with_value(stored["config"], ("model", "loss"), loss))
    with pytest.raises(InputError, match=r"model.loss.class_path names timm.broken.Loss, whose im"):
        read_config(path)
    assert seg("validate", "--ckpt_path", path) == 2


CONTENTS = {
    "weights": (b"PK\x03\x04\x00\x00class_path: canary.Run", True),
    "latin": (b"caf\xe9: {class_path: canary.Run}", True),
    "names": (b"a/0.png\nb/1.png\n", True),
    "numbers": (b"lr: 0.1\nsteps: [1, 2]\n", True),
    "mapping": (b"class_path: canary.Run\n", False),
    "list": (b"- canary.Run\n", False),
    "name": (b"canary.Run\n", False),
    "deep": (b"a: {b: [{class_path: torch.nn.Conv2d}]}\n", False),
    "endless": (b"&a [*a]\n", False),
    "long": (b"# a comment\n" * 100_000 + b"class_path: canary.Run\n", False),
}


@pytest.mark.parametrize("home", [False, True])
@pytest.mark.parametrize("content", CONTENTS)
def test_a_file_is_refused_where_the_parser_would_find_a_class_in_it(
    stored, canary, monkeypatch, content, home
):
    written, is_taken = CONTENTS[content]
    (canary / "x.pth").write_bytes(written)
    monkeypatch.setenv("HOME", str(canary))
    name = "~/x.pth" if home else "x.pth"
    config = with_value(stored["config"], ("model", "network", "init_args", "weights"), name)
    path = save(canary, {}, config)
    if is_taken:
        assert read_config(path)["model"]["network"]["init_args"]["weights"] == name
    else:
        with pytest.raises(InputError, match="the name of a file of text, which"):
            read_config(path)
    assert untouched(canary)


def test_text_that_looks_like_a_date_or_holds_itself_is_no_traceback(stored, canary):
    key = ("model", "network", "init_args", "version")
    path = save(canary, {}, with_value(stored["config"], key, "2026-13-13"))
    assert read_config(path)["model"]["network"]["init_args"]["version"] == "2026-13-13"
    with pytest.raises(InputError, match="YAML within a text"):
        read_config(save(canary, {}, with_value(stored["config"], key, "&a [*a]")))


class TaggedLogger(CSVLogger):
    """Takes a mapping of the user's own names."""

    def __init__(self, save_dir: str, tags: dict[str, object]):
        super().__init__(save_dir)
        self.tags = tags


TAGS = {"v1.0": "a", "C++": 2, "a+b": None, "of.a.b": {"c.d": [1, "x"]}}
RUN = [*SYNTHETIC, *CONVOLUTION, "--model.network.in_channels=3", "--model.network.out_channels=5"]
DOTTED_SPLITS = ["--data.train_split=v1.0", "--data.val_split=v1.1", "--data.test_split=v+"]


def with_tags(tags):
    logger = {"class_path": f"{__name__}.TaggedLogger"}
    logger["init_args"] = {"save_dir": "own", "tags": tags}
    return ["--trainer.logger", json.dumps([logger])]


def test_names_with_dots_and_pluses_are_read_back_as_the_run_had_them(canary):
    write_pairs(canary / "images", canary / "masks", 8, (40, 56), range(3))
    shares = {"v1.0": 0.5, "v1.1": 0.25, "v+": 0.25}
    data = {"root": ".", "images": "images", "masks": "masks", "class_names": ["C++", "b.c", "d"]}
    (canary / "data.yaml").write_text(json.dumps({"data": {**data, "split_fractions": shares}}))
    small = [arg for arg in RUN if "synthetic" not in arg and "out_channels" not in arg]
    small += ["-c", "data.yaml", *DOTTED_SPLITS, "--model.network.out_channels=3", "--name=run"]
    assert seg("fit", *small, *with_tags(TAGS)) == 0
    path = "runs/run/version_0/checkpoints/last.ckpt"
    config = read_config(path, ["tests"])
    assert config["trainer"]["logger"][0]["init_args"]["tags"] == TAGS
    assert config["data"]["split_fractions"] == shares
    on_cpu = ["--trainer.accelerator=cpu", "--trust=tests"]
    assert seg("validate", *on_cpu, "--ckpt_path", path) == 0
    assert seg("fit", *on_cpu, "--ckpt_path", path, "--trainer.max_epochs=2") == 0
    again = read_config(path, ["tests"])
    assert again["trainer"]["logger"][0]["init_args"]["tags"] == TAGS


@pytest.mark.parametrize(
    "tags",
    [
        {"network.class_path": "x"},
        {"a.init_args.b": 1},
        {"a": {"dict_kwargs": {"b.c": 1}, "d.e": 1}},
        {"loss.x": 1},
        {"a": "torch.hub.load"},
        {"a": "[torch.hub.load]"},
        {"a": "canary.yaml"},
    ],
    ids=str,
)
def test_a_run_whose_checkpoints_could_not_be_read_is_refused_before_it_begins(
    canary, tags, capsys
):
    assert seg("fit", *RUN, *with_tags(tags)) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("seg: error: trainer.logger.init_args.tags")
    assert line.endswith("No checkpoint of this run could be read again; change it.")
    assert not (canary / "runs").exists()
    assert untouched(canary)
