"""The one exception of this package."""


class DataError(ValueError):
    """Images that cannot be had or are not what they should be. The message names the file and what is wrong."""
