"""Draw images beside their masks and the predictions of two checkpoints or more.

usage: python scripts/draw_comparison.py "plain=CKPT" "recipe=CKPT" --images 0 3 --output FILE.png
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image

import seg
from seg.checkpoint_files.contents import read_config
from seg.constants import IGNORE_INDEX
from seg.data import SegmentationDataModule
from seg.files import replacing
from seg.module import SegmentationModule

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.patches import Patch

INCHES = 2.2
"""Width of a panel."""
UNUSED = ("sampler", "transforms", "crop_size", "predict")
"""Options of the data that only training and prediction need."""


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("checkpoints", nargs="+", metavar="NAME=CKPT", help="heading and file")
    parser.add_argument("--images", nargs="+", type=int, default=[0], help="which, from 0")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--root", help="folder of the data; left out, that of the first run")
    parser.add_argument("--output", required=True, help="the picture, a PNG")
    return parser.parse_args()


def data_of(checkpoint: str, root: str | None) -> SegmentationDataModule:
    """The data that a run was trained on, in whole images."""
    given: dict[str, Any] = read_config(checkpoint)["data"]
    given = {key: value for key, value in given.items() if key not in UNUSED}
    return SegmentationDataModule(**given | ({"root": root} if root else {}))


def painted(ids: np.ndarray, colors: list[list[int]]) -> np.ndarray:
    """Class ids (H, W) as colours (H, W, 3); ignored pixels are white."""
    palette = np.full((IGNORE_INDEX + 1, 3), 255, np.uint8)
    palette[: len(colors)] = colors
    return palette[ids]


def row(
    image: np.ndarray, mask: np.ndarray, modules: dict[str, SegmentationModule]
) -> dict[str, np.ndarray]:
    """The panels of one image by their headings, each (H, W, 3)."""
    batch = torch.from_numpy(image).permute(2, 0, 1)[None]  # (1, 3, H, W)
    colors = next(iter(modules.values())).class_colors
    panels = {"image": image, "mask": painted(mask, colors)}
    for name, module in modules.items():
        panels[name] = painted(module.labels(batch)[0].numpy(), colors)
    return panels


def main() -> None:
    """Draws one row for each image."""
    given = arguments()
    named = dict(text.split("=", 1) for text in given.checkpoints)
    modules = {name: seg.load(path) for name, path in named.items()}
    data = data_of(next(iter(named.values())), given.root)
    split = data.dataset(given.split)
    rows = [row(*split.draw(index), modules) for index in given.images]

    aspect = rows[0]["image"].shape[0] / rows[0]["image"].shape[1]
    size = (INCHES * len(rows[0]), INCHES * aspect * len(rows) + 0.6)
    figure, axes = plt.subplots(
        len(rows), len(rows[0]), figsize=size, squeeze=False, layout="constrained", dpi=100
    )
    for number, (line, panels) in enumerate(zip(axes, rows, strict=True)):
        for place, (name, picture) in zip(line, panels.items(), strict=True):
            place.imshow(picture, interpolation="nearest")
            place.set(xticks=[], yticks=[], title="" if number else name)
    colors = np.array(data.class_colors) / 255
    patches = [Patch(color=c, label=n) for c, n in zip(colors, data.class_names, strict=True)]
    figure.legend(handles=patches, loc="outside lower center", ncols=6, frameon=False)
    Path(given.output).parent.mkdir(parents=True, exist_ok=True)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    with replacing(given.output) as path:
        Image.fromarray(pixels).save(path, format="PNG", optimize=True)


if __name__ == "__main__":
    main()
