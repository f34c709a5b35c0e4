"""The error that is the user's to mend."""


class InputError(ValueError):
    """A file, an option or a combination of them is wrong; the message says what to change.

    The command line prints the message alone, without a traceback.
    """


class NonFiniteError(InputError):
    """What a network computes is not finite; all ranks raise it together, and the first says it."""
