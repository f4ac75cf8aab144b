"""Files that are written whole or not at all, and their checksums. No TensorFlow."""

import contextlib
import hashlib
import os
import pathlib

CONFIG = "config.json"  # what run folders and presets have in common
WEIGHTS = "model.weights.h5"  # of run folders, and of presets that older versions exported
VARIABLES = "variables/variables"  # in the folder of a SavedModel: the prefix of its checkpoint's files
WEIGHTS_MAP = "assets.extra/weights.json"  # there: where in the checkpoint each weight of the model is

TEMPORARY_PREFIX = ".writing."  # of what is being written; what still has it was left by a kill


@contextlib.contextmanager
def atomic_path(path):
    """Yields a temporary path beside `path` that replaces it if the block succeeds, and is deleted if not."""
    path = pathlib.Path(path)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Writes a file in one step: it has its old content or its new one, never half."""
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def sha256(path):
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
