"""The end of a run by a signal, and the signals that end one."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only

from seg.distributed.launchers import started_by_lightning

# there is no SIGUSR1 on Windows
_NAMES = ("SIGTERM", "SIGUSR1", "SIGINT")
SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


class Stopped(SystemExit):
    """The run ends as a signal asked it to; the exit status is 128 + the signal's number.

    The processes that Lightning starts beside the first one end with 0, else it would take them
    to have crashed and kill the first one in turn.

    Args:
        number: The signal's number.
        message: What the user is told, once, by the first rank.
    """

    def __init__(self, number: int, message: str = "") -> None:
        self.code: int = 0 if started_by_lightning() else 128 + number
        super().__init__(self.code)
        self.number = number
        self.message = message if getattr(rank_zero_only, "rank", 0) == 0 else ""


@contextmanager
def raising_signals() -> Iterator[None]:
    """Within it the signals raise `Stopped`, until a fit takes them over for its steps."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        name = signal.Signals(number).name
        raise Stopped(number, f"stopped by {name} before the first step or outside of training.")

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
