"""The direction of the tables in the README, on the generated images, trained here."""

import json
import statistics

import pytest
import torch

from tests.cli.test_app import CONFIGS
from tests.processes import start

pytestmark = pytest.mark.slow

EPOCHS = 6
PLAIN = ["-c", CONFIGS / "network/unet_small.yaml", "-c", CONFIGS / "optimizer/onecycle.yaml"]
CPU = ["-c", CONFIGS / "trainer/cpu.yaml", "--trainer.precision=32-true"]
FIT = [*PLAIN, *CPU, f"--trainer.max_epochs={EPOCHS}"]
ONCE = [f"--trainer.check_val_every_n_epoch={EPOCHS}", "--trainer.num_sanity_val_steps=0"]
RARE = ["bolt", "crack"]


def finished(run):
    assert run.wait(limit=900) == 0, run.text  # a training takes minutes where little else can run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where cross-entropy and what the audit recommends were trained for as many steps."""
    folder = tmp_path_factory.mktemp("direction")
    finished(start("audit", "--output", "audit", cwd=folder))
    recipes = {"plain": [], "recommended": ["-c", "audit/recommended.yaml"]}
    for name, recipe in recipes.items():
        finished(start("fit", *FIT, *ONCE, *recipe, "--name", name, cwd=folder))
    return folder


def iou(folder, name):
    """IoU of each class of the validation split after the last step."""
    classes = json.loads((folder / f"runs/{name}/version_0/per_class.json").read_text())["classes"]
    return {row["name"]: row["iou"] for row in classes}


def rare(scores):
    return statistics.mean(scores[name] for name in RARE)


def frequent(scores):
    return statistics.mean(scores[name] for name in scores.keys() - set(RARE))


def test_the_recommended_recipe_raises_the_rare_classes_and_not_at_the_others_cost(folder):
    plain, recommended = iou(folder, "plain"), iou(folder, "recommended")
    assert rare(recommended) > 2 * rare(plain)
    assert frequent(recommended) > frequent(plain) - 0.02


@pytest.mark.parametrize("name", ["plain", "recommended"])
def test_biases_raise_the_mean_on_images_that_they_were_not_fitted_to(folder, name):
    last = folder / f"runs/{name}/version_0/checkpoints/last.ckpt"
    finished(start("calibrate", "--ckpt_path", last, cwd=folder))
    found = torch.load(last.with_name("last-calibrated.ckpt"), weights_only=True)["calibration"]
    before = iou(folder, name)
    after = dict(zip(before, found["iou_biased"], strict=True))
    assert statistics.mean(after.values()) > statistics.mean(before.values())
