"""Labels as images: palette PNG whose values are class ids, seen in class colours."""

import logging
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch.distributed as dist
from lightning.pytorch.callbacks import BasePredictionWriter
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from seg.constants import IGNORE_INDEX
from seg.data import SegmentationDataModule
from seg.data.files.pairing import report
from seg.data.files.predicted_images import find_images, told
from seg.errors import InputError
from seg.files import refuse_overwriting, replacing
from seg.module import SegmentationModule
from seg.prediction.palette import Colors, default_colors, mask_palette

log = logging.getLogger(__name__)

_WRITER = "seg predict"


class PredictionWriter(BasePredictionWriter):
    """Writes one palette PNG an image, class ids as values, at the image's own size.

    Args:
        folder: Where the files go; subfolders of the images are kept.
        before_first: Called by each rank before it writes its first file.
    """

    def __init__(self, folder: Path, before_first: Callable[[], Any] | None = None):
        super().__init__(write_interval="batch")
        self.folder = folder
        self._before_first = before_first
        self._faults: list[str] = []
        """Of each image that nothing was written of, why."""
        self._wanted = 0

    @property
    def status(self) -> int:
        """The exit status: 0 if all images were predicted, 2 if none was, else 3."""
        if not self._faults:
            return 0
        return 2 if len(self._faults) >= self._wanted else 3

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
        assert data.predict is not None
        names = data.predicted.pairs.names
        images = set(find_images(data.predict, self.folder).pairs.images)
        left_out = set(find_images(data.predict).pairs.images) - images
        targets = [*map(self._path, names), *sorted(left_out)]
        refuse_overwriting(targets, images, is_prediction)
        self._faults = []
        self._wanted = len(names) + len(data.predicted.unreadable)

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
        """Write the labels of one batch, but of images that could not be read or have none."""
        assert isinstance(pl_module, SegmentationModule)
        images = zip(batch["name"], batch["fault"], prediction, strict=True)
        for name, fault, one in images:
            labels = one.cpu().numpy()
            fault = fault or _without_label(name, labels)
            if fault:
                self._faults.append(fault)
                continue
            if self._before_first is not None:
                self._before_first()
                self._before_first = None
            write_prediction(self._path(name), labels, class_colors(pl_module))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Say where the files lie, and what is missing; all ranks, also those without images."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        of_ranks = [self._faults]
        if trainer.world_size > 1:
            of_ranks = [[] for _ in range(trainer.world_size)]
            dist.all_gather_object(of_ranks, self._faults)
        self._faults = [*data.predicted.unreadable, *sorted(chain(*of_ranks))]
        if not trainer.is_global_zero:
            return
        if data.predicted.others:
            log.info("%s.", told(data.predicted.others))
        if self._faults:
            print(f"seg: error: {_not_predicted(self._faults, self._wanted)}", file=sys.stderr)
        if self.status != 2:
            print(f"Predictions written to {self.folder}")


def _not_predicted(faults: Sequence[str], wanted: int) -> str:
    if len(faults) == 1:
        return f"1 of {wanted} images is not predicted: {faults[0]}"
    return report(faults, f"{len(faults)} of {wanted} images are not predicted:")


def _without_label(name: str, labels: np.ndarray) -> str:
    """What is wrong with labels (H, W) that are not given, as a logit there is NaN, or nothing."""
    missing = int((labels == IGNORE_INDEX).sum())
    if not missing:
        return ""
    return (
        f"{name}: the network's logits are NaN at {missing} pixels, which have no label then; "
        "nothing is written of it. Use --trainer.precision 32-true."
    )


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
