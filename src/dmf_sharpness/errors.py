"""Errors that a user can correct; the command line shows them in one line, without a traceback."""


class UserError(ValueError):
    """A wrong input; the message names the file and the key, the expected value and the given one."""
