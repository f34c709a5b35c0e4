"""The commands of `seg`: what `seg --help` says of each, and the module that runs it."""

from typing import NamedTuple

TRAINER = "seg.cli.lightning_cli"


class Command(NamedTuple):
    """A command; its module is imported when the command is given, and not before.

    Args:
        summary: What it does, in one line of at most 64 letters.
        module: Has a `main`, from the arguments after the command's name to the exit status; that
            of `TRAINER` takes the name as well.
    """

    summary: str
    module: str


COMMANDS = {
    "init": Command("Write a YAML for a folder of images and masks.", "seg.cli.commands.init"),
    "fit": Command("Train or fine-tune a network; --ckpt_path resumes a run.", TRAINER),
    "validate": Command("Score a checkpoint on the validation split.", TRAINER),
    "test": Command("Score a checkpoint on the test split.", TRAINER),
    "predict": Command("Write the labels that a checkpoint gives to images.", TRAINER),
    "audit": Command(
        "Tell how imbalanced a data set is, and what to set.", "seg.cli.commands.audit"
    ),
    "split": Command("Write lists of splits that all show every class.", "seg.cli.commands.split"),
    "compare": Command(
        "Tell whether a run is better than another, with intervals.", "seg.cli.commands.compare"
    ),
    "calibrate": Command(
        "Find biases of a trained network's logits that gain IoU.", "seg.cli.commands.calibrate"
    ),
    "export": Command(
        "Write a trained network as a program of torch alone.", "seg.cli.commands.export"
    ),
    "configs": Command("List the YAMLs that -c takes by name.", "seg.cli.commands.configs"),
    "doctor": Command("Print versions and devices, for a bug report.", "seg.cli.commands.doctor"),
}
"""In the order in which `seg --help` lists them."""

CONFIG = "A YAML, or the name of one that is shipped: `seg configs` lists them."
DESCRIPTION = "Train, fine-tune and judge segmentation networks on rare classes."


def commands_help() -> str:
    """What `seg --help` prints."""
    width = max(map(len, COMMANDS)) + 2
    lines = (f"  {name:{width}}{command.summary}" for name, command in COMMANDS.items())
    return "\n".join(
        (
            "usage: seg COMMAND [options]",
            "",
            DESCRIPTION,
            "",
            "commands:",
            *lines,
            "",
            "`seg COMMAND --help` lists the options of a command.",
        )
    )
