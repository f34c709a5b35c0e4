"""The notebook of the first minute: its cells run, and its stored outputs are those of a run."""

import base64
import contextlib
import importlib.util
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from sklearn.metrics import jaccard_score

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "notebooks" / "first_minute.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
RUN = [cell for cell in CODE if "skip-execution" not in cell["metadata"].get("tags", [])]
STEPS = 4


def table(text):
    """The numbers of each row that is printed, by its first word."""
    rows = re.findall(r"^(\w+)((?: +[\d.]+%?)+)$", text, re.M)
    return {name: [float(x.rstrip("%")) for x in rest.split()] for name, rest in rows}


def drawn(figure):
    """The figure, once it has been drawn: what is wrong in it is an error only then."""
    figure.canvas.draw()
    return figure


@pytest.fixture(scope="module")
def after(tmp_path_factory):
    """The names that the cells leave, what they print, and the figures that they show."""
    found = {"__name__": "notebook"}
    printed, figures = io.StringIO(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        patch.setenv("STEPS", str(STEPS))
        patch.setattr(plt, "show", lambda: figures.append(drawn(plt.gcf())))
        with contextlib.redirect_stdout(printed):
            for cell in RUN:
                exec("".join(cell["source"]), found)  # trusted: it is our own documentation
    yield {**found, "printed": printed.getvalue(), "figures": figures}
    plt.close("all")


@pytest.mark.slow
def test_the_table_of_the_notebook_has_the_iou_of_all_pixels_of_the_test_images(after):
    names, test = after["data"].class_names, after["test"]
    found = table(after["printed"])
    pairs = []
    for index in range(len(test)):
        image, mask = test.draw(index)
        images = torch.from_numpy(image).permute(2, 0, 1)[None]
        pairs.append((mask[mask < 255], after["recipe"].labels(images)[0].numpy()[mask < 255]))
    truth, predicted = (np.concatenate(side) for side in zip(*pairs, strict=True))
    iou = jaccard_score(truth, predicted, labels=range(len(names)), average=None)
    shown = [found[name][2] for name in names]
    assert shown == pytest.approx(list(iou), abs=6e-4)  # printed with three digits
    assert found["mean"][1] == pytest.approx(iou.mean(), abs=6e-4)
    assert sum(found[name][0] for name in names) == pytest.approx(100, abs=0.05)


@pytest.mark.slow
def test_both_trainings_of_the_notebook_take_the_same_steps_on_the_same_images(after):
    assert after["trainer"].global_step == STEPS
    assert after["recipe"].class_pixels.tolist() == after["data"].class_counts().pixels.tolist()
    assert after["recipe"].logit_bias is None or len(after["recipe"].logit_bias) == 5
    weights = [after[name].state_dict()["network.segmentation_head.0.weight"] for name in
               ("plain", "recipe")]  # fmt: skip
    assert not torch.equal(*weights)


@pytest.mark.slow
def test_the_notebook_shows_each_prediction_beside_its_image_and_mask(after):
    *_, last = after["figures"]
    panels = {ax.get_title(): ax.images[0].get_array() for ax in last.axes}
    image, mask = after["test"].draw(24)
    assert list(panels) == ["image", "mask", "plain", "recipe"]
    assert np.array_equal(panels["image"], image) and np.array_equal(panels["mask"], mask)
    colors = last.axes[1].images[0].to_rgba(np.array([0, 4, 255]), bytes=True)[:, :3].tolist()
    assert colors == [*after["data"].class_colors[::4], [255, 255, 255]]
    images = torch.from_numpy(image).permute(2, 0, 1)[None]
    for name in ("plain", "recipe"):
        assert np.array_equal(panels[name], after[name].labels(images)[0])
    assert {3, 4} <= set(np.unique(mask).tolist())  # bolt and crack


def test_the_stored_outputs_are_those_of_a_whole_run_and_small():
    assert NOTEBOOK.stat().st_size < 300_000
    outputs = [output for cell in RUN for output in cell["outputs"]]
    assert {o["output_type"] for o in outputs} == {"stream", "display_data"}
    assert all(o.get("name") != "stderr" for o in outputs)
    images = [o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    assert len(images) == 4
    assert all(base64.b64decode(image).startswith(b"\x89PNG") for image in images)


def test_in_the_stored_outputs_the_recipe_finds_what_plain_cross_entropy_does_not():
    text = "".join("".join(o["text"]) for c in RUN for o in c["outputs"] if "text" in o)
    stored = table(text)
    for name in ("bolt", "crack"):
        share, plain, recipe = stored[name]
        assert share < 1 and recipe > plain + 0.1


def test_the_commands_for_own_images_are_those_of_the_readme():
    text = "".join("".join(cell["source"]) for cell in CELLS)
    (block,) = re.findall(r"```bash\n(.*?)```", text, re.S)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for line in block.splitlines():
        assert re.search(rf"^{re.escape(line)}( |$)", readme, re.M), line


def test_only_the_cell_that_installs_is_left_out():
    (left_out,) = [cell for cell in CODE if cell not in RUN]
    assert "".join(left_out["source"]).startswith("%pip install")


def test_the_site_links_the_notebook_to_colab_where_the_repository_is_known():
    spec = importlib.util.spec_from_file_location("colab_badge", ROOT / "docs/colab_badge.py")
    badge = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(badge)
    cells = json.loads(badge.with_badge(NOTEBOOK.read_text(encoding="utf-8"), "me/mine"))["cells"]
    first, install = ("".join(cell["source"]) for cell in (cells[0], cells[2]))
    assert "colab.research.google.com/github/me/mine/blob/main/docs/notebooks/" in first
    assert first.startswith("# The first minute\n\n[![Open in Colab]")
    assert install == "%pip install -q git+https://github.com/me/mine"
    assert ROOT / "docs" / f"{badge.PAGE}.ipynb" == NOTEBOOK
