"""The command line: `seg fit | validate | test | predict`, a LightningCLI over one YAML."""

import csv
import inspect
import json
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from rich.console import Console

from seg.checkpoint import read_config, run_folder, steps_done
from seg.data import SegmentationDataModule, resolve_class_colors, resolve_class_names
from seg.errors import InputError
from seg.module import SegmentationModule
from seg.networks import hub_normalisation, is_weight_file
from seg.report.callbacks import PredictionWriter, RunReport
from seg.report.tables import print_per_class

COMMANDS: dict[str, Callable[[list[str]], int]] = {}
"""Subcommands beside the Trainer's: from the arguments after the name to an exit status."""

DEFAULT_NETWORK = {
    "class_path": "segmentation_models_pytorch.Unet",
    "init_args": {"encoder_name": "resnet18", "encoder_weights": None},
}
CHECKPOINTS = {
    "monitor": "val/miou",
    "mode": "max",
    "filename": "best",
    "save_last": True,
    "enable_version_counter": False,
}

_OF_NO_USE = (
    ".isinstance.treespec, LeafSpec",  # between lightning 2.6 and torch 2.14
    ".*callbacks used to create the checkpoint need to be provided",  # evaluation needs none
    "Checkpoint directory .* exists and is not empty",  # of a run that is resumed
)


class SegCLI(LightningCLI):
    """LightningCLI that links data, network and loss, and reads a checkpoint's configuration."""

    def __init__(self, args: Sequence[str]):
        super().__init__(
            SegmentationModule,
            SegmentationDataModule,
            args=list(args),
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "max_epochs": 20,
                "use_distributed_sampler": False,
                "log_every_n_steps": 10,
            },
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={
                "prog": "seg",
                "description": "Train, fine-tune and judge segmentation networks on rare classes.",
            },
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what is not the Trainer's, the module's or the data's, and the links."""
        parser.add_argument(
            "--trust",
            type=list[str],
            default=[],
            help="Further packages whose classes a checkpoint may name, such as your own.",
        )
        loss = {"class_path": "seg.losses.CrossEntropyLoss"}
        parser.set_defaults({"model.network": DEFAULT_NETWORK, "model.loss": loss})
        names = ("data.root", "data.class_names")
        parser.link_arguments(names, "model.class_names", compute_fn=resolve_class_names)
        colors = ("data.root", "data.class_colors")
        parser.link_arguments(colors, "model.class_colors", compute_fn=resolve_class_colors)
        parser.link_arguments("data.in_channels", "model.in_channels")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "fit":
            help_text = "Name of the run: its files go to runs/NAME/version_N. Default: the data's."
            parser.add_argument("--name", type=str | None, default=None, help=help_text)
            parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
            parser.set_defaults({f"checkpoint.{k}": v for k, v in CHECKPOINTS.items()})
        else:
            help_text = "Folder for the results. Default: beside the checkpoint's run."
            parser.add_argument("--output", type=str | None, default=None, help=help_text)
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, a checkpoint's own configuration first, so that files and flags win over it."""
        assert isinstance(args, list)
        self.config = parser.parse_args(with_checkpoint_config(args))

    def _parse_ckpt_path(self) -> None:
        """Leave out Lightning's own reading, which would let the checkpoint win over the flags."""

    def before_instantiate_classes(self) -> None:
        """Link what depends on the classes chosen, and keep the configuration as it then is."""
        config = self.config[self.subcommand]
        if self.subcommand != "fit":
            self.save_config_callback = None
            if config.ckpt_path is None:
                raise InputError(
                    f"seg {self.subcommand} needs a trained network: give --ckpt_path FILE."
                )
        if self.subcommand == "predict" and config.data.predict is None:
            raise InputError("seg predict needs images: give --data.predict FOLDER_OR_FILES.")
        if config.ckpt_path is not None:
            config.model.init_from = None
        link_network(config.model, config.ckpt_path is not None)

    def instantiate_classes(self) -> None:
        """Instantiate; the module gets the configuration that its checkpoints will carry."""
        super().instantiate_classes()
        self._dump_config()
        self.model.run_config = self.config_dump

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give the Trainer a folder for the run, and the callbacks that write into it."""
        config = self.config[self.subcommand]
        callbacks: list[Any]
        if self.subcommand == "fit":
            callbacks = [RunReport()]
            if config.trainer.logger in (None, True):
                kwargs["logger"] = run_loggers(config)
                callbacks.append(LearningRateMonitor())
        else:
            kwargs |= {"logger": False, "enable_checkpointing": False}
            output = Path(config.output or run_folder(config.ckpt_path) / str(self.subcommand))
            writer = PredictionWriter if self.subcommand == "predict" else RunReport
            callbacks = [writer(output)]
        self.trainer_defaults["callbacks"] = callbacks
        return super().instantiate_trainer(**kwargs)

    def after_fit(self) -> None:
        """Print the best validation's table and what can be done next."""
        report = next(c for c in self.trainer.callbacks if isinstance(c, RunReport))  # type: ignore[attr-defined]
        if self.trainer.is_global_zero and report.record is not None:
            print_per_class(report.record, title="validation split, best epoch")
            _print_next_steps(self.trainer)


def run_loggers(config: Namespace) -> list[Any]:
    """One CSV and one TensorBoard logger over the same folder `<root>/<name>/version_N`.

    The folder is a new one, unless a run is resumed from its own checkpoint: then it goes on there.
    """
    root = config.trainer.default_root_dir or "runs"
    name = config.name
    if name is None:
        name = Path(config.data.root).resolve().name if config.data.root else "quickstart"
    resumed = config.ckpt_path and run_folder(config.ckpt_path)
    if resumed and resumed.parent == (Path(root) / name).resolve():
        first = resumed_csv_logger(root, name, resumed.name, config.ckpt_path)
    else:
        first = CSVLogger(root, name)
    return [first, TensorBoardLogger(root, name, first.version, default_hp_metric=False)]


def resumed_csv_logger(root: str, name: str, version: str, checkpoint: str) -> CSVLogger:
    """A CSV logger that keeps what its file holds up to the checkpoint."""
    file = Path(root) / name / version / "metrics.csv"
    rows = list(csv.DictReader(file.read_text().splitlines())) if file.is_file() else []
    done = steps_done(checkpoint)
    logger = CSVLogger(root, name, version)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Experiment logs directory")  # it is meant to be there
        logger.experiment.metrics = [
            {key: value for key, value in row.items() if value}
            for row in rows
            if int(row["step"]) < done
        ]
    return logger


def link_network(model: Namespace, weights_given: bool) -> None:
    """Fill in what the network's constructor needs to know of the data and the loss.

    Args:
        model: The `model` part of the configuration, changed in place.
        weights_given: Whether a checkpoint's weights follow, so that none are fetched.

    Raises:
        InputError: If a value configured by hand contradicts the data.
    """
    if "init_args" not in model.network:
        model.network.init_args = Namespace()  # type: ignore[no-untyped-call]
    init_args = model.network.init_args
    parameters = inspect.signature(_import(model.network.class_path)).parameters
    logits = _import(model.loss.class_path).channels(len(model.class_names))
    for key, value in (("classes", logits), ("in_channels", model.in_channels)):
        if key in parameters:
            given = init_args.get(key)
            if given not in (None, value, parameters[key].default):
                raise InputError(
                    f"model.network.init_args.{key} is {given}, but the data and the loss need "
                    f"{value}; leave it out, it is filled in."
                )
            init_args[key] = value
    if "encoder_weights" in parameters:
        weights = model.encoder_weights or init_args.get("encoder_weights")
        from_file = weights is not None and is_weight_file(weights)
        fresh = weights_given or model.init_from is not None
        model.encoder_weights = weights if from_file and not fresh else None
        init_args.encoder_weights = None if from_file or fresh else weights
        if init_args.encoder_weights is not None and model.mean is None and model.std is None:
            model.mean, model.std = hub_normalisation(
                init_args.encoder_name, init_args.encoder_weights, model.in_channels
            )


def _import(class_path: str) -> Any:
    module, _, name = class_path.rpartition(".")
    return getattr(import_module(module), name)


def with_checkpoint_config(args: Sequence[str]) -> list[str]:
    """Put the configuration that a checkpoint carries before all other arguments.

    Everything for `fit --ckpt_path`, which resumes; network and data for validate, test and
    predict; the network alone for `--model.init_from`.
    """
    command, rest = (args[0], list(args[1:])) if args else ("", [])
    trust = [name for value in _values(rest, "trust") for name in yaml.safe_load(f"[{value}]")]
    given: list[str] = []
    for path in _values(rest, "model.init_from")[-1:]:
        given += _as_option({"model": _network_of(read_config(path, _flat(trust)))})
    for path in _values(rest, "ckpt_path")[-1:]:
        config = read_config(path, _flat(trust))
        if command != "fit":
            config = {"model": config["model"], "data": {**config["data"], "predict": None}}
        given += _as_option(config)
    return [command, *given, *rest] if args else []


def _flat(names: list[Any]) -> list[str]:
    return [n for name in names for n in (name if isinstance(name, list) else [name])]


def _as_option(config: dict[str, Any]) -> list[str]:
    return ["--config", json.dumps(config)]


def _network_of(config: dict[str, Any]) -> dict[str, Any]:
    model = config["model"]
    for key in ("classes", "in_channels"):
        model["network"].get("init_args", {}).pop(key, None)
    return {key: model[key] for key in ("network", "mean", "std") if model.get(key) is not None}


def _values(args: Sequence[str], key: str) -> list[str]:
    """The values given for an option, in configuration files first, on the command line last."""
    found: list[str] = []
    flags: list[str] = []
    for i, arg in enumerate(args):
        name, has_value, value = arg.partition("=")
        if not has_value and i + 1 < len(args):
            value = args[i + 1]
        if name in ("-c", "--config") and Path(value).is_file():
            found += _value_in(value, key)
        elif name in (f"--{key}", f"--{key}+"):
            flags.append(value)
    return [value for value in (*found, *flags) if value not in ("", "null")]


def _value_in(file: str, key: str) -> list[str]:
    value = yaml.safe_load(Path(file).read_text())
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return [] if value is None else [str(value)]


def _print_next_steps(trainer: Trainer) -> None:
    best = getattr(trainer.checkpoint_callback, "best_model_path", "")
    console = Console()
    lines = [f"The run's files: {trainer.log_dir}"]
    if best:
        lines.append(f"Judge it on the test split: seg test --ckpt_path {best}")
        lines.append(f"Label images: seg predict --ckpt_path {best} --data.predict FOLDER")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True, highlight=False)


def _show_messages() -> None:
    """Show what `seg` has to say, and not what only developers of its libraries can change."""
    logger = logging.getLogger("seg")
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)
    for message in _OF_NO_USE:
        warnings.filterwarnings("ignore", message)


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of the `seg` command; returns the exit status."""
    args = list(sys.argv[1:] if args is None else args)
    _show_messages()
    if args and args[0] in COMMANDS:
        return COMMANDS[args[0]](args[1:])
    try:
        SegCLI(args)
    except InputError as error:
        # a loader's worker wraps the message in its traceback
        message = str(error).rpartition("Error: ")[2]
        print(f"seg: error: {message}", file=sys.stderr)
        return 2
    return 0
