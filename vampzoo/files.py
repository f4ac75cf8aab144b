"""Files that are written whole or not at all, their checksums, and those that come with the package. No TensorFlow."""

import contextlib
import hashlib
import os
import pathlib

CONFIG = "config.json"  # what run folders and presets have in common
WEIGHTS = "model.weights.h5"  # of run folders, and of presets that older versions exported
CHECKSUMS = "SHA256SUMS"  # of presets
VARIABLES = "variables/variables"  # in the folder of a SavedModel: the prefix of its checkpoint's files
WEIGHTS_MAP = "assets.extra/weights.json"  # there: where in the checkpoint each weight of the model is

PACKAGE = pathlib.Path(__file__).resolve().parent
CONFIGS = "configs"
SAVED_MODELS = "saved_models"

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
