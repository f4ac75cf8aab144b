"""TensorFlow's start-up notices, kept from people who can do nothing about them.

TensorFlow writes them past Python and past its own log level, from C++, while it is imported and when it first looks for
GPUs. So the file descriptor of stderr is turned aside for that moment; whatever is not a known notice is written after all.
"""

import contextlib
import importlib.abc
import importlib.util
import os
import sys
import tempfile

NOTICES = (
    "All log messages before absl::InitializeLog() is called are written to STDERR",
    "oneDNN custom operations are on",
    "Could not find cuda drivers on your machine, GPU will not be used",
    "failed call to cuInit",  # what a machine without a GPU has to say
    "This TensorFlow binary is optimized to use available CPU instructions",
    "To enable the following instructions",
)


@contextlib.contextmanager
def notices_dropped():
    """A context in which what is written to stderr is held back; at its end all of it but `NOTICES` is written."""
    try:
        stderr = os.dup(2)
    except OSError:  # a process without stderr
        yield
        return
    with tempfile.TemporaryFile() as held:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if not any(notice in line.decode(errors="replace") for notice in NOTICES):
                    os.write(2, line)


class _Loader(importlib.abc.Loader):
    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self._loader
        with notices_dropped():
            self._loader.exec_module(module)
            module.config.list_physical_devices()  # it looks for GPUs now, and not in the middle of the first sentence


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None:
            spec.loader = _Loader(spec.loader)
        return spec


def install():
    """Makes the first `import tensorflow` of this process a quiet one; nothing, if it has been imported already."""
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _Finder())
