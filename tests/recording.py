"""A callback that notes which samples each training step gets."""

import hashlib
import json
from pathlib import Path

import lightning as L


class Recorder(L.Callback):
    """Appends to FOLDER/RANK, a line a step: its number, and name and digest of each sample.

    Args:
        folder: Made where it is missing.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        digests = {
            name: hashlib.sha256(image.numpy().tobytes() + mask.numpy().tobytes()).hexdigest()
            for name, image, mask in zip(batch["name"], batch["image"], batch["mask"], strict=True)
        }
        self.folder.mkdir(exist_ok=True)
        with (self.folder / str(trainer.global_rank)).open("a") as file:
            file.write(json.dumps([trainer.global_step, digests]) + "\n")
