"""Training and judging on a CUDA device: real runs, beside the same on the CPU."""

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import lightning as L
import pytest
import segmentation_models_pytorch as smp
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.utils.data import DataLoader

from seg.lifecycle.checkpoint import load_module
from seg.losses import CompoundLoss, CrossEntropyLoss, DiceLoss, TverskyLoss
from seg.module import SegmentationModule
from seg.training.class_shares import EVERY
from tests.cli.test_app import CONFIGS, per_class, run_of, seg
from tests.conftest import SYNTHETIC
from tests.processes import start

pytestmark = [
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="needs a CUDA device: torch.cuda.is_available() is false",
    ),
    pytest.mark.filterwarnings("ignore:Total length of `DataLoader`"),
]
GPU = ["-c", str(CONFIGS / "trainer/gpu.yaml")]
SOME = ["--data.synthetic_length=24"]
ON_GPU = [arg for arg in SYNTHETIC if "accelerator" not in arg]
IN_FLOAT64 = "--trainer.precision=64-true"


def parts() -> CompoundLoss:
    """What the audit recommends, of a per-pixel and a whole-batch loss."""
    weighted = CrossEntropyLoss(weight=[0.5, 1.0, 4.0])
    return CompoundLoss({"cross_entropy": weighted, "tversky": TverskyLoss(gamma=0.5)})


def network() -> nn.Module:
    torch.manual_seed(0)
    return smp.Unet("resnet18", encoder_weights=None, classes=3)


def samples(count: int = 8, size: int = 64) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for i in range(count):
        image = torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8)
        mask = torch.randint(0, 3, (size, size), generator=generator, dtype=torch.uint8)
        mask[: 2 * i] = 255
        made.append({"image": image, "mask": mask})
    return made


def fit(module: L.LightningModule, loader: DataLoader, *callbacks: L.Callback, **settings) -> None:
    """Steps of a real Trainer on the first GPU."""
    trainer = L.Trainer(
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **settings,
    )
    trainer.fit(module, loader)


class Watch(L.Callback):
    """Notes every wait for the device between a batch's arrival and the end of its step."""

    def __init__(self, device_waits) -> None:
        self.found: list[str] = []
        self.device_waits = device_waits
        self.stack = ExitStack()

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if batch_idx:  # the first makes what lasts
            self.stack.enter_context(self.device_waits(self.found))

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.stack.close()


@pytest.mark.parametrize("micro_batch_size", [None, 1])
def test_no_step_waits_for_the_device(micro_batch_size: int | None, device_waits) -> None:
    module = SegmentationModule(
        network(), parts(), ["a", "b", "c"], micro_batch_size=micro_batch_size
    )
    loader = DataLoader(samples(2 * (EVERY + 2)), batch_size=2, pin_memory=True)
    watch = Watch(device_waits)
    fit(module, loader, watch, accelerator="gpu", precision="bf16-mixed", max_epochs=1)
    assert module.global_step == EVERY + 2  # of which one that is watched by class
    assert watch.found == []


def change(accelerator: str, precision: str, size: int | None, make_loss: Callable) -> torch.Tensor:
    """What a step of plain gradient descent of lr 1 changes."""
    model = network().eval()
    before = [p.detach().clone() for p in model.parameters()]
    model.train = lambda mode=True: model  # batch norm would differ between splits
    module = SegmentationModule(
        model,
        make_loss(),
        ["a", "b", "c"],
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0),
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
        micro_batch_size=size,
    )
    loader = DataLoader(samples(), batch_size=8, pin_memory=accelerator == "gpu")
    settings = {"precision": precision}
    if precision == "16-mixed":  # the usual first scale overflows: no step
        scaler = torch.amp.GradScaler("cuda", init_scale=2.0**10)
        settings = {"plugins": [MixedPrecision(precision, "cuda", scaler)]}
    fit(module, loader, accelerator=accelerator, max_steps=1, **settings)
    pairs = zip(model.parameters(), before, strict=True)
    return torch.cat([(a.detach().cpu() - b).double().flatten() for a, b in pairs])


@pytest.mark.parametrize("make_loss", [CrossEntropyLoss, DiceLoss, parts])
@pytest.mark.parametrize(
    ("precision", "allowed"), [("64-true", 1e-9), ("bf16-mixed", 0.1), ("16-mixed", 0.02)]
)
def test_a_step_has_the_gradient_of_the_cpu(precision: str, allowed: float, make_loss) -> None:
    exact = change("cpu", "64-true", None, make_loss)
    for size in (None, 2):
        found = change("gpu", precision, size, make_loss)
        assert (found - exact).norm() < allowed * exact.norm(), (precision, size)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """The last checkpoint of a run in bf16 on the GPU."""
    folder = tmp_path_factory.mktemp("runs")
    assert seg("fit", *ON_GPU, *GPU, *SOME, "--trainer.default_root_dir", folder) == 0
    return run_of(folder) / "checkpoints/last.ckpt"


def test_a_checkpoint_of_the_gpu_has_the_same_scores_on_the_cpu(checkpoint, tmp_path) -> None:
    for device in ("gpu", "cpu"):
        to = ["--output", tmp_path / device, f"--trainer.accelerator={device}"]
        assert seg("validate", "--ckpt_path", checkpoint, IN_FLOAT64, *to) == 0
    assert per_class(tmp_path / "gpu") == per_class(tmp_path / "cpu")


def test_calibration_on_the_gpu_finds_what_it_finds_on_the_cpu(checkpoint, tmp_path) -> None:
    found = []
    for device, hidden in (("gpu", {}), ("cpu", {"CUDA_VISIBLE_DEVICES": ""})):
        copy = shutil.copy(checkpoint, tmp_path / f"{device}.ckpt")
        process = start("calibrate", "--ckpt_path", copy, cwd=tmp_path, **hidden)
        assert process.wait() == 0, process.text
        held = torch.load(tmp_path / f"{device}-calibrated.ckpt", weights_only=True)
        found.append(held["calibration"])
    for key in ("iou", "iou_biased"):  # convolutions of the GPU are in TF32
        assert found[0][key] == pytest.approx(found[1][key], abs=0.01)


def test_a_module_on_the_gpu_names_the_classes_that_it_does_on_the_cpu(checkpoint) -> None:
    module = load_module(str(checkpoint)).double()
    images = torch.stack([sample["image"] for sample in samples()])
    expected = module.labels(images)
    assert torch.equal(module.cuda().labels(images.cuda()).cpu(), expected)
