import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import seg
from seg.data import SyntheticDataset
from seg.report.tables import write_per_class
from tests.lifecycle.test_old_checkpoints import CHECKPOINT

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def peak_bytes():
    spec = importlib.util.spec_from_file_location("bench_measure", SCRIPTS / "bench_measure.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.peak_bytes


class Scratch(torch.autograd.Function):
    """Allocates 3 times its input for a while in the forward pass and 4 times in the backward."""

    @staticmethod
    def forward(ctx, values):
        torch.empty(3, *values.shape)
        ctx.save_for_backward(torch.empty_like(values))
        return values.sum()

    @staticmethod
    def backward(ctx, gradient):
        torch.empty(4, *ctx.saved_tensors[0].shape)
        return ctx.saved_tensors[0].zero_()


def test_peak_memory_adds_what_is_held_at_once_and_not_what_was_freed(peak_bytes):
    def call():
        held = torch.empty(1_000_000, dtype=torch.uint8)
        torch.empty(3_000_000, dtype=torch.uint8)
        torch.empty(2_000_000, dtype=torch.uint8)
        return held

    assert peak_bytes(call, CPU) == 4_000_000


def test_peak_memory_leaves_out_what_was_allocated_before_the_call(peak_bytes):
    before = torch.zeros(1_000_000)
    assert peak_bytes(lambda: before.add_(1), CPU) < 1000


def test_peak_memory_of_cross_entropy_is_three_times_its_logits(peak_bytes):
    logits = torch.randn(2, 19, 64, 64, requires_grad=True)
    target = torch.randint(19, (2, 64, 64))
    peak = peak_bytes(lambda: torch.autograd.grad(F.cross_entropy(logits, target), logits), CPU)
    # the log-softmax, its gradient and the gradient of the logits
    assert peak / logits.nbytes == pytest.approx(3, abs=0.01)


def test_peak_memory_holds_the_scratch_of_an_autograd_function(peak_bytes):
    values = torch.randn(100_000, requires_grad=True)
    forward_only = peak_bytes(lambda: Scratch.apply(values), CPU)
    both = peak_bytes(lambda: torch.autograd.grad(Scratch.apply(values), values), CPU)
    assert forward_only / values.nbytes == pytest.approx(3, abs=0.01)
    assert both / values.nbytes == pytest.approx(1 + 4, abs=0.01)


@pytest.mark.parametrize(
    "script", [*SCRIPTS.glob("*.sh"), *SCRIPTS.glob("*.sbatch")], ids=lambda path: path.name
)
def test_a_shell_script_parses_and_says_first_how_it_is_used(script):
    subprocess.run(["bash", "-n", script], check=True)
    shebang, usage = script.read_text().splitlines()[:2]
    assert shebang == "#!/usr/bin/env bash"
    assert usage.startswith("# Usage")


def table(*given):
    command = [sys.executable, str(SCRIPTS / "quickstart_table.py"), *map(str, given)]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS.parent)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
def test_scores_of_two_runs_are_printed_side_by_side_with_the_means(tmp_path):
    pixels = [900, 96, 4, 0]
    for name, iou in {"plain": [0.9, 0.5, 0.0, None], "recipe": [0.8, 0.7, 0.3, None]}.items():
        rows = [
            {"name": f"class {i}", "iou": iou[i], "pixels": pixels[i]}
            | dict.fromkeys(("dice", "precision", "recall"))
            for i in range(4)
        ]
        totals = {"miou": None, "pixel_accuracy": None, "fwiou": None, "images": 7}
        write_per_class(tmp_path / name, {**totals, "classes": rows})
    found = table(*(f"{name}={tmp_path / name}" for name in ("plain", "recipe")))
    assert found.returncode == 0, found.stderr
    lines = [" ".join(line.split()) for line in found.stdout.splitlines()]
    assert lines[0] == "IoU on the test split, 7 images"
    for line in (
        "class pixels plain recipe",
        "class 0 90.00% 0.900 0.800",
        "class 1 9.60% 0.500 0.700",
        "class 2 0.40% 0.000 0.300",
        "class 3 0.00% – –",
        "mean of those above 1 % 0.700 0.750",
        "mean of all 0.467 0.600",
    ):
        assert line in lines


@pytest.mark.slow
def test_a_folder_without_scores_is_told(tmp_path):
    found = table(f"plain={tmp_path}")
    assert found.returncode == 2
    assert "no per_class.json there; expected a folder of seg test" in found.stderr


def hold_out(*arguments):
    command = [sys.executable, str(SCRIPTS / "hold_out_video.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_video_held_out_is_in_no_other_split(tmp_path):
    names = {"train": ["a_1", "a_2", "b_1"], "val": ["b_2", "a_3"]}
    for split, stems in names.items():
        for stem in stems:
            for file in (tmp_path / split / f"{stem}.jpg", tmp_path / f"{split}annot/{stem}.png"):
                file.parent.mkdir(exist_ok=True)
                file.write_text(stem)
    assert "no video 'c', but a, b" in hold_out(tmp_path, tmp_path / "out", "c").stderr
    assert hold_out(tmp_path, tmp_path / "out", "a").returncode == 0
    for split, stems in {"train": ["b_1"], "val": ["b_2"], "test": ["a_1", "a_2", "a_3"]}.items():
        for kind in ("", "annot"):
            files = sorted((tmp_path / f"out/{split}{kind}").iterdir())
            assert [file.read_text() for file in files] == stems
    assert "is there already" in hold_out(tmp_path, tmp_path / "out", "a").stderr


@pytest.mark.slow
@pytest.mark.parametrize("script", ["hold_out_video.py", "seldom_images.py"])
def test_a_script_without_its_arguments_says_which_it_wants(script):
    command = [sys.executable, str(SCRIPTS / script)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "required: " in found.stderr and "FOLDER" in found.stderr


@pytest.fixture(scope="module")
def drawing():
    spec = importlib.util.spec_from_file_location("drawing", SCRIPTS / "draw_comparison.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_drawn_row_has_the_colours_of_the_mask_and_of_what_each_network_says(drawing):
    module = seg.load(CHECKPOINT)
    image, mask = SyntheticDataset("test", 1, (64, 64)).draw(0)
    panels = drawing.row(image, mask, {"one": module, "other": module})
    assert list(panels) == ["image", "mask", "one", "other"]
    assert np.array_equal(panels["image"], image)
    colors = np.array(module.class_colors)
    assert (panels["mask"][mask == 255] == 255).all() and (mask == 255).any()
    assert np.array_equal(panels["mask"][mask < 255], colors[mask[mask < 255]])
    labels = module.labels(torch.from_numpy(image).permute(2, 0, 1)[None])[0].numpy()
    assert np.array_equal(panels["one"], colors[labels])
    assert np.array_equal(panels["one"], panels["other"])


@pytest.mark.slow
def test_a_drawn_comparison_has_a_row_for_each_image_of_the_run_s_data(
    drawing, tmp_path, monkeypatch
):
    sizes = []
    for images in (["0"], ["0", "1"]):
        target = tmp_path / f"{len(images)}.png"
        options = ["--split", "val", "--images", *images, "--output", str(target)]
        monkeypatch.setattr(sys, "argv", ["draw_comparison.py", f"one={CHECKPOINT}", *options])
        drawing.main()
        with Image.open(target) as picture:
            assert picture.mode == "RGB"
            sizes.append(picture.size)
    (width, one), (same, two) = sizes
    assert width == same and two - one == pytest.approx(100 * drawing.INCHES, abs=1)
