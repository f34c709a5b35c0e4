"""Of how many simulated evaluations the 95 % interval holds the truth, by the number of images.

python scripts/bench_intervals.py; with --time: seconds for 1,000 images of 150 classes.
"""

import argparse
import resource
import time

import numpy as np

from seg.evaluation.image_counts import ImageCounts
from seg.evaluation.intervals import expanded
from seg.evaluation.intervals import intervals as intervals_of
from seg.evaluation.resampling import resampled_scores

IMAGES = 300
CLASSES = 10
TRIALS = 100
POPULATION = 1_000_000


def drawn(
    rng: np.random.Generator, images: int, classes: int, share: float, alone: float
) -> np.ndarray:
    """Counts (N, C, 3) of images of which a share shows a class, in sizes that differ tenfold.

    Args:
        rng: Draws them.
        images: N.
        classes: C, all alike.
        share: Of the images that show a class.
        alone: Share of the others in which the class is predicted by mistake.
    """
    shape = images, classes
    present = rng.random(shape) < share
    size = np.exp(rng.normal(7, 1, shape)) * present
    recall = rng.beta(4, 1.5, shape)
    mistaken = rng.random(shape) < np.where(present, 0.7, alone)
    wrong = np.exp(rng.normal(5, 1, shape)) * mistaken
    return np.stack([size * recall, wrong, size * (1 - recall)], 2).round().astype(np.int64)


def counts_of(dense: np.ndarray) -> ImageCounts:
    """As an evaluation keeps them."""
    image, class_id = np.nonzero(dense.any(axis=2))
    names = tuple(map(str, range(len(dense))))
    return ImageCounts(names, dense.shape[1], image, class_id, dense[image, class_id])


def row(carriers: int, alone: float) -> tuple[float, float, float]:
    """Shares of plain and of expanded percentiles that hold the truth; width of the latter."""
    rng = np.random.default_rng(carriers)
    share = carriers / IMAGES
    hits, wrong, missed = drawn(rng, POPULATION, 1, share, alone).sum((0, 1))
    truth = hits / (hits + wrong + missed)
    held: list[list[float]] = [[], [], []]
    for seed in range(TRIALS):
        dense = drawn(rng, IMAGES, CLASSES, share, alone)
        iou = resampled_scores(counts_of(dense), [0], 1000, seed)["iou"]
        shown = (dense[..., 0] + dense[..., 2] > 0).sum(0)
        iou[:, shown < 2] = 0  # nothing to say of these
        low, high = np.nanquantile(iou, (0.025, 0.975), axis=0)
        held[0] += ((low <= truth) & (truth <= high))[shown > 1].tolist()
        ends = expanded(iou, shown, fewest=2)
        known = ~np.isnan(ends[:, 0])
        held[1] += ((ends[:, 0] <= truth) & (truth <= ends[:, 1]))[known].tolist()
        held[2] += (ends[:, 1] - ends[:, 0])[known].tolist()
    plain, wide, width = (float(np.mean(part)) for part in held)
    return plain, wide, width


def table() -> None:
    """Prints a line for each number of images with the class."""
    print(f"{IMAGES} images, {CLASSES * TRIALS} intervals a line")
    print("images with the class | also predicted elsewhere | percentiles | expanded | width")
    for alone in (0.0, 0.05):
        for carriers in (3, 5, 8, 10, 15, 20, 30, 60, 150, 300):
            plain, wide, width = row(carriers, alone)
            elsewhere = f"{alone:.0%}"
            line = f"{carriers:21} | {elsewhere:>24} | {plain:11.1%} | {wide:8.1%} | {width:.2f}"
            print(line, flush=True)


def timed() -> None:
    """Prints the time of the intervals of a large evaluation, and the most memory."""
    for images in (1_000, 10_000):
        counts = counts_of(drawn(np.random.default_rng(0), images, 150, 0.1, 0.05))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        intervals_of(counts, list(range(75)))
        spent = time.perf_counter() - start
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"{images} images, 150 classes, 2000 resamples: {spent:.1f} s, {more:.0f} MB more")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--time", action="store_true", help="the time alone")
    (timed if parser.parse_args().time else table)()
