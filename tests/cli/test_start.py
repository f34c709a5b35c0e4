"""What a command imports before it answers: what it needs, and nothing that takes long."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

NOTED = """
import sys
from seg.__main__ import main
try:
    main()
finally:
    print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


def imported(*args):
    """The libraries that a process of its own has loaded by the end of `seg ARGS`."""
    command = [sys.executable, "-c", NOTED, *args]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode in (0, 1, 2), result.stderr
    return set(result.stderr.splitlines()[-1].split())


SLOW = {"torch", "lightning", "numpy", "albumentations", "matplotlib", "scipy"}


@pytest.mark.parametrize(
    "args", [["--help"], ["fitt"], [], ["doctor", "--help"], ["configs"]], ids=str
)
def test_what_needs_no_library_is_answered_without_them(args):
    assert imported(*args) & SLOW == set()
