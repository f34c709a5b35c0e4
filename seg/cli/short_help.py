"""What `seg COMMAND --help` says: the options that people set. `--help-all` says all.

It is written down here, so that the answer does not wait for torch to be imported. The tests
compare it with the parsers.
"""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any, NamedTuple

from seg.cli.command_table import COMMANDS, CONFIG

OF_RUN = ""
"""The default of an option that is the run's own."""
_COLUMNS = 80
_WITHOUT_YAML = ("init", "export", "compare")
_GIVEN = {"init": "FOLDER ", "compare": "RUN RUN... "}
"""What a command takes without a name."""


class Option(NamedTuple):
    """An option as the help shows it.

    Args:
        name: As in a YAML, without dashes; in capitals where it is given without its name.
        default: Its value where it is left out; of a class, its path. `OF_RUN` where a checkpoint
            carries it.
        says: What it sets, in a sentence or two.
    """

    name: str
    default: Any
    says: str


Sections = Mapping[str, Sequence[Option]]

_CONFIG = Option("config", None, CONFIG)
_CKPT = Option("ckpt_path", None, "The checkpoint: checkpoints/best.ckpt of a run.")
_TRUST = Option("trust", [], "Further packages whose classes the checkpoint may name.")
_OUTPUT = Option("output", None, "Folder for the results. Left out, beside the run.")
_ROOT = Option("data.root", None, "Folder of the data.")
_ANY_ROOT = _ROOT._replace(says="Folder of the data; left out, a generated set.")
_FILES = (
    Option("data.images", "images/{split}", "Folder of the images below the root."),
    Option("data.masks", "masks/{split}", "Folder of the masks, or their names."),
)
_NAMES = Option("data.class_names", None, "The name of each class, in the order of the ids.")
_LABEL_MAP = Option("data.label_map", None, "Value in the masks: class id, or ignore.")
_FRACTIONS = Option("data.split_fractions", None, "Shares, such as {train: 0.8, val: 0.2}.")
_RESIZE = Option("data.resize", None, "Height and width of all images, [h, w].")
_WORKERS = Option("data.num_workers", None, "Loader processes. Left out, by the CPU cores.")
_ACCELERATOR = Option("trainer.accelerator", "auto", "cpu, gpu, mps, or what is there.")
_DEVICES = Option("trainer.devices", "auto", "How many of them, or which, as [0, 2].")
_PRECISION = Option(
    "trainer.precision", None, "bf16-mixed, 16-mixed or 32. Left out, by the device."
)
_MASKS = (_NAMES, *_FILES, _LABEL_MAP)
_EVAL_BATCH = Option("data.eval_batch_size", 8, "Most images of a batch on each device.")
_AS_RUN = _PRECISION._replace(says="bf16-mixed, 16-mixed or 32. Left out, as the run had it.")
_TRAINER = (_ACCELERATOR, _DEVICES, _AS_RUN)
_OTHER = "data, where it is not the run's"


def _of_run(*options: Option) -> tuple[Option, ...]:
    return tuple(option._replace(default=OF_RUN) for option in options)


_FIT: Sections = {
    "data": (
        _ANY_ROOT,
        *_MASKS,
        _FRACTIONS,
        _RESIZE,
        Option("data.crop_size", [128, 128], "Height and width of the training crops."),
        Option("data.batch_size", 8, "Images of one optimiser step, over all devices."),
        Option(
            "data.sampler",
            None,
            "Shows rare classes more often, such as seg.data.ClassFirstSampler.",
        ),
        _WORKERS,
    ),
    "network": (
        Option(
            "model.network",
            "segmentation_models_pytorch.Unet",
            "Class of the network: of this library, or any torch.nn.Module.",
        ),
        Option("model.network.encoder_name", "resnet18", "Its encoder; tu-NAME is one of timm."),
        Option("model.encoder_weights", None, "Pretrained weights: a file, or imagenet."),
        Option("model.init_from", None, "Checkpoint of another run to start from."),
        Option("model.freeze_encoder_epochs", 0, "Epochs in which only the decoder learns."),
        Option("model.micro_batch_size", None, "Images at a time, where memory is short."),
    ),
    "loss": (
        Option(
            "model.loss",
            "seg.losses.CrossEntropyLoss",
            "Class of the loss. `seg configs` lists a recipe of each.",
        ),
        Option(
            "model.loss.weight",
            None,
            "Weights of the classes: a list, or a policy such as median_frequency.",
        ),
    ),
    "optimiser": (
        Option("model.optimizer", "torch.optim.AdamW", "Class of the optimiser."),
        Option("model.optimizer.lr", 0.001, "Learning rate."),
        Option(
            "model.lr_scheduler",
            "seg.training.schedules.PolynomialDecay",
            "Class of the schedule, stepped after each optimiser step.",
        ),
    ),
    "trainer": (
        Option("trainer.max_epochs", 20, "Epochs to train."),
        _ACCELERATOR,
        _DEVICES,
        _PRECISION,
    ),
    "run": (
        Option("name", None, "Name of the run: its files go to runs/NAME."),
        Option("ckpt_path", None, "Checkpoint of a run to resume."),
        Option("checkpoint.monitor", "val/miou", "Score that decides which epoch is the best."),
        Option("seed_everything", 0, "Seed of the run."),
    ),
}

_EVALUATION: Sections = {
    "checkpoint": (_CKPT, _TRUST),
    _OTHER: _of_run(_ROOT, *_MASKS, _RESIZE, _EVAL_BATCH, _WORKERS),
    "intervals": _of_run(
        Option("data.group", None, "As group of seg split: images of one count as one.")
    ),
    "trainer": _TRAINER,
    "results": (_OUTPUT,),
}

_PREDICTION: Sections = {
    "images": (
        Option("data.predict", None, "A folder, a file, or a list of either."),
        *_of_run(_EVAL_BATCH, _WORKERS),
    ),
    "checkpoint": (_CKPT, _TRUST),
    "trainer": _TRAINER,
    "results": (_OUTPUT,),
}

SHORT: dict[str, Sections] = {
    "init": {
        "data": (Option("FOLDER", None, "Of images and masks; nothing in it is changed."),),
        "results": (
            Option("output", "mine.yaml", "The YAML that is written."),
            Option("overwrite", False, "Write it though it exists."),
        ),
    },
    "fit": _FIT,
    "validate": _EVALUATION,
    "test": _EVALUATION,
    "predict": _PREDICTION,
    "audit": {
        "data": (_ANY_ROOT, *_MASKS, _FRACTIONS),
        "results": (Option("output", "audit", "Folder of audit.html and recommended.yaml."),),
    },
    "split": {
        "data": (_ROOT, *_MASKS),
        "splits": (
            Option("fractions", {"train": 0.7, "val": 0.15, "test": 0.15}, "Share of each split."),
            Option(
                "group",
                None,
                "Regular expression: images with the same first group, such as a patient, stay "
                "together.",
            ),
            Option("min_images", 1, "Images of each class in each split."),
            Option("seed", 0, "Seed of the order of what is equal."),
            Option("output", "splits", "Folder of the lists."),
        ),
    },
    "calibrate": {
        "checkpoint": (
            _CKPT,
            Option("output", None, "The new one. Left out, beside it as -calibrated.ckpt."),
            Option("remove", False, "Take the calibration out again."),
            _TRUST,
        ),
        "aim": (
            Option("rarest", None, "Improve so many of the rarest classes, not all."),
            Option("priors", None, "Share of each class where the network will be used."),
        ),
        _OTHER: _of_run(_ROOT, *_MASKS, _WORKERS),
    },
    "compare": {
        "runs": (
            Option(
                "RUNS",
                None,
                "Folders with per_image.csv, of seg test or seg fit; the first is compared with. "
                "Several seeds of a recipe: NAME=FOLDER,FOLDER.",
            ),
        ),
        "results": (
            Option("output", "compare", "Folder of compare.json and compare.csv."),
            Option("seed", 0, "Seed of the images that are drawn again."),
        ),
    },
    "export": {
        "checkpoint": (_CKPT, _TRUST),
        "results": (
            Option("size", None, "Height and width of the images. Left out, data.resize."),
            Option("output", None, "The file. Left out, beside the checkpoint as .pt2."),
        ),
    },
}
"""Sections of options, by command and the group's heading."""


def short_help(command: str) -> str:
    """What `seg COMMAND --help` prints, in at most 80 columns."""
    groups = SHORT[command]
    width = 4 + max(len(option.name) for options in groups.values() for option in options)
    given = _GIVEN.get(command, "")
    lines = [f"usage: seg {command} {given}[--OPTION VALUE]...", "", COMMANDS[command].summary]
    if command not in _WITHOUT_YAML:
        lines += ["", *_lines(_CONFIG, width)]
    for heading, options in groups.items():
        lines += ["", f"{heading}:"]
        lines += [line for option in options for line in _lines(option, width)]
    return "\n".join([*lines, "", f"`seg {command} --help-all` lists every option."])


def _lines(option: Option, width: int) -> list[str]:
    is_shown = option.default is not False and option.default not in (None, [], OF_RUN)
    default = f" Default: {_text(option.default)}." if is_shown else ""
    text = wrap(f"{option.says}{default}", _COLUMNS - width - 4, break_on_hyphens=False)
    dashes = "-c, --" if option is _CONFIG else "" if option.name.isupper() else "--"
    name = f"{dashes}{option.name}"
    names = [name, *[""] * (len(text) - 1)]
    return [f"  {name:{width}}{line}" for name, line in zip(names, text, strict=True)]


def _text(default: Any) -> str:
    """A default as one writes it on the command line."""
    return str(default).replace("'", "")
