"""`seg calibrate`: biases of the logits that a trained network decides better with.

A checkpoint carries them as `calibration`: {"logit_bias": nats, one a logit, "temperature": T}, and
the IoU of each class without and, on images they were not fitted to, with them: "iou" and
"iou_biased".
"""

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import ArgumentParser, Namespace

from seg.calibration import Fit, calibrate
from seg.checkpoint_files.classes import check_classes
from seg.checkpoint_files.contents import read_checkpoint, read_config
from seg.cli.data_parser import data_parser
from seg.cli.given_values import root_from_environment
from seg.cli.precision import stored_precision
from seg.data import SegmentationDataModule
from seg.errors import InputError
from seg.files import refuse_overwriting, replacing
from seg.lifecycle.checkpoint import load_module
from seg.report.terminal import UNDEFINED, print_lines, print_table


def main(args: list[str]) -> int:
    """Calibrate a checkpoint on the validation split; returns the exit status.

    Raises:
        InputError: If the checkpoint or the data cannot be read, or a setting does not fit them.
    """
    config = _parser().parse_args(args)
    if config.ckpt_path is None:
        raise InputError("seg calibrate needs a trained network: give --ckpt_path FILE.")
    path = Path(config.ckpt_path)
    if config.remove:
        target = Path(config.output or path)
        if config.output is not None:
            refuse_overwriting([target], [path], lambda path: False)
        lines = [f"Without calibration: {_rewrite(path, target, None)}"]
    else:
        target = Path(config.output or path.with_name(f"{path.stem}-calibrated.ckpt"))
        refuse_overwriting([target], [path], _is_calibrated)
        lines = _calibrate(config, args, target)
    print_lines(lines)
    return 0


def _calibrate(config: Namespace, args: Sequence[str], target: Path) -> list[str]:
    """Calibrate, print the table and write the checkpoint; what else there is to say."""
    trust = [config.trust] if isinstance(config.trust, str) else config.trust
    module = load_module(config.ckpt_path, trust)
    data = _data(config.ckpt_path, trust, args)
    check_classes(module.class_names, data.class_names)
    priors = None if config.priors is None else _priors(config.priors, module.class_names)
    precision = stored_precision(config.ckpt_path)  # in which `seg validate` will judge it
    found = calibrate(module, data, config.rarest, priors, precision)
    lines = [f"temperature {found.temperature:.3f}"]
    if found.fit is not None:
        lines += _said_of(found.fit)
        lines += [_in_sample(found.iou)] if found.fit.gain > 0 else []
        columns: dict[str, Any] = {"IoU": found.fit.before, "calibrated": found.fit.after}
    else:
        columns = {"prior": priors}
    errors = {"ECE": found.errors[0], f"ECE at T={found.temperature:.2f}": found.errors[1]}
    _print_table(module.class_names, {"bias": found.bias, **columns, **errors})
    _rewrite(config.ckpt_path, target, found.record)
    lines.append(f"Written: {target}")
    return [*lines, f"Judge it on the test split: seg test --ckpt_path {target}"]


def _is_calibrated(path: Path) -> bool:
    try:
        return "calibration" in read_checkpoint(path)
    except InputError:
        return False


def _said_of(fit: Fit) -> list[str]:
    which = "all classes" if len(fit.classes) == len(fit.bias) else f"{len(fit.classes)} classes"
    gain = (
        f"mean IoU of {which} {fit.gain:+.4f} (standard error {fit.error:.4f}) on images that the "
        "biases were not fitted to"
    )
    if fit.gain <= 0:
        return [gain, "No bias gains more than its standard error: none is stored."]
    rest = "; the rest gains less than its standard error" if fit.share < 1 else ""
    return [gain, f"{fit.share:.1%} of the best biases are stored{rest}."]


def _in_sample(iou: Any) -> str:
    """Why `seg validate` of what is written has another mean than the table."""
    return (
        f"seg validate of the new checkpoint gives mean IoU {_cell('IoU', _mean(iou))}: it scores "
        "images that its biases were fitted to, and the table images that they were not fitted to."
    )


def _parser() -> ArgumentParser:
    parser = data_parser("calibrate", "Biases that a trained network decides better with.")
    parser.add_argument("--ckpt_path", type=str | None, help="The checkpoint; it stays as it is.")
    parser.add_argument("--output", type=str | None, help="Default: beside it, -calibrated.ckpt.")
    parser.add_argument(
        "--rarest",
        type=int | None,
        help="Make best the mean IoU of so many of the rarest classes, not of all.",
    )
    parser.add_argument(
        "--priors",
        type=dict[str, float] | list[float] | None,
        help="Share of each class's pixels where the network will be used, instead of a search.",
    )
    parser.add_argument("--remove", action="store_true", help="Take the calibration out again.")
    parser.add_argument(
        "--trust", type=str | list[str], default=[], help="Packages of classes it may name."
    )
    return parser


def _data(path: str, trust: Sequence[str], args: Sequence[str]) -> SegmentationDataModule:
    """The data of the checkpoint, with what the arguments change."""
    stored = {**read_config(path, trust)["data"], "predict": None}
    given = ["--config", json.dumps({"data": stored}), *root_from_environment(args, stored), *args]
    parser = _parser()
    data = parser.instantiate(parser.parse_args(given)).data
    assert isinstance(data, SegmentationDataModule)
    return data


def _priors(given: dict[str, float] | list[float], class_names: Sequence[str]) -> Any:
    """Shares in the order of the classes."""
    if isinstance(given, list):
        return np.array(given)
    if set(given) != set(class_names):
        raise InputError(
            f"--priors names {sorted(given)}; expected a share for each of {list(class_names)}."
        )
    return np.array([given[name] for name in class_names])


def _print_table(class_names: Sequence[str], columns: dict[str, Any]) -> None:
    """A row a class and one of means, for what has a mean."""
    means = (
        "" if heading in ("bias", "prior") else _cell(heading, _mean(values))
        for heading, values in columns.items()
    )
    rows = (
        (name, *(_cell(h, values[row]) for h, values in columns.items()))
        for row, name in enumerate(class_names)
    )
    print_table("calibration", list(columns), rows, ("mean", *means))


def _mean(values: Any) -> float:
    """As the scores of an evaluation have it, to the last digit."""
    return torch.as_tensor(values).nanmean().item()


def _cell(heading: str, value: float) -> str:
    if np.isnan(value):
        return UNDEFINED
    if heading == "bias":
        return f"{value:+.3f}"
    return f"{value:.3f}" if heading in ("IoU", "calibrated") else f"{value:.4f}"  # as in scores


def _rewrite(source: str | Path, target: Path, calibration: dict[str, Any] | None) -> Path:
    """Write a checkpoint again with another calibration, or with none."""
    checkpoint = read_checkpoint(source)
    checkpoint.pop("calibration", None)
    if calibration is not None:
        checkpoint["calibration"] = calibration
    whole = BytesIO()  # of a full disk torch's writer says nothing that can be understood
    torch.save(checkpoint, whole)
    with replacing(target, durable=True) as path:
        path.write_bytes(whole.getbuffer())
    return target
