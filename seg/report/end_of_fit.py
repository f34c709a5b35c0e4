"""What is printed when a fit has ended: the scores of its weights, and what can be done next."""

import lightning as L

from seg.lifecycle.run_checkpoint import RunCheckpoint
from seg.report.callbacks import RunReport
from seg.report.tables import print_per_class
from seg.report.terminal import print_lines


def print_end_of_fit(
    trainer: L.Trainer, report: RunReport, checkpoint: RunCheckpoint | None
) -> None:
    """Prints the table of the best validation, where the files are, and commands to go on with.

    Args:
        trainer: Of the fit.
        report: Holds the figures.
        checkpoint: What saved the weights; None if they were not to be saved.
    """
    best = checkpoint.best_model_path if checkpoint is not None else ""
    path = best or (checkpoint.last_model_path if checkpoint is not None else "")
    if report.record is not None:
        which = "best epoch" if best else "last validation"
        print_per_class(report.record, title=f"validation split, {which}")
    print_lines(_lines(trainer, report, path))


def _lines(trainer: L.Trainer, report: RunReport, path: str) -> list[str]:
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return ["A trial by trainer.fast_dev_run: no file was written, no weights were kept."]
    lines = []
    if report.record is None:
        how = f"; to validate them: seg validate --ckpt_path {path}" if path else "."
        lines.append(f"No validation has scored these weights{how}")
    lines.append(f"The run's files: {report.folder}")
    if path:
        lines.append(f"Judge it on the test split: seg test --ckpt_path {path}")
        lines.append(f"Label images: seg predict --ckpt_path {path} --data.predict FOLDER")
    else:
        lines.append("No checkpoints were kept.")
    return lines
