"""`seg fit | validate | test | predict`: a LightningCLI over one YAML."""

import os
import shlex
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from seg.checkpoint_files.classes import refuse_other_classes
from seg.checkpoint_files.contents import read_checkpoint
from seg.checkpoint_files.stored_config import check_own_config
from seg.cli.class_arguments import kept_apart
from seg.cli.command_table import COMMANDS, CONFIG, DESCRIPTION
from seg.cli.linking import link_network, with_checkpoint_config
from seg.cli.monitors import check_monitors, check_trainer
from seg.cli.parsers import CommandParser
from seg.cli.precision import link_precision
from seg.cli.refusals import refusals_in_one_line
from seg.data import SegmentationDataModule, resolve_class_colors, resolve_class_names
from seg.distributed.launchers import started_by_lightning
from seg.distributed.uneven_evaluation import UnevenEvaluation
from seg.distributed.watchdog import Watchdog
from seg.errors import InputError
from seg.lifecycle.checkpoint import run_folder
from seg.lifecycle.final_validation import FinalValidation
from seg.lifecycle.resuming import ExactResume
from seg.lifecycle.run_checkpoint import (
    RunCheckpoint,
    refuse_checkpoints,
    refuse_to_overwrite,
    save_when_measured,
)
from seg.lifecycle.run_config import RunConfig
from seg.lifecycle.run_folder import run_loggers
from seg.lifecycle.saving import with_atomic_saving
from seg.lifecycle.signals import StopOnSignal
from seg.lightning_compat.parsers import known_classes, known_options, option_of
from seg.module import SegmentationModule
from seg.networks import hub_in_one_line
from seg.prediction.label_images import PredictionWriter
from seg.report.callbacks import RunReport
from seg.report.end_of_fit import print_end_of_fit
from seg.report.progress import progress
from seg.report.provenance import (
    Provenance,
    data_named,
    refuse_results_of_others,
    results_folder,
    write_provenance,
)
from seg.training.preflight import check_finders

DEFAULT_NETWORK: dict[str, Any] = {
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


class RunParser(CommandParser, LightningArgumentParser):
    """That of a command that LightningCLI runs."""

    checked = False

    def validate(self, *args: Any, **kwargs: Any) -> None:
        """As jsonargparse's, until all is parsed; Lightning asks again whenever it writes it."""
        if not self.checked:
            super().validate(*args, **kwargs)


class SegCLI(LightningCLI):
    """LightningCLI that links data, network and loss, and reads a checkpoint's configuration."""

    def __init__(self, args: Sequence[str], watchdog: Watchdog):
        self.watchdog = watchdog
        self._args = args
        self._name = args[0] if args else ""
        self.status = 0
        summaries = {name: {"description": COMMANDS[name].summary} for name in self.subcommands()}
        super().__init__(
            SegmentationModule,
            SegmentationDataModule,
            args=list(args),
            seed_everything_default=0,
            save_config_callback=RunConfig,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "max_epochs": 20,
                "use_distributed_sampler": False,
                "log_every_n_steps": 10,
            },
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={"prog": "seg", "description": DESCRIPTION, **summaries},
            parser_class=RunParser,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # static there
        """The command that was given alone, as each one's parser takes a second to be made."""
        every = super().subcommands()
        return {self._name: every[self._name]} if self._name in every else every

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what is not the Trainer's, the module's or the data's, and the links."""
        parser.add_argument(
            "--trust",
            type=str | list[str],
            default=[],
            help="Further packages whose classes a checkpoint may name, such as your own.",
        )
        loss = {"class_path": "seg.losses.CrossEntropyLoss"}
        parser.set_defaults({"model.network": DEFAULT_NETWORK, "model.loss": loss})
        option_of(parser, "config").help = CONFIG
        # of thousands of known modules, the help would list all
        option_of(parser, "model.network").extra_help = lambda: ", any torch.nn.Module"
        names = ("data.root", "data.class_names", "data.dataset")
        parser.link_arguments(names, "model.class_names", compute_fn=resolve_class_names)
        colors = ("data.root", "data.class_colors", "data.dataset")
        parser.link_arguments(colors, "model.class_colors", compute_fn=resolve_class_colors)
        parser.link_arguments("data.in_channels", "model.in_channels")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "fit":
            help_text = "Name of the run: its files go to runs/NAME/version_N. Default: the data's."
            parser.add_argument("--name", type=str | None, default=None, help=help_text)
            parser.add_argument(
                "--class_curves",
                type=bool,
                default=False,
                help="Give all loggers each class's curves, also for more than 30 classes.",
            )
            parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
            parser.set_defaults({f"checkpoint.{k}": v for k, v in CHECKPOINTS.items()})
        else:
            help_text = "Folder of the results. Left out, COMMAND/CHECKPOINT in the run's folder."
            parser.add_argument("--output", type=str | None, default=None, help=help_text)
        if subcommand in ("validate", "test"):
            parser.set_defaults({"verbose": False})  # the table of classes says it all
        self.parser.family.append(parser)  # type: ignore[attr-defined]
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, a checkpoint's own configuration first, so that files and flags win over it."""
        assert isinstance(args, list)
        with kept_apart(DEFAULT_NETWORK["init_args"]), known_options():
            self.config = parser.parse_args(with_checkpoint_config(args))
        for known in (parser, *parser.family):  # type: ignore[attr-defined]
            known.checked = True
        config = self.config[self.config.subcommand]
        if config.seed_everything is True:
            config.seed_everything = _seed(True)

    def _parse_ckpt_path(self) -> None:
        """Leave out Lightning's own reading, which would let the checkpoint win over the flags."""

    def before_instantiate_classes(self) -> None:
        """Link what depends on the classes chosen, and keep the configuration as it then is."""
        config = self.config[self.subcommand]
        if self.subcommand == "fit":
            check_trainer(config.trainer)
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
            stored = read_checkpoint(config.ckpt_path).get("class_names")
            refuse_other_classes(stored, config.model.class_names)
        link_network(config.model, config.ckpt_path is not None)
        link_precision(config.trainer, str(self.subcommand), config.ckpt_path)

    def instantiate_classes(self) -> None:
        """Instantiate; the module gets the configuration that its checkpoints will carry."""
        with known_options():
            self._dump_config()
        if self.subcommand == "fit":
            check_own_config(self.config_dump)
        with hub_in_one_line(), known_options(), refusals_in_one_line():
            super().instantiate_classes()
        if self.subcommand == "predict":
            self.datamodule.predict_output = self._output
        self.model.run_config = self.config_dump

    @cached_property
    def _output(self) -> Path:
        """Folder of the results of an evaluation."""
        config, command = self.config[self.subcommand], str(self.subcommand)
        if config.output:
            refuse_results_of_others(Path(config.output), self._provenance)
            return Path(config.output)
        return results_folder(run_folder(config.ckpt_path), command, self._provenance)

    @cached_property
    def _provenance(self) -> Provenance:
        """What tells later where the results of an evaluation come from."""
        config = self.config[self.subcommand]
        data = config.data
        splits = {"validate": data.val_split, "test": data.test_split, "predict": "predict"}
        return {
            "command": shlex.join(["seg", *self._args]),
            "checkpoint": str(Path(config.ckpt_path).resolve()),
            "data": data_named(data, self.subcommand == "predict"),
            "split": splits[str(self.subcommand)],
        }

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give the Trainer a folder for the run, and the callbacks that write into it."""
        if self.subcommand == "fit":
            callbacks = self._prepare_fit(kwargs)
        else:
            kwargs |= {"logger": False, "enable_checkpointing": False}
            report = RunReport(self._output, provenance=self._provenance)
            callbacks = [UnevenEvaluation(), report]
            if self.subcommand == "predict":
                first = partial(write_provenance, self._output, self._provenance)
                self._writer = PredictionWriter(self._output, first)
                callbacks = [UnevenEvaluation(), self._writer]
        options, shown = progress(self._get(self.config_init, "trainer"), self.subcommand == "fit")
        kwargs |= options
        self.trainer_defaults["callbacks"] = callbacks + shown
        trainer = super().instantiate_trainer(**kwargs)
        check_finders(trainer, self.datamodule)
        if self.subcommand == "fit":
            ExactResume().attach(trainer)
        self.watchdog.guard(trainer)
        StopOnSignal().attach(trainer)
        return trainer

    def _prepare_fit(self, kwargs: dict[str, Any]) -> list[Callback]:
        """Fill in what a run writes itself; its callbacks."""
        given = self._get(self.config_init, "trainer")
        kwargs["plugins"] = with_atomic_saving(given.plugins, given.strategy)
        kwargs["logger"] = run_loggers(self.config[self.subcommand], given.logger)
        if self._checkpoint is None:
            refuse_checkpoints(given.callbacks)
            self._parser(self.subcommand).callback_keys.remove("checkpoint")
        self._report = RunReport(checkpoint=self._checkpoint)
        return [UnevenEvaluation(), FinalValidation(), self._report, LearningRateMonitor()]

    @property
    def _checkpoint(self) -> RunCheckpoint | None:
        """What saves the run's checkpoints, unless it saves none."""
        if self._get(self.config_init, "trainer").enable_checkpointing is False:
            return None
        checkpoint = self._get(self.config_init, "checkpoint")
        assert isinstance(checkpoint, RunCheckpoint)
        return checkpoint

    def before_fit(self) -> None:
        """Refuse to watch what is never logged, and to save a score with other weights."""
        check_monitors(self.trainer, self.model)
        for callback in self.trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint):
                save_when_measured(callback, self.trainer)
                refuse_to_overwrite(callback, self.trainer, self.config.fit.ckpt_path)
                if self.trainer.fast_dev_run:  # type: ignore[attr-defined]
                    callback.save_last = False  # which Lightning does at the end of a trial as well

    def after_predict(self) -> None:
        """Take the exit status from what was written."""
        # with another one, those that Lightning has started would kill the first process
        self.status = 0 if started_by_lightning() else self._writer.status

    def after_fit(self) -> None:
        """Print the scores of the weights that were kept and what can be done next."""
        if self.trainer.is_global_zero:
            print_end_of_fit(self.trainer, self._report, self._checkpoint)


def _seed(given: bool | int) -> int:
    """The seed that stands for a value of `seed_everything`; of true, the environment's or 0."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0)) if given is True else int(given)


def main(args: list[str]) -> int:
    """Run a command of the Trainer, given by its name and arguments; returns the exit status."""
    with Watchdog() as watchdog, known_classes(), refusals_in_one_line(running=True):
        return SegCLI(args, watchdog).status
