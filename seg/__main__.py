"""The `seg` command, also as `python -m seg`, which torchrun needs."""

import signal
import sys


def main() -> int:
    """Run the command of `sys.argv`; returns the exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # while the libraries are imported, which takes seconds, Ctrl-C ends without a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from seg.cli.app import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
