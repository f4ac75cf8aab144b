"""Files that are written whole or not at all, checksums, locks, files of the package, and folders that are not ours.

No TensorFlow.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import re
import time

from vampzoo.errors import InvalidValue

CONFIG = "config.json"  # what run folders and presets have in common
PSEUDO_INPUTS_BEGAN_AS_DATA = "pseudo_inputs_began_as_data"  # key of config.json's data, of a model that was given so
OWN_MODEL = "own_model"  # there, in "model": the class of a model that no `ModelConfig` describes
WEIGHTS = "model.weights.h5"  # of run folders, and of presets that older versions exported
SAVED_MODEL = "saved_model.pb"  # in the folder of a SavedModel
VARIABLES = "variables/variables"  # in the folder of a SavedModel: the prefix of its checkpoint's files
WEIGHTS_MAP = "assets.extra/weights.json"  # there: where in the checkpoint each weight of the model is

PACKAGE = pathlib.Path(__file__).resolve().parent
CONFIGS = "configs"
SAVED_MODELS = "saved_models"
CHECKSUMS = "SHA256SUMS"  # a folder that has it is sealed: nothing is written into it but by an export
# What an export writes anew into a preset's own folder; the weights of an older version's presets stood there, too.
RENEWED = (CONFIG, "metrics.json", "README.md", "samples.png", "train.flags", CHECKSUMS, WEIGHTS)

DATA_PLACES = ("data_dir", "manual_dir", "data_file")  # flags of the programs that say where the data is

TEMPORARY_PREFIX = ".writing."  # of what is being written; what still has it was left by a kill


def shipped(name):
    """The folder `CONFIGS` or `SAVED_MODELS` that came with this package: that of the checkout, or what a wheel holds of it.

    Args:
        name: of the folder.

    Returns:
        A `pathlib.Path`, or None if there is none.
    """
    checkout = PACKAGE.parent
    # The folder site-packages/configs is somebody else's.
    folders = [checkout / name] * (checkout / "setup.py").is_file() + [PACKAGE / "shipped" / name]
    return next((folder for folder in folders if folder.is_dir()), None)


# === Writing ===


@contextlib.contextmanager
def atomic_path(path):
    """Yields a temporary path beside `path` that replaces it if the block succeeds, and is deleted if not."""
    path = pathlib.Path(path)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}.{path.name}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())  # else a power failure may leave the new name with nothing, or with zeros, in it
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Writes a file in one step: it has its old content or its new one, never half."""
    write_bytes(path, text.encode())


def write_bytes(path, data):
    """The same for bytes."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def remove_left_by_kills(folder, patterns):
    """Removes what a kill left half written of files whose names match; the caller knows that nobody writes them now."""
    pattern = re.compile(re.escape(TEMPORARY_PREFIX) + r"\d+\.(.*)", re.DOTALL)
    for path in pathlib.Path(folder).iterdir():
        match = pattern.fullmatch(path.name)
        if match and any(re.fullmatch(name, match[1]) for name in patterns) and path.is_file():
            path.unlink()


@contextlib.contextmanager
def path_without_patterns(folder):
    """Yields another path of a folder, a string, for TensorFlow: it takes *?[]\\ in a path for a pattern, and would read and
    delete what matches it. The path is good as long as the context lasts.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def sealed_folder(path):
    """The folder with a SHA256SUMS that `path` is, or lies in at any depth; None if there is none."""
    path = pathlib.Path(path).resolve()
    return next((folder for folder in (path, *path.parents) if os.path.isfile(folder / CHECKSUMS)), None)


def check_output(path, flag):
    """Checks that a file can be written, before hours are spent on what is to be in it. Writes nothing.

    Args:
        path: of the file; folders above it may still be missing.
        flag: how messages name it.

    Raises:
        InvalidValue: if it is a folder, lies in a sealed one, or cannot be written.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise InvalidValue(f"{flag} {path} is a folder: name a file")
    if folder := sealed_folder(path.parent):
        raise InvalidValue(f"{flag} {path} lies in {folder}, which has {CHECKSUMS}: nothing is written into a preset")
    above = path.parent
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise InvalidValue(f"{flag} {path} cannot be written: {above} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InvalidValue(f"{flag} {path} cannot be written: no permission to write to {above}")


# === Checksums ===


def sha256(path):
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# === Locks ===


class Lock:
    """A file that one process at a time holds, until `release` or the end of the process, however that comes.

    Args:
        path: of the file, which is created if need be.
        seconds: how long to wait for another holder.
        waiting: called once, when that wait begins.

    Raises:
        BlockingIOError: if another process still holds it.
        OSError: if the file cannot be made.
    """

    def __init__(self, path, seconds=0.0, waiting=None):
        self._path = pathlib.Path(path)
        self.created = not self._path.exists()
        end = time.monotonic() + seconds
        while not self._acquire():
            if time.monotonic() >= end:
                raise BlockingIOError(f"{path} is held by another process")
            if waiting is not None:
                waiting()
                waiting = None  # once
            time.sleep(0.1)

    def _acquire(self):
        self._file = open(self._path, "a")  # noqa: SIM115 held as long as the process lives
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            return False
        # The holder before may have removed the file between our opening and our locking it: then it locks nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path)):
                return True
        self._file.close()
        return False

    def release(self, remove=False):
        """Lets go of it, and removes the file if asked to."""
        if remove and not self._file.closed:
            self._path.unlink(missing_ok=True)
        self._file.close()
