"""Training and judging on Apple's GPU, by a stand-in that lacks what torch lacks there."""

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from seg.cli.app import main
from seg.distributed.ranks import ALONE
from seg.evaluation.metrics import ConfusionMatrix, confusion_matrix
from seg.evaluation.pixel_pairs import counts_on_device
from seg.evaluation.term_sums import TermSums
from seg.exact_sums import counts_by_row, sums_by_row
from seg.losses import CompoundLoss, CrossEntropyLoss, TverskyLoss
from seg.training.class_shares import StepWatch
from seg.training.epoch_means import EpochMeans
from seg.training.step import Share, step_loss
from tests.apple_gpu import GPU, on_a_mac
from tests.conftest import LIGHT, SYNTHETIC
from tests.losses.test_losses import Case, every_loss, gradient, sample

pytestmark = pytest.mark.skipif(
    torch.__version__ < (2, 11), reason="the stand-in was made for torch 2.11 and later"
)
ON_MAC = [arg for arg in SYNTHETIC if "accelerator" not in arg]


@pytest.fixture
def mac():
    with on_a_mac() as gpu:
        yield gpu


def seg(*args) -> None:
    assert main([str(arg) for arg in args]) == 0, args


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> SimpleNamespace:
    """Folders of the same commands on a Mac and on a CPU; the checkpoint is the Mac's."""
    at = {name: tmp_path_factory.mktemp(name) for name in ("mac", "cpu")}
    images = at["mac"] / "images"
    images.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    Image.fromarray(noise).save(images / "one.png")
    precise = "--trainer.precision=32-true"
    fit = ["fit", *ON_MAC, *LIGHT, precise, "--model.micro_batch_size=2"]
    with on_a_mac() as gpu:
        seg(*fit, "--trainer.default_root_dir", at["mac"])
        (trained,) = at["mac"].rglob("best.ckpt")
        evaluations(trained, images, at["mac"], precise)
        seg("test", "--ckpt_path", trained, "--output", at["mac"] / "test", precise)
        assert "aten::convolution_backward" in gpu.operations
    seg(*fit, "--trainer.accelerator=cpu", "--trainer.default_root_dir", at["cpu"])
    evaluations(trained, images, at["cpu"], precise, "--trainer.accelerator=cpu")
    return SimpleNamespace(**at)


def evaluations(trained: Path, images: Path, to: Path, *given: str) -> None:
    seg("validate", "--ckpt_path", trained, "--output", to / "validated", *given)
    predict = ["--data.predict", images, "--output", to / "predicted"]
    seg("predict", "--ckpt_path", trained, *predict, *given)
    copied = shutil.copy(trained, to / "copy.ckpt")
    seg("calibrate", "--ckpt_path", copied)


@pytest.mark.slow
def test_a_fit_on_a_mac_learns_what_it_learns_on_the_cpu(runs) -> None:
    rows = [
        next(at.rglob("version_0/metrics.csv")).read_text().splitlines()
        for at in vars(runs).values()
    ]
    assert rows[0][0] == rows[1][0]
    of_mac, of_cpu = (
        [float(cell) for row in file[1:] for cell in row.split(",") if cell] for file in rows
    )
    assert of_mac == pytest.approx(of_cpu, rel=1e-4, abs=1e-6, nan_ok=True)


@pytest.mark.slow
def test_a_mac_counts_every_pixel_as_the_cpu_does(runs) -> None:
    folders = [at / "validated" for at in vars(runs).values()]
    mac, cpu = (json.loads((folder / "per_class.json").read_text()) for folder in folders)
    assert mac == cpu
    assert (runs.mac / "test" / "per_class.json").exists()


@pytest.mark.slow
def test_a_mac_predicts_and_calibrates_as_the_cpu_does(runs) -> None:
    mac, cpu = (
        np.array(Image.open(next((at / "predicted").rglob("*.png")))) for at in vars(runs).values()
    )
    assert (mac == cpu).all()
    mac, cpu = (
        torch.load(at / "copy-calibrated.ckpt", weights_only=True)["calibration"]
        for at in vars(runs).values()
    )
    assert mac == cpu


def test_the_stand_in_refuses_what_a_mac_lacks(mac) -> None:
    ones = torch.ones(3, device=GPU)
    for make in (
        ones.double,
        lambda: torch.ones(3).double().to(GPU),
        lambda: torch.tensor(1.0, dtype=torch.float64, device=GPU),
    ):
        with pytest.raises(TypeError, match="float64"):
            make()
    for lacking in (lambda: torch.bincount(ones.long()), lambda: ones.take(ones.long())):
        with pytest.raises(NotImplementedError, match="not currently implemented for MPS"):
            lacking()
    with pytest.raises(RuntimeError, match="same device"):
        ones + torch.ones(3)


@every_loss
def test_a_loss_on_a_mac_is_that_of_the_cpu(case: Case, mac) -> None:
    logits, target = sample(case)
    loss, there = case.build(), case.build().to(GPU)
    on_gpu = logits.float().to(GPU), target.to(GPU)
    expected, slope = gradient(loss, logits, target)
    value, found = gradient(there, *on_gpu)
    torch.testing.assert_close(value.cpu().double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.cpu().double(), slope, rtol=1e-4, atol=1e-7)
    if case.terms:
        exact = loss.terms(logits, target), loss.class_terms(logits, target)
        close = there.terms(*on_gpu), there.class_terms(*on_gpu)
        for one, other in zip(close, exact, strict=True):
            torch.testing.assert_close(
                one.cpu().double(), other.double(), rtol=1e-5, atol=1e-5, equal_nan=True
            )
    (divisor, there_too) = (
        loss.divisor(target, case.channels),
        there.divisor(on_gpu[1], case.channels),
    )
    assert (divisor is None) == (there_too is None)
    if divisor is not None:
        assert float(there_too) == pytest.approx(float(divisor), rel=1e-6)


@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_a_watched_step_on_a_mac_has_the_gradient_of_the_cpu(micro_batch_size, mac) -> None:
    torch.manual_seed(0)
    images, masks = torch.randn(6, 3, 12, 12), torch.randint(0, 3, (6, 12, 12)).byte()
    masks[2] = 255
    found = []
    for device, dtype in ((GPU, torch.float32), (torch.device("cpu"), torch.float64)):
        torch.manual_seed(0)
        model = nn.Conv2d(3, 3, 3, padding=1).to(dtype).to(device)
        weighted = CrossEntropyLoss(weight=[0.5, 1.0, 4.0])
        loss = CompoundLoss({"ce": weighted, "tversky": TverskyLoss(gamma=0.5)}).to(device)
        share = Share(images.to(dtype).to(device), masks.to(device), ALONE)
        watch = StepWatch(loss.components(), share.target, 3)
        forward = watch.of(model)
        step = step_loss(model, forward, loss.components(), share, 3, micro_batch_size)
        step.loss.backward()
        parts = step.values, watch.shares(ALONE).flatten(), model.weight.grad.flatten()
        found.append(torch.cat([part.cpu().double() for part in parts]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_labels_are_counted_on_a_mac_without_a_wait(mac) -> None:
    target, prediction = torch.randint(0, 4, (2, 3, 50, 60), dtype=torch.uint8)
    target[0, :9] = 255
    matrix = ConfusionMatrix(4).to(GPU)
    on_gpu = prediction.to(GPU), target.to(GPU)
    mac.operations.clear()
    matrix.update(*on_gpu)
    matrix.update(*on_gpu, ["a", "b", "c"])
    assert not {"aten::_local_scalar_dense", "aten::nonzero"} & mac.operations
    assert torch.equal(matrix.compute().cpu(), 2 * confusion_matrix(prediction, target, 4))
    matrices = counts_on_device(*on_gpu, 4, 255)[0].cpu()
    for found, *pair in zip(matrices, prediction, target, strict=True):
        assert torch.equal(found, confusion_matrix(*pair, 4))


def test_a_label_that_is_no_class_is_refused_at_the_end_of_an_evaluation_on_a_mac(mac) -> None:
    matrix = ConfusionMatrix(3).to(GPU)
    ids = torch.tensor([[0, 1, 7, 255]], device=GPU)
    matrix.update(torch.zeros_like(ids), ids)
    with pytest.raises(ValueError, match="1 pixels of target or prediction hold neither"):
        matrix.compute()
    with pytest.raises(ValueError, match=r"class id 0\.\.2"):
        confusion_matrix(torch.zeros_like(ids), ids, 3)


def test_long_sums_on_a_mac_keep_what_float32_loses(mac) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(100, 2, generator=generator)
    values[0, 1] = 1e8
    means, terms = EpochMeans(), TermSums(2).to(GPU)
    for value in values.to(GPU):
        means.add(0, value)
        terms.update(value)
    exact = [math.fsum(column) for column in values.double().T.tolist()]
    assert terms.compute().tolist() == pytest.approx(exact, rel=1e-13)
    assert (len(values) * means.means()).tolist() == pytest.approx(exact, rel=1e-13)
    restarted = EpochMeans()
    restarted.load(means.state())
    restarted.add(0, values[0].to(GPU))
    assert restarted.sums.tolist() == pytest.approx((values[0] + torch.tensor(exact)).tolist())
    plain = torch.zeros(2)
    for value in values:
        plain += value
    assert abs(plain[1] / exact[1] - 1) > 1e-7  # what would be lost


def test_an_infinite_loss_shows_in_the_mean_of_an_epoch_on_a_mac(mac) -> None:
    means = EpochMeans()
    for value in (1.0, math.inf, 1.0):
        means.add(0, torch.tensor([value], device=GPU))
    assert means.means().tolist() == [math.inf]


def test_sums_by_row_on_a_mac_are_within_a_rounding_of_float64(mac) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(2**20, generator=generator)
    rows = torch.randint(0, 3, values.shape, generator=generator)
    expected = torch.zeros(3, dtype=torch.float64).index_add_(0, rows, values.double())
    found = sums_by_row(values.to(GPU), rows.to(GPU), 3)
    torch.testing.assert_close(found.cpu().double(), expected, rtol=1e-6, atol=0)
    assert torch.equal(counts_by_row(rows.to(GPU), 4).cpu(), torch.bincount(rows, minlength=4))
