"""An evaluation has the same counts, to the byte, however its images are dealt out."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import LIGHT, SMALL, write_pairs
from tests.processes import make_runs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
IMAGES = {"train": 12, "val": 3, "test": 5}

EXACT = ["-c", str(ROOT / "configs/trainer/deterministic.yaml")]
# Ranks, images of a batch, loader processes. With 3 validation images rank 3 has none.
SPLITS = [(1, 8, 0), (1, 2, 1), (2, 3, 0), (3, 1, 0), (4, 8, 1)]


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Folder with a run of four ranks, and with what it was judged to be by each split."""
    folder = tmp_path_factory.mktemp("judged")
    for seed, (split, count) in enumerate(IMAGES.items()):
        root = folder / "data"
        images, masks = root / "images" / split, root / "masks" / split
        write_pairs(images, masks, count, (40, 56), [*range(5), 255], seed)
    data = ["--data.root=data", "--data.class_names=[a,b,c,d,e]", *SMALL, *LIGHT]
    # rates so high that the classes are not all one
    steps = [
        "--data.batch_size=12",
        "--trainer.max_epochs=3",
        "--model.optimizer=AdamW",
        "--model.optimizer.lr=3e-3",
    ]
    fit = ["fit", *data, *EXACT, *steps, "--checkpoint.monitor=null"]
    runs = [[4, [*fit, "--name=four"]], [3, [*fit, "--name=three"]]]
    last = "--ckpt_path=runs/four/version_0/checkpoints/last.ckpt"
    predict = ["predict", last, "--data.predict=data/images/val", "--output=masks"]
    runs.append([4, predict])
    for ranks, batch, workers in SPLITS:
        loaders = [f"--data.eval_batch_size={batch}", f"--data.num_workers={workers}"]
        for command in ("validate", "test") if ranks in (1, 4) else ("test",):
            output = f"--output={command}-{ranks}-{batch}-{workers}"
            runs.append([ranks, [command, last, *EXACT, *loaders, output]])
            if ranks == 4:
                again = ["--trainer.use_distributed_sampler=true", f"{output}-divided"]
                runs.append([ranks, [command, last, *EXACT, *loaders, *again]])
    make_runs(folder, runs)
    return folder


def figures(folder):
    return (folder / "per_class.json").read_bytes()


@pytest.mark.parametrize("command", ["validate", "test"])
def test_every_figure_is_bit_equal_on_any_number_of_ranks_images_a_batch_and_workers(
    judged, command
):
    found = {
        (figures(folder), (folder / "per_image.csv").read_bytes())
        for folder in judged.glob(f"{command}-*")
    }
    assert len(list(judged.glob(f"{command}-*"))) >= 3
    assert len(found) == 1


def test_every_image_and_every_valid_pixel_is_counted_once(judged):
    for command, images in (("validate", 3), ("test", 5)):
        record = json.loads(figures(judged / f"{command}-4-8-1"))
        assert record["images"] == images
        assert len([c for c in record["classes"] if c["iou"]]) > 1


def test_a_fit_validates_as_validate_does_also_where_a_rank_has_no_image(judged):
    assert figures(judged / "runs" / "four" / "version_0") == figures(judged / "validate-1-8-0")


@pytest.mark.parametrize("name", ["three", "four"])
def test_what_several_ranks_log_is_bit_equal_to_what_was_counted(judged, name):
    run = judged / "runs" / name / "version_0"
    with (run / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    logged = {key: float(value) for row in rows for key, value in row.items() if value}
    record = json.loads((run / "per_class.json").read_bytes())
    counted = {f"val/{key}": record[key] for key in ("miou", "fwiou", "pixel_accuracy")}
    for row in record["classes"]:
        kinds = ("iou", "dice", "precision", "recall")
        counted |= {f"val/{kind}/{row['name']}": row[kind] for kind in kinds}
    np.testing.assert_equal([logged[key] for key in counted], np.float32([*counted.values()]))
    losses = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["train_losses"]
    assert logged["train/loss"] == losses["sums"][0] / losses["steps"]


def test_every_image_is_predicted_also_where_a_rank_has_none(judged):
    assert len(list((judged / "masks").glob("*.png"))) == IMAGES["val"]


def test_the_same_images_are_pictured_in_the_same_way_on_any_number_of_ranks(judged):
    for command, images in (("validate", 3), ("test", 5)):
        found = [
            {path.name: path.read_bytes() for path in (folder / "previews").iterdir()}
            for folder in judged.glob(f"{command}-*")
        ]
        assert len(found[0]) == images
        assert all(pictures == found[0] for pictures in found)
