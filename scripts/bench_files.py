"""How fast image files are read: by loaders in training, and once before it.

The pictures are made here: smooth colours with some noise, which compress about as photographs do.
"""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from seg.data import SegmentationDataModule

ROUNDS = 3


class Kind(NamedTuple):
    """A kind of picture."""

    height: int
    width: int
    suffix: str

    def __str__(self) -> str:
        return f"{self.width} x {self.height} {self.suffix}"


KINDS = [Kind(512, 512, "jpg"), Kind(512, 512, "png"), Kind(1024, 2048, "jpg")]


def reading(kind: Kind, folder: Path, count: int) -> str:
    """Rates of loaders of 1 and 2 workers, of checking headers and of counting classes."""
    root = folder / f"{kind.suffix}{kind.width}"
    write(root, kind, count)
    epochs = {workers: _epochs(root, workers) for workers in (1, 2)}
    rates: dict[int, list[float]] = {workers: [] for workers in epochs}
    for number in range(ROUNDS + 1):
        for workers, epoch in epochs.items():
            rates[workers] += [count / next(epoch)] if number > 0 else []  # 0 starts the workers
    one, two = (statistics.median(values) for values in rates.values())
    size = sum(file.stat().st_size for file in root.glob("images/train/*")) / count
    check, counted = _before(root, count)
    return (
        f"{size / 1e6:.2f} MB; crops of 512 by a loader of 1 worker {one:.0f} images/s, of 2 "
        f"{two:.0f}; headers of {check:.0f} pairs/s checked, {counted:.0f} masks/s counted"
    )


def write(root: Path, kind: Kind, count: int) -> None:
    """Pictures and masks of two classes, for training and one for validation."""
    rng = np.random.default_rng(0)
    shape = (kind.height, kind.width)
    for split, number in (("train", count), ("val", 1)):
        for part in ("images", "masks"):
            (root / part / split).mkdir(parents=True)
        for i in range(number):
            coarse = rng.integers(0, 256, (shape[0] // 32, shape[1] // 32, 3), dtype=np.uint8)
            smooth = Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC)
            noisy = np.asarray(smooth).astype(int) + rng.normal(0, 4, (*shape, 3)).astype(int)
            picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
            picture.save(root / "images" / split / f"{i}.{kind.suffix}", quality=90)
            mask = Image.fromarray(coarse[..., 0] % 2).resize(shape[::-1], Image.Resampling.NEAREST)
            mask.save(root / "masks" / split / f"{i}.png")


def _data(root: Path, workers: int = 0) -> SegmentationDataModule:
    names = ["a", "b"]
    return SegmentationDataModule(
        str(root), class_names=names, crop_size=[512, 512], batch_size=8, num_workers=workers
    )


def _epochs(root: Path, workers: int) -> Iterator[float]:
    """Seconds of one epoch after another."""
    data = _data(root, workers)
    data.setup("fit")
    loader = data.train_dataloader()
    while True:
        start = time.perf_counter()
        for _ in loader:
            pass
        yield time.perf_counter() - start


def _before(root: Path, count: int) -> tuple[float, float]:
    """Pairs a second whose headers are checked, masks a second whose classes are counted."""
    spent = []
    for _ in range(ROUNDS):
        data = _data(root)
        start = time.perf_counter()
        data.setup("fit")
        checked = time.perf_counter()
        data.class_counts()
        spent.append((checked - start, time.perf_counter() - checked))
    check, counting = (statistics.median(values) for values in zip(*spent, strict=True))
    return count / check, count / counting
