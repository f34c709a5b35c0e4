"""`seg export`: a trained network, with the biases it decides by, as a program of torch alone.

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
from pathlib import Path

import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from seg.checkpoint_files.contents import read_config
from seg.errors import InputError
from seg.files import refuse_overwriting, replacing
from seg.lifecycle.checkpoint import load_module
from seg.module import SegmentationModule
from seg.report.terminal import print_lines

CLASSES = "classes.json"
"""File in the program that has the names of its class ids, in their order."""


def main(args: list[str]) -> int:
    """Export a checkpoint; returns the exit status.

    Raises:
        InputError: If the checkpoint cannot be read, no size is known, or torch cannot trace the
            network at that size.
    """
    config = _parser().parse_args(args)
    if config.ckpt_path is None:
        raise InputError("seg export needs a trained network: give --ckpt_path FILE.")
    trust = [config.trust] if isinstance(config.trust, str) else config.trust
    height, width = config.size or _size(config.ckpt_path, trust)
    target = Path(config.output or Path(config.ckpt_path).with_suffix(".pt2"))
    refuse_overwriting([target], [config.ckpt_path], _is_program)
    module = load_module(config.ckpt_path, trust)
    program = export(module, height, width)
    with replacing(target) as path, path.open("wb") as file, _quiet():
        names = json.dumps(module.class_names)
        torch.export.save(program, file, extra_files={CLASSES: names})
    biased = "without biases" if module.logit_bias is None else "with the biases of seg calibrate"
    of = f"uint8 images (N, {module.in_channels}, {height}, {width}) to class ids, {biased}"
    load = f"torch.export.load({str(target)!r}).module()"
    print_lines([f"Written: {target}", f"From {of}: {load}"])
    return 0


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


def _is_program(path: Path) -> bool:
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


def _size(path: str, trust: Sequence[str]) -> tuple[int, int]:
    """Height and width that the run brought all its images to."""
    size = read_config(path, trust)["data"].get("resize")
    if not size:
        raise InputError(
            f"{path}: its run took images as large as they are; give the --size of those that the "
            "program is for, such as --size [480,640]."
        )
    height, width = size
    return int(height), int(width)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="seg export", description="A trained network as a program of torch alone."
    )
    parser.add_argument("--ckpt_path", type=str | None, help="The checkpoint.")
    parser.add_argument("--output", type=str | None, help="Default: beside it, .pt2.")
    parser.add_argument(
        "--size",
        type=tuple[int, int] | None,
        help="Height and width of the images. Default: the run's data.resize.",
    )
    parser.add_argument(
        "--trust", type=str | list[str], default=[], help="Packages of classes it may name."
    )
    return parser
