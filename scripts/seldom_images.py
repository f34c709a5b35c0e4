"""Writes generated images of which few show a rare class.

    python scripts/seldom_images.py FOLDER

512 images of 128 × 128 pixels each for training and validation: one in twenty shows bolts, another
one in twenty a crack, and no image both. Bolts are 0.05 % of the pixels, cracks as many.
"""

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

COUNT = 512
SHOWING = 26
BOLT, CRACK = 3, 4


def main(folder: Path) -> None:
    """Writes images/{split} and masks/{split}, of class ids."""
    for number, split in enumerate(("train", "val")):
        generator = np.random.default_rng([9, number])
        for index in range(COUNT):
            wanted = {0: {BOLT}, 1: {CRACK}}.get(index // SHOWING, set())
            image, mask = draw(generator, wanted)
            for kind, pixels in (("images", image[..., ::-1]), ("masks", mask)):
                path = folder / kind / split / f"{index:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), pixels)


def draw(generator: np.random.Generator, wanted: set[int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The next image, and its mask, whose rare classes are the wanted ones."""
    from seg.data.synthetic import draw_picture  # here: who asks for help need not wait for torch

    while True:
        image, mask = draw_picture((128, 128), generator)
        if {c for c in (BOLT, CRACK) if (mask == c).any()} == wanted:
            return image, mask


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    main(parser.parse_args().folder)
