"""Whether a checkpoint's classes are those of the data."""

import logging
from collections.abc import Sequence

from seg.errors import InputError

log = logging.getLogger(__name__)

_SHOWN = 12


def refuse_other_classes(stored: Sequence[str] | None, given: Sequence[str]) -> None:
    """Refuse data whose class ids do not mean what those of a checkpoint mean.

    A class of another name at its place may be the same class; one at another place is not.

    Args:
        stored: Names of the checkpoint's classes, in the order of their ids; None if unknown.
        given: Those of the data.

    Raises:
        InputError: If their numbers differ, or a class has another id.
    """
    if stored is None:
        return
    if len(stored) != len(given):
        raise InputError(
            f"The checkpoint has {len(stored)} classes, the data {len(given)}: "
            f"{_differences(stored, given)}; use data of the checkpoint's classes, or "
            "--model.init_from to start a fine-tuning from it."
        )
    moved = [
        f"{name} (id {stored.index(name)} in the checkpoint, {place} in the data)"
        for place, name in enumerate(given)
        if name in stored and stored.index(name) != place
    ]
    if moved:
        raise InputError(
            f"The data's classes have other ids than the checkpoint's: {_listed(moved)}; write "
            f"data.class_names in the checkpoint's order, {_listed(stored)}, and map the masks to "
            "it by data.label_map."
        )


def check_classes(stored: Sequence[str] | None, given: Sequence[str]) -> None:
    """As `refuse_other_classes`, and warn of classes that have another name.

    Raises:
        InputError: As `refuse_other_classes`.
    """
    refuse_other_classes(stored, given)
    warn_of_other_names("The checkpoint", stored, given)


def warn_of_other_names(source: str, stored: Sequence[str] | None, given: Sequence[str]) -> None:
    """Warn that weights were trained for as many classes of other names.

    Args:
        source: What holds the weights.
        stored: Names of its classes; None if unknown.
        given: Those of the data.
    """
    if stored is None or len(stored) != len(given) or [*stored] == [*given]:
        return
    log.warning(
        "%s was trained on classes of other names; checkpoint: %s; data: %s. Class ids count, "
        "not names: check that these are the same classes.",
        *(source, ", ".join(stored), ", ".join(given)),
    )


def _differences(stored: Sequence[str], given: Sequence[str]) -> str:
    """Both lists of names, and what is in one of them only."""
    parts = [f"checkpoint: {_listed(stored)}", f"data: {_listed(given)}"]
    for names, others, where in ((stored, given, "checkpoint"), (given, stored, "data")):
        alone = [name for name in names if name not in others]
        if alone and len(alone) < len(names):
            parts.append(f"only in the {where}: {_listed(alone)}")
    return "; ".join(parts)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
