"""What libraries refuse is told in one line, as what `seg` refuses is."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.utilities.exceptions import MisconfigurationException

from seg.cli.parsers import one_line
from seg.errors import InputError

_MAKING = {
    "seg.losses": "model.loss: ",
    "lightning": "",
    "jsonargparse": "",
    "segmentation_models_pytorch": "model.network: ",
    "timm": "model.network: ",
    "seg": "",
}
_RUNNING = {
    "torch.optim.lr_scheduler": "model.lr_scheduler: ",
    "torch.optim": "model.optimizer: ",
    "seg.losses": "model.loss: ",
}
"""Where an argument is looked at, and the key that it is of."""
_REFUSALS = (ValueError, TypeError, ModuleNotFoundError, MisconfigurationException)


@contextmanager
def refusals_in_one_line(running: bool = False) -> Iterator[None]:
    """Tell in one line an argument that a library refuses.

    An error that is raised elsewhere, as in a network of one's own, keeps its traceback.

    Args:
        running: Whether the parts of the run are made, and it goes on.

    Raises:
        InputError: In place of what the library raises.
    """
    try:
        yield
    except InputError:
        raise
    except _REFUSALS as error:
        known = isinstance(error, MisconfigurationException) or "HINT: Try running" in str(error)
        key = _key_of(error, _RUNNING if running else _MAKING)
        if key is None and not known:
            raise
        raise InputError((key or "") + _said(str(error))) from error


def _said(message: str) -> str:
    """A message in one line; of a class that could not be made, what it said itself."""
    own = re.search(r"Problem with given class_path '([\w.]+)':\s+(.*)", message)
    install = re.search(r"HINT: Try running `(.+?)`", message)
    if own and install:
        return f"{own[1]} needs another package: {install[1].replace(' -U', '')}"
    if own:
        return f"{own[1]}: {own[2]}"
    reason = re.search(r"^  - (?!Not a valid|Expected|Problem)(.+)", message, re.MULTILINE)
    paths = re.findall(r"class_path='([\w.]+)'", message)
    return f"{paths[-1]}: {reason[1]}" if reason and paths else one_line(message, list)


def _key_of(error: BaseException, places: dict[str, str]) -> str | None:
    """The key that an error is of, by the module whose line raised it; None if of none of them."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    module = "" if place is None else str(place.tb_frame.f_globals.get("__name__"))
    for name, key in places.items():
        if f"{module}.".startswith(f"{name}."):
            # of ours, anything else is a fault of ours
            return key if name.partition(".")[0] != "seg" or isinstance(error, ValueError) else None
    return None
