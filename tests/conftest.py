import os
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# A small real run: real network, real loaders, real files, a few seconds. In full precision: the
# same on any machine.
SMALL = [
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.precision=32-true",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--data.crop_size=[32,32]",
    "--data.batch_size=4",
    "--data.num_workers=0",
]
SYNTHETIC = [*SMALL, "--data.synthetic_length=8", "--data.synthetic_size=[64,64]"]

# A U-Net of 0.1 million weights in few layers in the place of the default one's 14: it is made,
# tried and saved in no time. For tests of what is around the network.
LIGHT = ["--model.network.encoder_name=tu-test_resnet", "--model.network.encoder_depth=3"]
LIGHT += ["--model.network.decoder_channels=[16,8,8]"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long, so that two processes end at the same time."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    number = Counter(item.path for item in items)
    items.sort(key=lambda item: -slow[item.path] / number[item.path])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real data set and weights: SEG_DATA, or beside the project."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SEG_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist; set SEG_DATA to a folder with CamVid/")
    return folder


def write_pairs(images, masks, count, size, values, seed=0):
    """Images of noise and index masks of blocks of `values`, written as real files."""
    rng = np.random.default_rng(seed)
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    for i in range(count):
        height, width = size[0] + 4 * (i % 2), size[1]
        blocks = rng.choice(values, size=(-(-height // 8), -(-width // 8))).astype(np.uint8)
        mask = blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
        noise = rng.integers(0, 40, (height, width, 3))
        image = (noise + mask[..., None] * (17, 11, 5) % 200).astype(np.uint8)
        Image.fromarray(image).save(images / f"{i:02}.jpg", quality=95)
        Image.fromarray(mask).save(masks / f"{i:02}.png")


@pytest.fixture(scope="session")
def camvid_like(tmp_path_factory) -> Path:
    """A small data set in CamVid's layout: eleven classes, 11 is void, two sizes of image."""
    root = tmp_path_factory.mktemp("camvid")
    for seed, (split, count) in enumerate((("train", 8), ("val", 5), ("test", 3))):
        write_pairs(root / split, root / f"{split}annot", count, (40, 56), range(12), seed)
    return root


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory) -> Iterator[None]:
    """Scans of masks are kept apart from the user's, and no data of theirs are read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SEG_DATA_ROOT", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def draw_curves_on_request() -> None:
    """Have the runs of this process draw their curves only where SEG_TEST_CURVES is set.

    The picture takes a fifth of a small run's time.
    """
    from seg.report.callbacks import RunReport  # here: it takes long, and most files need no run

    draw = RunReport._draw_curves

    def _draw_curves(report: RunReport, trainer: Any) -> None:
        if "SEG_TEST_CURVES" in os.environ:
            draw(report, trainer)

    RunReport._draw_curves = _draw_curves  # type: ignore[method-assign]


@pytest.fixture(autouse=True, scope="session")
def own_curves() -> None:
    """Curves are drawn for the tests that look at them, by `drawn_curves`, and for no others."""
    if "seg.cli.app" in sys.modules:
        draw_curves_on_request()


@pytest.fixture
def drawn_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw their curves."""
    monkeypatch.setenv("SEG_TEST_CURVES", "1")


@pytest.fixture(autouse=True)
def own_determinism() -> Iterator[None]:
    """Undoes what `trainer.deterministic` sets for the whole process."""
    torch.use_deterministic_algorithms(False)
    yield
    torch.use_deterministic_algorithms(False)


@contextmanager
def _device_waits(found: list[str]) -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [w for w in caught if "called a synchronizing" in str(w.message)]
    found += [f"{w.filename}:{w.lineno}" for w in waits]


@pytest.fixture
def device_waits() -> Callable[[list[str]], AbstractContextManager[None]]:
    """A context that adds to a list where in it the program waited for the CUDA device."""
    return _device_waits


class _Transfers(TorchDispatchMode):
    """Notes every operation that copies from one device to another."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        copies = func.overloadpacket in (torch.ops.aten.copy_, torch.ops.aten._to_copy)
        if copies and len({x.device.type for x in tensors}) > 1:
            own = [f for f in traceback.extract_stack() if "/seg/" in f.filename]
            self.found += [f"{func} {f.filename}:{f.lineno}" for f in own[-1:]]
        return result


@contextmanager
def _fake_gpu(found: list[str]) -> Iterator[None]:
    with FakeTensorMode(), _Transfers(found):
        yield


@pytest.fixture
def fake_gpu() -> Callable[[list[str]], AbstractContextManager[None]]:
    """A context in which tensors on "cuda" have a shape and no values, also without a GPU.

    Asking for a value is an error there, and what else waits for the device is added to a list:
    copies to it and from it.
    """
    if torch.__version__ < (2, 11):
        pytest.skip("torch before 2.11 needs a GPU's driver to make a tensor without values on it")
    return _fake_gpu
