"""A trained network, with the biases it decides by, as a program of torch alone.

The program takes uint8 images (N, C_in, H, W) of one height and width, any number of them, and
gives class ids (N, H, W), uint8, and 255 where a logit is NaN: what `SegmentationModule.labels`
gives, normalisation and the biases of `seg calibrate` included. It needs neither `seg` nor the
network's package:

    torch.export.load("best.pt2").module()(images)
"""

import json
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from seg.errors import InputError
from seg.files import replacing
from seg.module import SegmentationModule

CLASSES = "classes.json"
"""File in the program that has the names of its class ids, in their order."""


def export(module: SegmentationModule, height: int, width: int) -> ExportedProgram:
    """The program from images (N, C_in, height, width) to class ids, for any N.

    Raises:
        InputError: If torch cannot trace the network.
    """
    if min(height, width) < 1:
        raise InputError(f"--size [{height}, {width}]: expected a height and a width in pixels.")
    images = torch.zeros(2, module.in_channels, height, width, dtype=torch.uint8)
    shapes = ({0: Dim("images", min=1)},)
    try:
        with _quiet():
            return torch.export.export(_Labels(module).eval(), (images,), dynamic_shapes=shapes)
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{type(module.network).__name__} cannot be exported for images of {height} x {width}: "
            f"{first}. A network must not branch on the values of its input, and may ask for a "
            "--size of which both sides divide by 32."
        ) from error


def write_program(path: str | Path, program: ExportedProgram, class_names: Sequence[str]) -> None:
    """Writes a program of `export` with the names of its class ids, as `classes.json` in it."""
    whole = BytesIO()  # as torch's writer ends the process where a disk is full
    with _quiet():
        torch.export.save(program, whole, extra_files={CLASSES: json.dumps(list(class_names))})
    with replacing(path) as temporary:
        temporary.write_bytes(whole.getbuffer())


def is_program(path: Path) -> bool:
    """Whether a file is a program with the names of its classes, as written here."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return any(name.endswith(f"/{CLASSES}") for name in file.namelist())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what torch warns of in its own tracing and saving."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Labels(nn.Module):
    """What is exported."""

    def __init__(self, module: SegmentationModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        return self.module.labels(images)
