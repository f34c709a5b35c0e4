"""`-c NAME` is the configuration of that name that comes with the program."""

import shutil
from pathlib import Path

import pytest
import yaml

from seg.cli import shipped_configs
from seg.cli.shipped_configs import shipped_names, shipped_path, with_shipped_paths
from seg.errors import InputError
from tests.cli.test_app import seg

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FOCAL = str(CONFIGS / "loss/focal.yaml")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def other_configs(tmp_path, monkeypatch):
    """The shipped configurations are those of this list."""

    def ship(*names):
        folder = tmp_path / "shipped"
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.yaml").touch()
        monkeypatch.setattr(shipped_configs, "folder", lambda: folder)
        return folder

    return ship


def test_every_file_of_the_folder_has_a_name():
    files = {str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.rglob("*.yaml")}
    assert set(shipped_names()) == files
    assert len(files) > 30


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("fit -c focal --name focal", f"fit -c {FOCAL} --name focal"),
        ("audit -c loss/focal --output loss/focal", f"audit -c {FOCAL} --output loss/focal"),
        ("split --config focal focal", f"split --config {FOCAL} focal"),
        ("fit --config=focal --name=focal", f"fit --config={FOCAL} --name=focal"),
        ("fit -c=focal -cfocal", f"fit --config={FOCAL} --config={FOCAL}"),
    ],
)
def test_a_name_stands_for_its_file_behind_the_option_alone(args, expected):
    assert with_shipped_paths(args.split()) == expected.split()


@pytest.mark.parametrize("value", ["{data: {batch_size: 2}}", "/dev/null", "mine.yaml", "focal"])
def test_yaml_and_what_is_there_are_taken_as_they_are(value):
    for name in ("mine.yaml", "focal"):
        Path(name).touch()
    assert with_shipped_paths(["fit", "-c", value]) == ["fit", "-c", value]


def test_a_folder_of_the_name_hides_nothing():
    Path("focal").mkdir()
    assert with_shipped_paths(["fit", "-c", "focal"]) == ["fit", "-c", FOCAL]


def test_a_whole_recipe_comes_before_a_part_of_the_same_name(other_configs):
    folder = other_configs("data/camvid", "experiment/camvid", "loss/dice")
    assert shipped_path("camvid") == folder / "experiment/camvid.yaml"
    assert shipped_path("data/camvid") == folder / "data/camvid.yaml"
    assert shipped_names()[0] == "experiment/camvid"


def test_a_name_in_two_folders_is_refused_with_both(other_configs):
    other_configs("data/small", "network/small")
    with pytest.raises(InputError, match=r"small may be data/small or network/small; write"):
        shipped_path("small")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("focl", "focal"),
        ("loss/focl", "loss/focal"),
        ("focal.yaml", "focal"),
        ("configs/loss/focal.yaml", "loss/focal"),
        ("los/focal", "loss/focal"),
    ],
)
def test_an_unknown_name_is_refused_in_one_line_with_the_nearest(name, nearest, capsys):
    assert seg("fit", "-c", name) == 2
    said = capsys.readouterr().err
    expected = f"{name}: no such file, and no shipped configuration; the nearest is {nearest}."
    assert said == f"seg: error: {expected}\n"


def test_a_file_that_is_not_there_and_like_none_is_told_where_the_names_are(capsys):
    assert seg("audit", "-c", "xyzzy.yaml") == 2
    assert capsys.readouterr().err.endswith("configuration; `seg configs` lists them.\n")


def test_the_list_has_a_line_for_each_with_the_command_that_it_begins_with(capsys):
    assert seg("configs") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == shipped_names()
    for line in lines:
        name, _, command = line.partition(" ")
        assert shipped_path(name).read_text().startswith(f"# {command.strip()}\n")


@pytest.mark.parametrize("name", ["focal", "loss/focal"])
def test_one_is_printed_as_it_is(name, capsys):
    assert seg("configs", name) == 0
    assert capsys.readouterr().out == Path(FOCAL).read_text()


@pytest.mark.parametrize("name", ["../pyproject", "loss/../loss/focal", "*", ""])
def test_a_name_does_not_lead_out_of_the_folder(name):
    with pytest.raises(InputError, match="no shipped configuration"):
        shipped_path(name)


def test_a_checkpoint_named_in_a_shipped_configuration_is_read(tmp_path, other_configs, capsys):
    folder = other_configs("experiment/mine")
    (folder / "experiment/mine.yaml").write_text(yaml.safe_dump({"ckpt_path": "none.ckpt"}))
    assert seg("validate", "-c", "mine") == 2
    assert "none.ckpt: no such checkpoint" in capsys.readouterr().err


def test_an_installed_package_has_its_own(tmp_path, monkeypatch):
    package = tmp_path / "seg"
    shutil.copytree(CONFIGS / "loss", package / "configs/loss")
    monkeypatch.setattr(shipped_configs, "_PACKAGE", package)
    assert shipped_configs.folder() == package / "configs"
    assert shipped_path("dice") == package / "configs/loss/dice.yaml"
