"""`python -m seg`, which torchrun needs, is the `seg` command."""

import sys

from seg.cli import main

if __name__ == "__main__":
    sys.exit(main())
