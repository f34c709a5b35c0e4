"""The error that is the user's to mend."""


class InputError(ValueError):
    """A file, an option or a combination of them is wrong; the message says what to change.

    The command line prints the message alone, without a traceback.
    """
