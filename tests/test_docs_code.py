"""The code on the pages of the documentation gives the figures and the files that they name."""

import importlib.util
import json
import math
import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import seg
from seg.cli import app as cli
from seg.losses import CompoundLoss, CrossEntropyLoss, DiceLoss, contract
from seg.module import SegmentationModule
from seg.prediction.program import export, write_program
from tests.conftest import LIGHT, SYNTHETIC

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def text_of(page):
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(page, language="python"):
    return re.findall(rf"```{language}\n(.*?)```", text_of(page), re.S)


def names_after(page):
    """What the Python of a page leaves behind."""
    found = {"__name__": "page"}
    for block in blocks(page):
        exec(block, found)  # trusted: it is our own documentation
    return found


def first_column(page):
    """What each row of the tables of a page begins with, in backticks."""
    rows = re.findall(r"^\| (`.*?) \|", text_of(page), re.M)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


@pytest.fixture(scope="module")
def own_loss_run(tmp_path_factory):
    """The run of the page on own losses, by its commands, and what they ran in."""
    folder = tmp_path_factory.mktemp("own_loss")
    (folder / "my_losses.py").write_text(blocks("how_to/own_loss.md")[0])
    (fit, judge) = blocks("how_to/own_loss.md", "bash")[0].splitlines()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.setenv("SEG_TEST_CURVES", "1")  # the page lists them
        assert cli.main([*fit.split()[2:], *SYNTHETIC, *LIGHT]) == 0
        assert cli.main(judge.split()[2:]) == 0
        yield folder / "runs/power/version_0"


@pytest.mark.slow
def test_the_loss_of_the_page_breaks_no_clause_and_trains_by_its_commands(own_loss_run):
    found = names_after("how_to/own_loss.md")
    assert found["broken"] == []
    module = seg.load(own_loss_run / "checkpoints/best.ckpt", trust="my_losses")
    assert type(module.loss).__name__ == "PowerLoss" and module.loss.power == 1.5
    assert (own_loss_run / "test/best/per_class.json").is_file()


def test_the_loss_of_the_page_is_a_power_of_cross_entropy():
    (code, _) = blocks("how_to/own_loss.md")
    found = {"__name__": "page"}
    exec(code, found)
    logits = torch.tensor([[[0.3, -1.0, 2.0], [0.1, 0.5, -0.2]]], dtype=torch.float64)
    target = torch.tensor([[0, 1, 255]])
    expected = nn.CrossEntropyLoss(reduction="none")(logits[..., :2], target[:, :2]) ** 2
    torch.testing.assert_close(found["PowerLoss"]()(logits, target), expected.mean())


@pytest.mark.slow
def test_a_run_leaves_the_files_that_the_page_lists(own_loss_run):
    table = text_of("reference/run_files.md").partition("## Other commands")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.M)
    listed = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(listed) >= 10
    found = [path for name in listed for path in own_loss_run.glob(name.rstrip("/"))]
    assert len(found) == len(listed)
    names = {path.relative_to(own_loss_run).parts[0] for path in found}
    assert {path.name for path in own_loss_run.iterdir()} - names == {"test"}


@pytest.mark.slow
def test_the_page_on_metrics_names_what_the_scores_of_a_run_hold(own_loss_run):
    record = json.loads((own_loss_run / "per_class.json").read_text())
    listed = set(re.findall(r"\*`(\w+)`\*", text_of("reference/metrics.md")))
    assert listed - {"iou_interval"} <= record.keys()
    logged = {name.removeprefix("val/") for name in first_column("reference/metrics.md")}
    unlisted = record.keys() - listed - logged
    assert {name for name in unlisted if not name.endswith("_interval")} == set()
    (row,) = re.findall(r"for each class: (.*?) \|", text_of("reference/metrics.md"))
    of_class = set(re.findall(r"`(\w+)`", row))
    assert {name for name in record["classes"][0] if not name.endswith("_interval")} == of_class
    assert "iou_interval" in record["classes"][0]
    assert {"all", "worst_1", "worst_5", "worst"} == record["miou_by_image"].keys()


@pytest.mark.slow
def test_a_checkpoint_has_the_keys_of_the_page_and_gives_the_weights_as_it_says(
    own_loss_run, monkeypatch
):
    monkeypatch.chdir(own_loss_run / "checkpoints")
    found = names_after("reference/checkpoint_format.md")
    listed = first_column("reference/checkpoint_format.md")
    assert set(found["checkpoint"]) == listed - {"calibration"}
    module = seg.load("best.ckpt", trust="my_losses")
    assert found["class_names"] == module.class_names
    weights = module.network.state_dict()
    torch.testing.assert_close(found["weights"], dict(weights), rtol=0, atol=0)


def test_the_program_of_the_page_on_export_gives_the_labels_of_the_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    module = SegmentationModule(nn.Conv2d(3, 2, 1), CrossEntropyLoss(), ["ground", "crack"]).eval()
    write_program("camvid.pt2", export(module, 240, 320), module.class_names)
    found = names_after("how_to/export.md")
    assert found["class_names"] == ["ground", "crack"]
    assert torch.equal(found["labels"], module.labels(found["images"]))


def test_the_page_on_metrics_lists_all_that_is_logged():
    parts = {"PART": CrossEntropyLoss(), "rest": DiceLoss()}
    loss = CompoundLoss(parts, weights=dict.fromkeys(parts, 1.0))
    module = SegmentationModule(nn.Conv2d(3, 2, 1), loss, ["NAME", "other"])
    logged = {*module.validation_metrics, *module.training_metrics}
    shown = {name for name in logged if not name.endswith(("/other", "/rest"))}
    assert first_column("reference/metrics.md") == shown


def test_the_page_on_the_contract_lists_every_clause(monkeypatch):
    assert first_column("explanation/loss_contract.md") == set(contract.CLAUSES)
    cheap = {"all_ignored": contract.CLAUSES["all_ignored"]}
    monkeypatch.setattr(contract, "CLAUSES", cheap)  # all of them take seconds
    found = names_after("explanation/loss_contract.md")
    assert (found["ours"], found["of_torch"]) == ([], ["all_ignored"])


def test_the_biases_of_the_page_on_calibration_turn_the_pixel_that_it_says():
    found = names_after("explanation/calibration.md")
    assert (found["before"].tolist(), found["after"].tolist()) == ([0, 0], [1, 0])


def test_the_two_means_of_the_page_on_evaluation_are_those_that_it_says():
    found = names_after("explanation/evaluation.md")
    assert found["iou"] == pytest.approx(100 / 110) and found["mean"] == 0.5


def test_the_three_pixels_have_the_losses_of_their_page():
    found, page = names_after("explanation/focal_loss.md"), text_of("explanation/focal_loss.md")
    p_t, weights = [0.7, 0.4, 0.1], [3, 3, 1]
    plain = [-math.log(p) for p in p_t]
    focal = [(1 - p) ** 2 * loss for p, loss in zip(p_t, plain, strict=True)]
    expected = {
        "cross_entropy": sum(plain) / 3,
        "focal": sum(focal) / 3,
        "weighted": sum(w * x for w, x in zip(weights, plain, strict=True)) / 7,
        "both": sum(w * x for w, x in zip(weights, focal, strict=True)) / 7,
    }
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-5)
        assert f"{value:.4f}" in page
    for value in (*plain, *focal):
        assert f"{value:.4f}" in page
    for losses in (plain, focal):
        for loss in losses:
            assert f"| {loss / sum(losses):.0%}".replace("%", " %") in page
    assert f"{expected['cross_entropy']:.4f}" == "1.1919"


@pytest.fixture(scope="module")
def pages():
    """The extension of the site that writes the pages on configuration and command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        yield importlib.import_module("configuration_pages")


@pytest.mark.slow
def test_every_key_whose_default_is_null_has_an_example_and_every_example_a_key(
    pages, monkeypatch, capsys
):
    monkeypatch.setenv("COLUMNS", "10000")
    with pytest.raises(SystemExit):
        cli.main(["fit", "--help-all"])
    keys = pages.options(capsys.readouterr().out)
    assert len(keys) > 100
    rows = {key: pages.row(key, said) for key, said in keys.items()}
    assert pages.EXAMPLES.keys() <= rows.keys()
    says = re.compile(r"Example: `|Default: `(?!null)")
    without = {key for key, row in rows.items() if not says.search(row)}
    assert without <= {"trainer.plugins", "trainer.model_registry"}, "add them to EXAMPLES"


def test_the_program_takes_the_examples_of_the_configuration(pages, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = {"ckpt_path", "data.dataset", "model.init_from"}  # these must exist
    given = {k: v for k, v in pages.EXAMPLES.items() if k not in files}
    config = {}
    for key, value in given.items():
        *path, last = key.split(".")
        inner = config
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = yaml.safe_load(value)
    Path("all.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit) as ended:
        cli.main(["fit", "-c", "all.yaml", "--print_config"])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    assert yaml.safe_load(printed.out).keys() >= config.keys() - {"ckpt_path"}


@pytest.fixture(scope="module")
def drawing():
    spec = importlib.util.spec_from_file_location("drawing", ROOT / "scripts/draw_losses.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_drawn_curves_are_those_of_the_formula(drawing):
    p = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    for gamma, alpha in ((0.0, 1.0), (2.0, 1.0), (0.5, 3.0)):
        expected = -alpha * (1 - p) ** gamma * p.log()
        torch.testing.assert_close(drawing.losses(p, gamma, alpha), expected)


def test_the_shares_on_the_page_on_imbalance_are_those_that_are_drawn(drawing):
    page = text_of("explanation/imbalance.md")
    easy, hard = -math.log(drawing.EASY), -math.log(drawing.HARD)
    assert drawing.share_of_crack(1000, 0.0) == pytest.approx(hard / (hard + 1000 * easy))
    for gamma, alpha in ((0.0, 100.0), (2.0, 1.0), (2.0, 100.0)):
        assert f"{100 * drawing.share_of_crack(1000, gamma, alpha):.0f} %" in page
    assert f"{100 * drawing.share_of_crack(1000, 0.0):.1f} %" in page


def test_the_logger_of_the_page_is_taken_by_the_program(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    [text] = blocks("how_to/loggers.md", "yaml")
    (tmp_path / "logger.yaml").write_text(text)
    with pytest.raises(SystemExit) as ended:
        cli.main(["fit", "-c", "logger.yaml", "--print_config"])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    given = yaml.safe_load(text)["trainer"]["logger+"]
    [found] = yaml.safe_load(printed.out)["trainer"]["logger"]
    assert found["class_path"] == given["class_path"]
    assert given["init_args"].items() <= found["init_args"].items()
