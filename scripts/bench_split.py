"""Seconds that `seg split` takes to divide 1,000, 10,000 and 100,000 images of 20 classes.

usage: python scripts/bench_split.py
"""

import time

import numpy as np

from seg.data.splitting import stratify

FRACTIONS = [0.7, 0.15, 0.15]


def masks(count: int, classes: int = 20) -> np.ndarray:
    """Pixels of each class in each image: frequent classes and rare ones, of many sizes."""
    rng = np.random.default_rng(0)
    chance = 10 ** rng.uniform(-3, 0, classes)
    shown = rng.random((count, classes)) < chance
    shown[:: count // 6] = True  # every class is in some images
    return (shown * rng.lognormal(7, 2, (count, classes))).astype(np.int64) + shown


def deviation(pixels: np.ndarray, split: np.ndarray) -> float:
    """Mean distance of a class's share of the pixels in a split from that split's share."""
    shares = [pixels[split == place].sum(0) / pixels.sum(0) for place in range(len(FRACTIONS))]
    return float(np.mean([abs(s - f).mean() for s, f in zip(shares, FRACTIONS, strict=True)]))


if __name__ == "__main__":
    print("images   seconds  mean deviation of a class's pixels")
    for count in (1_000, 10_000, 100_000):
        pixels = masks(count)
        begin = time.perf_counter()
        split = stratify(pixels, [str(i) for i in range(count)], FRACTIONS)
        seconds = time.perf_counter() - begin
        print(f"{count:7,}  {seconds:7.2f}  {deviation(pixels, split):.4f}")
