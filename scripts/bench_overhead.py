"""What scanning masks, drawing by class and watching classes cost, beside what they are part of.

    python scripts/bench_overhead.py

Everything is on one thread, and steps on a CUDA device if there is one; medians of rounds in which
the two things compared take turns.

    scan      how fast masks are described (pixels, components, places) relative to decoding them
    sampler   what drawing a sample takes, as a share of reading and augmenting it
    watch     what the classes' shares of loss and gradient add to a step: to one that is watched,
              and to the mean step, of which every tenth is
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from bench_measure import interleaved, machine
from PIL import Image

from seg.data import ClassFirstSampler, RepeatFactorSampler, SegmentationDataModule
from seg.data.files.decoding import read_mask
from seg.data.files.labels import Labels
from seg.data.scan.components import find_regions
from seg.data.synthetic import SyntheticDataset
from seg.distributed.ranks import ALONE
from seg.losses import CompoundLoss, CrossEntropyLoss, DiceLoss
from seg.training.class_shares import EVERY, StepWatch
from seg.training.step import Share, step_loss

CPU = torch.device("cpu")
CLASSES = 5
LENGTH = 6400
"""Samples of an epoch that are drawn."""


def main() -> None:
    """Prints all of it."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--masks", type=Path, help="a folder of PNG masks to scan as well")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print(f"{machine(CPU)}; medians of {options.rounds} rounds\n")
    with tempfile.TemporaryDirectory() as folder:
        for name, files in masks(Path(folder), options.masks).items():
            print(f"scan      {name}: {scanning(files, options.rounds)}")
        sampling(Path(folder) / "pairs", options.rounds)
    watching(options.rounds)


def masks(folder: Path, given: Path | None) -> dict[str, list[Path]]:
    """Files by what they are: generated masks of two sizes and depths, and those given."""
    found = {}
    for size in ((512, 512), (1024, 2048)):
        drawn = [SyntheticDataset("train", 12, size).mask(i) for i in range(12)]
        for dtype in (np.uint8, np.uint16):
            name = f"{size[1]} x {size[0]}, {8 * np.dtype(dtype).itemsize} bits"
            found[name] = []
            for i, mask in enumerate(drawn):
                found[name].append(folder / f"{i}_{size[1]}_{np.dtype(dtype)}.png")
                Image.fromarray(mask.astype(dtype)).save(found[name][-1])
    if given is not None:
        found[str(given.name)] = sorted(given.glob("*.png"))[:60]
    return found


def scanning(files: list[Path], rounds: int) -> str:
    """Milliseconds a mask, and the ratio."""
    labels = Labels(254)

    def scan() -> None:
        for file in files:
            mask = labels.read_values(file)
            find_regions(mask.values, 254, mask.to_ids, mask.palette)

    calls = {"decode": lambda: [read_mask(file) for file in files], "scan": scan}
    for call in calls.values():
        call()
    times = interleaved(calls, dict.fromkeys(calls, rounds), CPU)
    decode, described = (statistics.median(times[name]) / len(files) for name in calls)
    ratio = statistics.median(a / b for a, b in zip(*times.values(), strict=True))
    return f"decoded in {1e3 * decode:.2f} ms, described in {1e3 * described:.2f}; {ratio:.2f}"


def sampling(root: Path, rounds: int) -> None:
    """Draws of an epoch beside loading its samples, from pictures of 512 × 512."""
    for part in ("images", "masks"):
        (root / part / "train").mkdir(parents=True)
    pictures = SyntheticDataset("train", 64, (512, 512))
    for i in range(len(pictures)):
        image, mask = pictures.draw(i)
        Image.fromarray(image).save(root / f"images/train/{i}.jpg", quality=92)
        Image.fromarray(mask).save(root / f"masks/train/{i}.png")
    names = [str(c) for c in range(CLASSES)]
    data = SegmentationDataModule(root=str(root), class_names=names, crop_size=[256, 256])
    scan, dataset = data.scan("train"), data.dataset("train")
    loads = [partial(dataset.__getitem__, (0, i)) for i in range(len(dataset))]
    loading = [_timed(load) for _ in range(rounds) for load in loads]
    sample = statistics.median(loading)
    for sampler in (ClassFirstSampler(), RepeatFactorSampler()):
        draws = partial(sampler.draw, scan, LENGTH, np.random.default_rng(0))
        each = statistics.median(_timed(draws) for _ in range(rounds)) / LENGTH
        print(
            f"sampler   {type(sampler).__name__}: {1e6 * each:.2f} µs a sample, "
            f"{each / sample:.3%} of loading it ({1e3 * sample:.1f} ms)"
        )


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def watching(rounds: int) -> None:
    """Steps of a ResNet-18 U-Net with and without a watch on the classes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = smp.Unet("resnet18", encoder_weights=None, classes=11)
    network = network.to(device, memory_format=torch.channels_last).train()
    loss = CompoundLoss({"cross_entropy": CrossEntropyLoss(), "dice": DiceLoss()})
    size, *shape = (8, 384, 512) if device.type == "cuda" else (4, 192, 256)
    images = torch.randn(size, 3, *shape).to(device, memory_format=torch.channels_last)
    target = torch.randint(0, 11, (size, *shape)).byte().to(device)

    def step(watch: StepWatch | None) -> None:
        forward = network if watch is None else watch.of(network)
        share = Share(images, target, ALONE)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            found = step_loss(network, forward, loss.components(), share, 11)
        found.loss.backward()
        if watch is not None:
            watch.shares(ALONE)
        network.zero_grad()

    calls = {
        "plain": lambda: step(None),
        "watched": lambda: step(StepWatch(loss.components(), target, 11)),
    }
    for call in calls.values():
        call()
    times = interleaved(calls, dict.fromkeys(calls, 3 * rounds), device)
    pairs = zip(times["watched"], times["plain"], strict=True)
    more = statistics.median(w / p for w, p in pairs) - 1
    plain = statistics.median(times["plain"])
    print(
        f"watch     a step of {1e3 * plain:.1f} ms on {device.type} takes {more:.1%} more when it "
        f"is watched, {more / EVERY:.2%} on average"
    )


if __name__ == "__main__":
    main()
