"""What `seg --help` says of the commands."""

from typing import Any

SUMMARIES = {
    "fit": "Train or fine-tune a network; --ckpt_path resumes a run.",
    "validate": "Score a checkpoint on the validation split.",
    "test": "Score a checkpoint on the test split.",
    "predict": "Write the labels that a checkpoint gives to images.",
}

CONFIG = "A YAML, or the name of one that is shipped: `seg configs` lists them."

HELP: dict[str, Any] = {
    "prog": "seg",
    "description": "Train, fine-tune and judge segmentation networks on rare classes.",
    "epilog": (
        "Further commands, each with its own --help: seg audit (how imbalanced a data set is, and "
        "what to set), seg split (lists of splits that all show every class), seg calibrate (what "
        "a trained network gains from biases of its logits), seg export (a trained network as a "
        "program of torch alone), seg configs (the YAMLs that -c takes by name), seg doctor ("
        "versions and devices, for a bug report)."
    ),
}
