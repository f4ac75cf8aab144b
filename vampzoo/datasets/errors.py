"""The one exception of this package."""

from vampzoo.errors import VampzooError


class DataError(VampzooError, ValueError):
    """Images that cannot be had or are not what they should be. The message names the file and what is wrong."""
