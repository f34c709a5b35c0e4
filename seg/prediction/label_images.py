"""Labels as images: palette PNG whose values are class ids, seen in class colours."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import BasePredictionWriter
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from seg.constants import IGNORE_INDEX
from seg.data import SegmentationDataModule, SegmentationDataset
from seg.data.files.pairing import find_images
from seg.errors import InputError
from seg.files import refuse_overwriting, replacing
from seg.module import SegmentationModule
from seg.prediction.palette import Colors, default_colors, mask_palette

_WRITER = "seg predict"


class PredictionWriter(BasePredictionWriter):
    """Writes one palette PNG an image, class ids as values, at the image's own size.

    Args:
        folder: Where the files go; subfolders of the images are kept.
    """

    def __init__(self, folder: Path):
        super().__init__(write_interval="batch")
        self.folder = folder

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse to overwrite an image, or a file that is no prediction.

        Raises:
            InputError: Names the file; also one that would be no input only because of its folder.
        """
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, SegmentationDataModule):
            raise InputError(
                "PredictionWriter writes the images of a SegmentationDataModule with predict=…; "
                "of other data take what trainer.predict returns."
            )
        dataset = data.dataset("predict")
        assert isinstance(dataset, SegmentationDataset) and data.predict is not None
        pairs = dataset.pairs
        targets = [self._path(name) for name in pairs.names]
        left_out = set(find_images(data.predict).images) - set(pairs.images)
        refuse_overwriting([*targets, *sorted(left_out)], pairs.images, is_prediction)

    def _path(self, name: str) -> Path:
        return (self.folder / name).with_name(Path(name).name + ".png")

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        prediction: Any,
        batch_indices: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the labels of one batch.

        Raises:
            InputError: If a pixel has none, as a logit there is NaN.
        """
        assert isinstance(pl_module, SegmentationModule)
        for name, one in zip(batch["name"], prediction, strict=True):
            labels = one.cpu().numpy()
            missing = int((labels == IGNORE_INDEX).sum())
            if missing:
                raise InputError(
                    f"{name}: the network's logits are NaN at {missing} pixels, which have no "
                    "label then; nothing is written of it. Use --trainer.precision 32-true."
                )
            write_prediction(self._path(name), labels, class_colors(pl_module))

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say where the files lie."""
        if trainer.is_global_zero:
            print(f"Predictions written to {self.folder}")


def class_colors(module: SegmentationModule) -> list[list[int]]:
    """The RGB colours of the module's classes, made up where the data names none."""
    return module.class_colors or default_colors(len(module.class_names))


def write_prediction(path: str | Path, prediction: np.ndarray, colors: Colors) -> None:
    """Writes class ids as a palette PNG: the pixel values are the ids, seen in class colours.

    Args:
        path: The PNG file; its folder is made if missing.
        prediction: Class ids (H, W), `IGNORE_INDEX` where there is none.
        colors: One RGB colour a class.

    Raises:
        ValueError: If an id has no colour.
    """
    palette = mask_palette(prediction, colors)
    picture = Image.fromarray(prediction.astype(np.uint8))
    picture.putpalette(palette.tobytes())
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=_mark())


def is_prediction(path: str | Path) -> bool:
    """Whether a file was written by `write_prediction`, so that it may be written again."""
    try:
        with Image.open(path) as picture:
            return picture.info.get("Software") == _WRITER
    except (OSError, SyntaxError):  # no picture, or a damaged one
        return False


def _mark() -> PngInfo:
    info = PngInfo()
    info.add_text("Software", _WRITER)
    return info
