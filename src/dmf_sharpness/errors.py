"""What a user can put right: errors that reach them as one line, without a traceback."""


class UserError(ValueError):
    """A wrong input: the message names the file, the key, what was expected and what was given."""
