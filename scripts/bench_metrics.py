"""Time of an update of the confusion counts, as a share of torchmetrics' MulticlassJaccardIndex.

python scripts/bench_metrics.py: 8 masks of 512 × 512 of 19 classes, 255 included, on one thread.
It is the CPU's time, which other processes do not lengthen; on a GPU that of the clock.
"""

import argparse
import time
from statistics import median

import torch
from bench_measure import machine, seconds
from torchmetrics.classification import MulticlassJaccardIndex

from seg.evaluation.metrics import ConfusionMatrix

NAMES = [f"image {number}" for number in range(8)]


def masks(classes: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and truth (8, side, side), uint8: blocks as of objects, a tenth of them ignored."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, classes, (8, side // 16, side // 16), generator=generator)
    wrong = torch.randint(0, classes, blocks.shape, generator=generator)
    ignored = torch.rand(blocks.shape, generator=generator) < 0.1
    truth = blocks.masked_fill(ignored, 255)
    label = torch.where(torch.rand(blocks.shape, generator=generator) < 0.3, wrong, blocks)
    pair = (part.repeat_interleave(16, 1).repeat_interleave(16, 2) for part in (label, truth))
    label, truth = (part.to(torch.uint8).contiguous() for part in pair)
    return label, truth


def main() -> None:
    """Prints a line for each way to count."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    label, truth = (part.to(device) for part in masks(given.classes, given.side))
    ours = ConfusionMatrix(given.classes).to(device)
    by_image = ConfusionMatrix(given.classes).to(device)
    theirs = MulticlassJaccardIndex(given.classes, ignore_index=255).to(device)
    long = label.long(), truth.long()
    calls = {
        "MulticlassJaccardIndex, defaults": lambda: theirs.update(label, truth),
        "the same of int64 labels": lambda: theirs.update(*long),
        "ConfusionMatrix": lambda: ours.update(label, truth),
        "ConfusionMatrix, counts of each image": lambda: by_image.update(label, truth, NAMES),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(given.rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            spent = seconds(call, device)
            if device.type == "cpu":
                spent = time.process_time() - start
            times[name] += [spent] if number else []  # the first makes it warm
    print(f"{machine(device)}; 8 × {given.side} × {given.side}, {given.classes} classes")
    first = median(times["MulticlassJaccardIndex, defaults"])
    for name, found in times.items():
        print(f"{name:38} {1000 * median(found):8.1f} ms  {median(found) / first:.3f}")


if __name__ == "__main__":
    main()
