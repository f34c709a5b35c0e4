"""Data sets as a user writes them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset


class Pairs(Dataset):
    """Files of a folder, read with Pillow alone, as arrays."""

    def __init__(self, split: str, folder: str, with_sizes: bool = True) -> None:
        self.images = sorted((Path(folder) / "images" / split).iterdir())
        self.masks = sorted((Path(folder) / "masks" / split).iterdir())
        if with_sizes:
            self.sizes = [read(path).shape for path in self.masks]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return {"image": read(self.images[index]), "mask": read(self.masks[index])}


class Tensors(Pairs):
    """The same as tensors, channels first, under names of their own."""

    def __getitem__(self, index: int) -> dict:
        sample = super().__getitem__(index)
        image = torch.tensor(sample["image"]).permute(2, 0, 1)
        mask = torch.tensor(sample["mask"], dtype=torch.int64)
        return {"image": image, "mask": mask, "name": self.images[index].stem}


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)
