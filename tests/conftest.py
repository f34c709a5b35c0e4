import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

# A small real run: real network, real loaders, real files, a few seconds.
SMALL = [
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--data.crop_size=[32,32]",
    "--data.batch_size=4",
    "--data.num_workers=0",
]
SYNTHETIC = [*SMALL, "--data.synthetic_length=8", "--data.synthetic_size=[64,64]"]


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
    """Scans of masks are kept apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def own_determinism() -> Iterator[None]:
    """Undoes what `trainer.deterministic` sets for the whole process."""
    torch.use_deterministic_algorithms(False)
    yield
    torch.use_deterministic_algorithms(False)
