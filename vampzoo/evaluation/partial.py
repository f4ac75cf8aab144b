"""What an evaluation that was interrupted has computed, kept for the next one of the same weights, images and draws."""

import contextlib
import hashlib
import json
import pathlib
import re
import time

import numpy as np

from vampzoo import files

SAVE_SECONDS = 2.0
PATTERN = r"evaluation\.partial\.[0-9a-f]{16}\.npz"


class PartialResults:
    """What was computed of the first images, a row each, in a file of its own until the evaluation is complete.

    Args:
        folder: pathlib.Path, where the file is; it need not exist.
        model: a `vampzoo.models.LatentVariableModel`, whose weights are hashed.
        what: plain data that decide the numbers beside the weights: fingerprint, split, number of samples, seed.
    """

    def __init__(self, folder, model, what):
        digest = hashlib.sha256(json.dumps([type(model).__name__, what], sort_keys=True).encode())
        for weight in model.weights:
            digest.update(weight.numpy().tobytes())
        self._key = digest.hexdigest()
        self._path = pathlib.Path(folder) / f"evaluation.partial.{self._key[:16]}.npz"
        self._start = self._last_save = time.monotonic()
        self.seconds = 0.0  # that the values took before this evaluation
        self.values = self._read()  # NumPy [n, columns]

    def _read(self):
        try:
            with np.load(self._path, allow_pickle=False) as arrays:
                if str(arrays["key"]) == self._key and arrays["values"].ndim == 2:
                    if "seconds" in arrays:  # not in those of older versions
                        self.seconds = float(arrays["seconds"])
                    return arrays["values"].astype(np.float32)
        except Exception:  # none is there, or a damaged one: NumPy raises nearly anything
            pass
        return np.zeros([0, 0], np.float32)

    def update(self, values):
        """Keeps what is known of the first n images [n, columns]; in the file every few seconds."""
        self.values = values
        if time.monotonic() - self._last_save >= SAVE_SECONDS:
            with contextlib.suppress(OSError):  # on a full disk the evaluation goes on all the same
                self._write()
            self._last_save = time.monotonic()

    def _write(self):
        self._path.parent.mkdir(parents=True, exist_ok=True)
        files.remove_left_by_kills(self._path.parent, [re.escape(self._path.name)])
        with files.atomic_path(self._path) as temporary, temporary.open("wb") as file:
            seconds = self.seconds + time.monotonic() - self._start
            np.savez(file, key=np.array(self._key), values=self.values, seconds=np.array(seconds))

    def remove(self):
        """The evaluation is complete and written."""
        self._path.unlink(missing_ok=True)
