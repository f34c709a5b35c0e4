"""The code of docs/networks.md, run as a reader would."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from seg.cli import app as cli
from seg.lifecycle.checkpoint import load_module
from tests.conftest import SYNTHETIC

PAGE = Path(__file__).resolve().parents[1] / "docs" / "networks.md"
SMALL_NETWORK = {"segformer.yaml": ["--model.network.width=4"], "vit.yaml": []}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page's files, each by the name in its first line."""
    folder = tmp_path_factory.mktemp("page")
    for block in (*blocks("python"), *blocks("yaml")):
        name = re.match(r"# ([\w.]+)", block).group(1)
        (folder / name).write_text(block)
    return folder


def test_the_page_is_short():
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 24


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL_NETWORK)
def test_the_networks_of_the_page_are_trained_and_judged_by_its_commands(
    name, folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(folder)
    for path in folder.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    commands = [shlex.split(line) for line in blocks("bash")[0].splitlines()]
    fit, judge = (command[command.index("seg") + 1 :] for command in commands)
    fit = [arg.replace("segformer.yaml", name) for arg in fit]
    size = ["--data.crop_size=[224,224]", "--data.batch_size=2"] if name == "vit.yaml" else []
    assert cli.main([*fit, *SYNTHETIC, *size, *SMALL_NETWORK[name]]) == 0
    assert cli.main(judge) == 0
    (path,) = tmp_path.glob("runs/quickstart/version_0/checkpoints/best.ckpt")
    module = load_module(str(path), ["my_networks"])
    image = torch.zeros(1, 3, 50, 70, dtype=torch.uint8)
    assert module.labels(image).shape == (1, 50, 70)
