"""`seg export`: a trained network as a program of torch alone."""

from collections.abc import Sequence
from pathlib import Path

from seg.checkpoint_files.contents import read_config
from seg.cli.parsers import CommandParser
from seg.errors import InputError
from seg.files import refuse_overwriting
from seg.lifecycle.checkpoint import load_module
from seg.prediction.program import export, is_program, write_program
from seg.report.terminal import print_lines


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
    refuse_overwriting([target], [config.ckpt_path], is_program)
    module = load_module(config.ckpt_path, trust)
    write_program(target, export(module, height, width), module.class_names)
    biased = "without biases" if module.logit_bias is None else "with the biases of seg calibrate"
    of = f"uint8 images (N, {module.in_channels}, {height}, {width}) to class ids, {biased}"
    load = f"torch.export.load({str(target)!r}).module()"
    print_lines([f"Written: {target}", f"From {of}: {load}"])
    return 0


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


def _parser() -> CommandParser:
    parser = CommandParser(
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
