"""SEG_DATA_ROOT stands for `--data.root`: weaker than what is given, stronger than the stored."""

import logging
import shutil

import pytest
import yaml

from seg.cli.given_values import ROOT, given_values, root_from_environment
from tests.cli.test_app import checkpoint_of, run_of, seg
from tests.conftest import LIGHT, SMALL

NULL = "{data: {root: null}}"
OWN = "{data: {dataset: {class_path: my.Data}}}"


@pytest.mark.parametrize(
    ("args", "stored", "found"),
    [
        ([], None, ["--data.root=/here"]),
        (["-c", "{data: {batch_size: 2}}", "--name", "x"], None, ["--data.root=/here"]),
        ([], {"root": "/there"}, ["--data.root=/here"]),
        (["--data.root", "/there"], None, []),
        (["--data.root=null"], None, []),
        (["-c", "{data: {root: /there}}"], {"root": "/elsewhere"}, []),
        ([f"--config={NULL}"], None, []),
        (["-c", OWN], None, []),
        (["--data.dataset=my.Data"], None, []),
        ([], {"root": None}, []),
        ([], {}, []),
    ],
)
def test_the_environment_names_the_data_where_nothing_else_does(
    args, stored, found, monkeypatch, caplog
):
    monkeypatch.setenv(ROOT, "/here")
    with caplog.at_level(logging.INFO, "seg"):
        assert root_from_environment(args, stored) == found
    assert caplog.messages == ["data.root /here, from SEG_DATA_ROOT"] * len(found)


@pytest.mark.parametrize("value", [None, ""])
def test_an_environment_that_says_nothing_changes_nothing(value, monkeypatch):
    if value is not None:
        monkeypatch.setenv(ROOT, value)
    assert root_from_environment([]) == []


def test_values_of_files_come_before_flags_and_nothing_is_no_value():
    args = ["--ckpt_path=b", "-c", "{ckpt_path: a}", "-c", "{ckpt_path: null}", "--ckpt_path", "c"]
    assert given_values(args, "ckpt_path") == ["a", "b", "c"]


@pytest.mark.slow
def test_data_that_were_moved_are_found_by_every_command(camvid_like, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, moved = tmp_path / "first", tmp_path / "moved"
    shutil.copytree(camvid_like, first)
    monkeypatch.setenv(ROOT, str(first))
    small = ["--data.resize=[32,48]", *SMALL, *LIGHT]
    assert seg("fit", "-c", "data/camvid", *small, "--name", "small") == 0
    run = run_of(tmp_path / "runs")
    best = checkpoint_of(run)
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["root"] == str(first)
    first.rename(moved)
    assert seg("test", "--ckpt_path", best) == 2
    monkeypatch.setenv(ROOT, str(moved))
    assert seg("test", "--ckpt_path", best) == 0
    assert seg("calibrate", "--ckpt_path", best) == 0
    assert seg("audit", "-c", "data/camvid") == 0
    assert seg("split", "-c", "data/camvid", "--data.images=train", "--data.masks=trainannot") == 0
    monkeypatch.setenv(ROOT, str(first))
    assert seg("test", "--ckpt_path", best, "--data.root", moved) == 0
