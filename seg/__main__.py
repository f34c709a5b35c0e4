"""`python -m seg`, which torchrun needs, is the `seg` command."""

import sys

from seg.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
