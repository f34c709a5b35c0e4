"""What is wrong with the masks of a split, in one message."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from seg.data.files.headers import DataError, LabelError
from seg.data.files.pairing import report

_EXAMPLES = 3
_LABELS = 10


def told_together(faults: Sequence[DataError]) -> str:
    """Faults of masks: labels without a class by label, others by file.

    Args:
        faults: One a mask.
    """
    of_labels = [fault for fault in faults if isinstance(fault, LabelError)]
    others = [str(fault) for fault in faults if not isinstance(fault, LabelError)]
    if len(of_labels) < 2:
        return report([str(fault) for fault in faults])
    masks: dict[str, list[Path | str]] = defaultdict(list)
    for fault in of_labels:
        for label in fault.labels:
            masks[label].append(fault.path)
    most = sorted(masks, key=lambda label: -len(masks[label]))
    lines = [f"{len(of_labels)} masks hold labels that have no class:"]
    lines += [f"{label}: {_examples(masks[label])}" for label in most[:_LABELS]]
    text = "\n  - ".join(lines)
    if len(most) > _LABELS:
        text += f"\n  … and {len(most) - _LABELS} other labels"
    remedies = dict.fromkeys(fault.what for fault in of_labels)
    text += "".join(f"\nEach {what}" for what in remedies)
    return f"{text}\n{report(others)}" if others else text


def _examples(paths: Sequence[Path | str]) -> str:
    noun = "mask" if len(paths) == 1 else "masks"
    more = ", …" if len(paths) > _EXAMPLES else ""
    return f"{len(paths)} {noun}, such as {', '.join(map(str, paths[:_EXAMPLES]))}{more}"
