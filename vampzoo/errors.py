"""Errors that a user can act on. The programs print their message alone; any other is a fault of ours and keeps its
traceback."""


class VampzooError(Exception):
    """Something that a user can mend; the message says what and how."""


class InvalidValue(VampzooError, ValueError):
    """A flag or an argument has a value that it cannot have; the message names it and what is valid."""


# What the message of a training says that diverged; `vampzoo.paper.cells.train` knows it by that.
NOT_FINITE = "not finite"


class Hint(UserWarning):
    """Something is allowed, and probably not meant; the message says what to do."""
