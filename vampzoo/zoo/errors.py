"""The error of this room."""

from vampzoo.errors import VampzooError


class ZooError(VampzooError, ValueError):
    """A preset or run folder that does not exist or is damaged; the message names the file and what is valid."""
