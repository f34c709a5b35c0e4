"""The `seg` command, also as `python -m seg`, which torchrun needs."""

import os
import signal
import sys


def main() -> int:
    """Run the command of `sys.argv`; returns the exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # while the libraries are imported, which takes seconds, Ctrl-C ends without a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from seg.cli.app import main as run

    try:
        status = run()
        sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        return 128 + 13  # as a program ends that SIGPIPE ends
    return status


def _reader_is_gone() -> bool:
    """Whether nobody reads the standard output any more, as after `seg configs | head -1`."""
    try:
        os.write(1, b"\n")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python would tell of it at its end
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
