"""How much memory there is, and errors for what cannot fit, before anything of its size is allocated. No TensorFlow."""

import os
import pathlib

from vampzoo.errors import InvalidValue

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class TooLarge(InvalidValue):
    """What is asked for does not fit into the memory of this machine; the message says how much it would need."""


def available():
    """Bytes of memory of this machine, or of the container that the process is in."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _CGROUP_LIMITS:
        try:
            sizes.append(int(pathlib.Path(path).read_text()))
        except (OSError, ValueError):  # another kind of machine, or "max"
            continue
    return min(sizes)


def check(num_bytes, what):
    """Raises TooLarge if so many bytes are more than there are; `what` begins the message."""
    if num_bytes > (limit := available()):
        raise TooLarge(f"{what} would need at least {_gibibytes(num_bytes)} of memory; there are {_gibibytes(limit)}")


def _gibibytes(num_bytes):
    return f"{num_bytes / 2**30:,.1f} GiB"
