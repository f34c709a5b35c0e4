import json

import pytest
import torch

from seg.checkpoint_files.contents import read_config
from seg.errors import InputError

NETWORK = {"class_path": "segmentation_models_pytorch.Unet", "init_args": {}}


def save(path, **changes):
    config = {"model": {"network": NETWORK, **changes}, "data": {}, "ckpt_path": "before.ckpt"}
    torch.save({"config": config, "state_dict": {}}, path)
    return str(path)


def test_the_configuration_comes_without_paths_of_its_run_and_asks_for_no_weights(tmp_path):
    network = {**NETWORK, "init_args": {"encoder_weights": "imagenet", "encoder_name": "resnet18"}}
    path = save(tmp_path / "a.ckpt", network=network, encoder_weights="x.pth", init_from="y.ckpt")
    config = read_config(path)
    assert config["model"]["network"]["init_args"]["encoder_weights"] is None
    assert config["model"]["encoder_weights"] is None
    assert config["model"]["init_from"] is None
    assert "ckpt_path" not in config


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {"class_path": "elsewhere.Net"}},
        {"optimizer": "elsewhere.run_me"},
        {
            "loss": {
                "class_path": "seg.losses.CompoundLoss",
                "init_args": {"a": [{"class_path": "elsewhere.Y"}]},
            }
        },
    ],
    ids=["class", "callable", "nested"],
)
def test_classes_of_other_packages_are_refused_unless_trusted(tmp_path, changes):
    path = save(tmp_path / "a.ckpt", **changes)
    with pytest.raises(InputError, match=r"elsewhere\.\w+.*--trust elsewhere"):
        read_config(path)
    assert read_config(path, trust=["elsewhere"])["model"]


def test_pickled_objects_are_not_loaded(tmp_path):
    torch.save({"config": {}, "network": torch.nn.Linear(1, 1)}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="read safely"):
        read_config(str(tmp_path / "a.ckpt"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("https://example.org/a.ckpt", "must be a local file"),
        ("last", "no such checkpoint"),
        ("missing.ckpt", "no such checkpoint"),
    ],
)
def test_what_is_no_local_checkpoint_is_refused(path, message):
    with pytest.raises(InputError, match=message):
        read_config(path)


def test_a_checkpoint_without_a_configuration_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="carries no configuration"):
        read_config(str(tmp_path / "a.ckpt"))


def test_a_run_that_began_from_files_that_are_still_there_is_read(tmp_path):
    (tmp_path / "start.ckpt").write_bytes(b"\0")
    start = str(tmp_path / "start.ckpt")
    path = save(tmp_path / "a.ckpt", encoder_weights=start, init_from=start)
    checkpoint = torch.load(path, weights_only=True)
    torch.save(checkpoint | {"config": checkpoint["config"] | {"ckpt_path": start}}, path)
    config = read_config(path)
    assert config["model"]["encoder_weights"] is None and config["model"]["init_from"] is None
    assert "ckpt_path" not in config


LARGE = 2**18


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        (b"\x89HDF\r\n\x1a\n\0\0", True),
        (b"name,label\n1.png,crack\n", True),
        (json.dumps({"images": ["1.png"] * 10}).encode(), True),
        (b"class_path: elsewhere.run\n", False),
        (b"[{a: torch.hub.load}]\n", False),
        (b"torch.hub.load\n", False),
        (json.dumps([{"class_path": "elsewhere.run"}] * 10).encode(), False),
        (b"x: 1\n" * LARGE, False),
        ("é".encode() * LARGE, False),
        (b"listed.txt", False),
    ],
    ids=[
        "binary",
        "csv",
        "json",
        "class",
        "nested",
        "name",
        "json class",
        "large",
        "cut",
        "itself",
    ],
)
def test_a_file_that_a_data_set_of_ones_own_reads_may_not_name_classes(
    tmp_path, monkeypatch, content, taken
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "listed.txt").write_bytes(content)
    path = save(tmp_path / "a.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    own = {"class_path": "own.Data", "init_args": {"file": "listed.txt"}}
    checkpoint["config"]["data"] = {"dataset": own}
    torch.save(checkpoint, path)
    if taken:
        assert read_config(path, trust="own")["data"]["dataset"] == own
    else:
        with pytest.raises(
            InputError, match=r"holds 'listed.txt': the name of a file of text, which"
        ):
            read_config(path, trust="own")
