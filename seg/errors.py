"""The error that is the user's to mend."""

import re
import traceback


class InputError(ValueError):
    """A file, an option or a combination of them is wrong; the message says what to change.

    The command line prints the message alone, without a traceback.
    """


class NonFiniteError(InputError):
    """What a network computes is not finite; all ranks raise it together, and the first says it."""


def describe(error: BaseException) -> str:
    """What an error says, without a traceback: all of an `InputError`, the last line of others."""
    if isinstance(error, InputError):
        # a loader's worker wraps the message in its traceback, whose last line it begins
        return re.split(r"^[\w.]+Error: ", str(error), flags=re.MULTILINE)[-1]
    return "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
