"""The folder of a run: what it holds, written so that a kill at any moment leaves a folder that resumes.

config.json          what decides the result: model, data, training, version
train.flags          reproduces the run: python -m vampzoo.train --flagfile=train.flags
checkpoints/         the two latest states of the training
model.weights.h5     the best weights so far by validation ELBO
history.csv          a row an epoch
tensorboard/         event files
evaluation.json, figures/   written at the end
"""

import csv
import dataclasses
import fcntl
import json
import pathlib
import shutil

from vampzoo import files
from vampzoo.config import ModelConfig, TrainingConfig
from vampzoo.errors import VampzooError

# A changed value extends a run that is there already, and does not make another one of it.
EXTENDING = ("epochs", "patience")


class RunFolderError(VampzooError, RuntimeError):
    """The run folder cannot be used as asked; the message says why and what to do."""


class RunFolder:
    """Opens or creates a run folder and holds its lock until the process ends.

    Of several workers one writes the folder and the others read what it wrote: for these nothing is created or checked.

    Args:
        path: the folder.
        config: what decides the result: {"model": {...}, "data": {...}, "training": {...}}, plain data.
        flags: text of the flagfile that reproduces the run.
        overwrite: whether to delete what an earlier run left.
        writer: whether this is the process that writes.

    Raises:
        RunFolderError: if another training uses the folder, its run was made with other settings, it is not a run folder,
            or it cannot be written.
    """

    def __init__(self, path, config, flags="", overwrite=False, writer=True):
        self.path = pathlib.Path(path)
        self.writer = writer
        if not writer:
            return
        config = json.loads(json.dumps(config))  # tuples become lists, as they come back from the file
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "a")  # noqa: SIM115 held as long as the process lives
        except OSError as error:
            raise RunFolderError(f"the run folder {self.path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunFolderError(
                f"another training is using the run folder {self.path}; wait for it or choose another --run_dir"
            ) from error
        try:
            for left_by_a_kill in self.path.glob(f"{files.TEMPORARY_PREFIX}*"):
                left_by_a_kill.unlink()
            if overwrite:
                self._clear()
            if self.config_path.exists():
                self._check_same(config)
            elif foreign := sorted(p.name for p in self.path.iterdir() if p.name != ".lock"):
                raise RunFolderError(
                    f"{self.path} holds {foreign[:3]} but no config.json: not a run folder. Choose another --run_dir"
                )
            # config.json comes first: it is what tells a run folder, also to whoever comes after a kill.
            files.write_text(self.config_path, json.dumps(config, indent=2) + "\n")
            files.write_text(self.path / "train.flags", flags)
            self.checkpoints.mkdir(exist_ok=True)
            self.figures.mkdir(exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"the run folder {self.path} cannot be written: {error.strerror}") from error

    def close(self):
        """Lets go of the lock, for another training in the same process; the end of the process does so by itself."""
        self._lock.close()

    @property
    def config_path(self):
        """config.json: what decides the result."""
        return self.path / "config.json"

    @property
    def checkpoints(self):
        """The folder of the latest states of the training."""
        return self.path / "checkpoints"

    @property
    def figures(self):
        """The folder of pictures."""
        return self.path / "figures"

    @property
    def weights(self):
        """model.weights.h5: the best weights so far."""
        return self.path / "model.weights.h5"

    @property
    def tensorboard(self):
        """The folder of event files."""
        return self.path / "tensorboard"

    def _clear(self):
        if self.config_path.exists():
            for entry in sorted(self.path.iterdir(), key=self.config_path.__eq__):  # config.json last
                if entry.name != ".lock":
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def _check_same(self, config):
        """Refuses to go on with a run that was started with other settings."""
        # A setting that an older version did not have yet had the value that is now its default.
        defaults = {"model": dataclasses.asdict(ModelConfig()), "training": dataclasses.asdict(TrainingConfig())}
        try:
            before = json.loads(self.config_path.read_text())
            sections = {
                name: ({**defaults.get(name, {}), **before[name]}, config[name])
                for name in ("data", "model", "training")
            }
        except (ValueError, KeyError, TypeError) as error:
            raise RunFolderError(f"{self.config_path} is damaged ({error}); use --overwrite to start anew") from error
        for section, (old, new) in sections.items():
            for name in sorted({*old, *new}):
                if old.get(name) != new.get(name) and name not in EXTENDING:
                    what = "the data changed" if name == "fingerprint" else f"--{name}"
                    raise RunFolderError(
                        f"{self.path} holds a run with other settings: {what} ({section}.{name} was "
                        f"{old.get(name)!r}, is now {new.get(name)!r}). Give the old value, choose another --run_dir, "
                        "or use --overwrite to start anew"
                    )

    def read_history(self):
        """The rows of history.csv as dictionaries of strings."""
        path = self.path / "history.csv"
        if not path.exists():
            return []
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    def truncate_history(self, last_epoch):
        """Drops the rows after `last_epoch`, which a resumed run is about to write again."""
        if not self.writer:
            return
        rows = [row for row in self.read_history() if row["epoch"] and int(row["epoch"]) <= last_epoch]
        if not rows:
            (self.path / "history.csv").unlink(missing_ok=True)
            return
        with files.atomic_path(self.path / "history.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)

    def write_training(self, result):
        """Writes training.json: how a training ended, plain data."""
        if self.writer:
            try:
                files.write_text(self.path / "training.json", json.dumps(result, indent=2) + "\n")
            except OSError as error:
                raise RunFolderError(f"the run folder {self.path} cannot be written: {error.strerror}") from error

    def append_history(self, row):
        """Appends a row an epoch.

        Raises:
            RunFolderError: if it cannot be written.
        """
        if not self.writer:
            return
        path = self.path / "history.csv"
        try:
            new = not path.exists()
            with path.open("a", newline="") as file:
                writer = csv.DictWriter(file, row)
                if new:
                    writer.writeheader()
                writer.writerow(row)
        except OSError as error:
            raise RunFolderError(f"{path} cannot be written: {error.strerror}") from error
