"""The folder of a run: what it holds, written so that a kill at any moment leaves a folder that resumes.

config.json          what decides the result: model, data, training, version
train.flags          reproduces the run: python -m vampzoo.train --flagfile=train.flags
checkpoints/         the two latest states of the training
model.weights.h5     the best weights so far by what --selection names, of validation images
history.csv          a row an epoch
tensorboard/         event files
training.json        how the training ended
evaluation.json, figures/   written at the end; of another split evaluation_validation.json, figures/validation/
evaluation.partial.*        what an interrupted evaluation keeps
report.html          all of it on one page

Nothing else in it is ever deleted: --overwrite removes these by name, and only if config.json is that of a run.
"""

import csv
import dataclasses
import io
import json
import os
import pathlib
import re
import sys

from vampzoo import __version__, files
from vampzoo.config import ModelConfig, TrainingConfig
from vampzoo.errors import VampzooError
from vampzoo.evaluation import partial
from vampzoo.models.saving import distinct_networks
from vampzoo.training.versions import library_versions

# A changed value extends a run that is there already, and does not make another one of it.
EXTENDING = ("epochs", "patience")

# What a run folder consists of: patterns of its files, and folders with patterns of the files in them. config.json comes
# last: as long as it is there, the rest is known for what it is.
OWN_FILES = (
    r"train\.flags|history\.csv|report\.html",
    r"(training|evaluation|evaluation_train|evaluation_validation)\.json",
    partial.PATTERN,
    re.escape(files.WEIGHTS),
    re.escape(files.CONFIG),
)
_FIGURES = r"(samples|reconstructions|log_likelihoods|pseudo_inputs|component|training)\.(png|npy)"
OWN_FOLDERS = {  # what is inside of another comes before it
    "checkpoints": r"checkpoint|ckpt-\d+\.(index|data-\d+-of-\d+)",
    **{f"tensorboard{part}": r"events\.out\.tfevents\..+" for part in ("/train", "/validation", "/test", "")},
    "figures/train": _FIGURES,
    "figures/validation": _FIGURES,
    "figures": _FIGURES,
}
LOCK = ".lock"


class RunFolderError(VampzooError, RuntimeError):
    """The run folder cannot be used as asked; the message says why and what to do."""


def places_of_data(path):
    """Where a run found its data, as its train.flags say: {flag's name: path}, of `files.DATA_PLACES`.

    Folders that are not there any more are left out: the data may have come to another. The last value of a flag counts.

    Args:
        path: a run folder.
    """
    flags = pathlib.Path(path) / "train.flags"
    lines = flags.read_text().splitlines() if flags.is_file() else []
    given = dict(line.strip().removeprefix("--").split("=", 1) for line in lines if "=" in line)
    return {
        name: given[name]
        for name in files.DATA_PLACES
        if name in given and (name == "data_file" or os.path.isdir(given[name]))
    }


def describe_model(model):
    """What config.json says of a model, plain data.

    Args:
        model: a `ModelConfig`, or a `vampzoo.models.LatentVariableModel`. Of one that came from no `ModelConfig` it is no
            more than the class, the likelihood, and the names and sizes of the networks.
    """
    model_config = model if isinstance(model, ModelConfig) else model.model_config
    if model_config is not None:
        return dataclasses.asdict(model_config)
    networks = {name: network.count_params() for name, network in distinct_networks(model).items()}
    cls = type(model)
    return {files.OWN_MODEL: f"{cls.__module__}.{cls.__qualname__}", "likelihood": model.likelihood, **networks}


def run_config(model, config, data):
    """What config.json says of a run: the argument `config` of `RunFolder`.

    Args:
        model: as for `describe_model`.
        config: a `TrainingConfig`.
        data: {"dataset": name, "binarization": as for `vampzoo.datasets.load`, "fingerprint": what other data change}.
    """
    prior = getattr(model, "prior_layer", None)  # which a `ModelConfig` has not
    if getattr(prior, "began_as_data", False):
        data = {**data, files.PSEUDO_INPUTS_BEGAN_AS_DATA: True}
    return {
        "vampzoo_version": __version__,
        "versions": library_versions(),
        "model": describe_model(model),
        "data": data,
        "training": dataclasses.asdict(config),
    }


class RunFolder:
    """Opens a run folder and holds its lock until the process ends. Nothing is written or deleted before `begin`.

    Of several workers one writes the folder and the others read what it wrote: for these nothing is created or checked.

    Args:
        path: the folder.
        config: what decides the result: {"vampzoo_version": "...", "model": {...}, "data": {...}, "training": {...}},
            plain data. What else it holds, such as "versions", is written and not compared.
        flags: text of the flagfile that reproduces the run.
        overwrite: whether `begin` is to delete what an earlier run left.
        writer: whether this is the process that writes.
        report: called with a message about what was passed over or kept; None: prints it to standard error.

    Raises:
        RunFolderError: if another training uses the folder, its run was made with other settings, it is not a run folder,
            its checkpoints are gone, or it cannot be written. The folder is then as it was.
    """

    def __init__(self, path, config, flags="", overwrite=False, writer=True, report=None):
        self.path = pathlib.Path(path)
        self.writer = writer
        self.begun = False
        self.overwrite = overwrite
        self._flags = flags
        self._report = report or (lambda message: print(message, file=sys.stderr))
        self._lock = None
        self._columns = None
        if not writer:
            return
        self._config = json.loads(json.dumps(config))  # tuples become lists, as they come back from the file
        if folder := files.sealed_folder(self.path):
            raise RunFolderError(
                f"the run folder {self.path} is or lies in {folder}, which has {files.CHECKSUMS}: nothing is written into "
                "a preset. Choose another --run_dir"
            )
        missing = (self.path, *self.path.parents)
        self._created = [folder for folder in missing if not os.path.exists(folder)]  # the innermost first
        try:
            self._check()
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = files.Lock(self.path / LOCK)
            self._check()  # again, as another process may have held it
        except BlockingIOError as error:
            raise RunFolderError(
                f"another training is using the run folder {self.path}; wait for it or choose another --run_dir"
            ) from error
        except OSError as error:
            self.close()
            raise self._not_writable(error) from error
        except RunFolderError:
            self.close()
            raise

    def begin(self):
        """Makes it the folder of this run: with `overwrite` removes what an earlier run left, then writes what says so.

        Called when there is something worth keeping, so that a run that fails before leaves the folder as it was. Further
        calls do nothing.

        Raises:
            RunFolderError: if the folder cannot be written.
        """
        if self.begun or not self.writer:
            return
        try:
            files.remove_left_by_kills(self.path, OWN_FILES)
            if self.overwrite:
                self._clear()
            # config.json comes first: it is what tells a run folder, also to whoever comes after a kill.
            if not self._adds_nothing():
                files.write_text(self.config_path, json.dumps(self._config, indent=2) + "\n")
                files.write_text(self.path / "train.flags", self._flags)
            for folder in (self.checkpoints, self.tensorboard, self.figures):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise self._not_writable(error) from error
        self.begun = True

    def _adds_nothing(self):
        """Whether as many epochs as are asked for are done already: config.json and train.flags then say how."""
        if not self.config_path.exists() or not (self.path / "train.flags").exists():
            return False
        epochs, before = self._config["training"].get("epochs"), self._read_config()["training"].get("epochs")
        history = self.read_history()
        return (
            bool(history) and None not in (epochs, before) and epochs < before and epochs <= int(history[-1]["epoch"])
        )

    def close(self):
        """Lets go of the lock, for another training in the same process; the end of the process does so by itself.

        If the run has not begun, what opening the folder has made is removed again.
        """
        if self._lock is not None:
            self._lock.release(remove=self._lock.created and not self.begun)
        if self.writer and not self.begun:
            for folder in self._created:
                try:
                    folder.rmdir()
                except OSError:  # not made, or somebody put something into it
                    break

    def _not_writable(self, error, path=None):
        return RunFolderError(f"the run folder {path or self.path} cannot be written: {error.strerror or error}")

    @property
    def config_path(self):
        """config.json: what decides the result."""
        return self.path / files.CONFIG

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
        return self.path / files.WEIGHTS

    @property
    def tensorboard(self):
        """The folder of event files."""
        return self.path / "tensorboard"

    # === Checks, which change nothing ===

    def _check(self):
        if not os.path.isdir(self.path):
            return
        if not self.config_path.exists():
            ignored = re.compile(
                rf"{re.escape(LOCK)}|{re.escape(files.TEMPORARY_PREFIX)}\d+\.{re.escape(files.CONFIG)}"
            )
            if foreign := sorted(p.name for p in self.path.iterdir() if not ignored.fullmatch(p.name)):
                raise RunFolderError(
                    f"{self.path} holds {foreign[:3]} but no config.json: not a run folder. Choose another --run_dir"
                )
            return
        before = self._read_config()
        for name in OWN_FOLDERS:
            folder = self.path / name
            if folder.exists() and not folder.is_dir():
                raise RunFolderError(f"{folder} is no folder: move it away, or choose another --run_dir")
            if self.overwrite and folder.is_symlink():
                raise RunFolderError(
                    f"{folder} is a symbolic link, and --overwrite deletes nothing outside of the run folder: remove the "
                    "link, or choose another --run_dir"
                )
        if self.overwrite:
            return
        self._check_same(before)
        if self.weights.exists() and not any(self.checkpoints.glob("ckpt-*.index")):
            raise RunFolderError(
                f"{self.path} has weights but no checkpoint to go on from: training would begin anew and replace them. "
                "vampzoo.evaluate, sample and export work without checkpoints; to train, put the checkpoints back, choose "
                "another --run_dir, or use --overwrite to start anew"
            )
        self.read_history()

    def _read_config(self):
        """The contents of config.json, if it is that of a run.

        Raises:
            RunFolderError: if it is damaged, or a foreign file that happens to have this name.
        """
        try:
            config = json.loads(self.config_path.read_text())
        except ValueError as error:
            raise RunFolderError(
                f"{self.config_path} is damaged ({error}). Whatever else {self.path} holds may be whole and was not "
                "touched: put the file back from a copy, or choose another --run_dir"
            ) from error
        version = config.get("vampzoo_version") if isinstance(config, dict) else None
        sections = ("model", "data", "training")
        if not isinstance(version, str) or not all(isinstance(config.get(name), dict) for name in sections):
            raise RunFolderError(
                f"{self.config_path} is not the configuration of a run of vampzoo, so {self.path} is not a run folder and "
                "nothing in it was touched. Choose another --run_dir"
            )
        if version.split(".")[0] != __version__.split(".")[0]:
            raise RunFolderError(
                f"{self.path} holds a run of vampzoo {version}, this is {__version__}. Choose another --run_dir"
            )
        return config

    def _check_same(self, before):
        """Refuses to go on with a run that was started with other settings."""
        # A setting that an older version did not have yet had the value that is now its default.
        defaults = {"model": dataclasses.asdict(ModelConfig()), "training": dataclasses.asdict(TrainingConfig())}
        if files.OWN_MODEL in before["model"]:
            del defaults["model"]
        for section in ("data", "model", "training"):
            old, new = {**defaults.get(section, {}), **before[section]}, self._config[section]
            for name in sorted({*old, *new}):
                if old.get(name) != new.get(name) and name not in EXTENDING:
                    what = "the data changed" if name == "fingerprint" else f"--{name}"
                    raise RunFolderError(
                        f"{self.path} holds a run with other settings: {what} ({section}.{name} was "
                        f"{old.get(name)!r}, is now {new.get(name)!r}). Give the old value, choose another --run_dir, "
                        "or use --overwrite to start anew"
                    )

    # === Overwriting ===

    def _clear(self):
        """Removes what a run folder consists of, by name; the rest is reported and stays."""
        for name, pattern in OWN_FOLDERS.items():
            folder = self.path / name
            if not folder.is_dir():
                continue
            for path in folder.iterdir():
                if re.fullmatch(pattern, path.name) and not path.is_dir():
                    path.unlink()
            if not any(folder.iterdir()):
                folder.rmdir()
        for pattern in OWN_FILES:
            for path in list(self.path.iterdir()):
                if re.fullmatch(pattern, path.name) and (path.is_symlink() or path.is_file()):
                    path.unlink()
        kept = sorted(path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if not path.is_dir())
        kept = [name for name in kept if name != LOCK]
        if kept:
            more = f" and {len(kept) - 5} more" if len(kept) > 5 else ""
            self._report(f"{self.path}: kept {', '.join(kept[:5])}{more}, which no run has written")

    # === History ===

    def read_history(self):
        """The rows of history.csv as dictionaries of strings; rows from the first damaged one on are left out.

        Raises:
            RunFolderError: if it is not a history.
        """
        return self._read_history()[0]

    def _read_history(self):
        """(rows, whether something damaged was left out)."""
        path = self.path / "history.csv"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return [], False
        except OSError as error:
            raise RunFolderError(f"{path} cannot be read: {error.strerror}") from error
        # A power failure may leave zeros where the last rows were to be.
        text = data.partition(b"\0")[0].decode("utf-8", "replace")
        damaged = b"\0" in data
        lines = list(csv.reader(io.StringIO(text, newline="")))
        header = lines[0] if lines else []
        if not header and damaged:
            return [], True
        if header[:1] != ["epoch"] or len(set(header)) != len(header):
            raise RunFolderError(
                f"{path} does not begin with the columns of a history (epoch, ...) but with {','.join(header)[:60]!r}: "
                "move it away, and the run goes on with a new one"
            )
        rows = []
        for line in lines[1:]:
            if len(line) != len(header) or not line[0].isascii() or not line[0].isdigit():
                damaged = True
                break
            rows.append(dict(zip(header, line, strict=True)))
        if rows and not damaged and not text.endswith("\n"):  # the last number may lack digits
            rows.pop()
            damaged = True
        return rows, damaged

    def truncate_history(self, last_epoch):
        """Drops the rows after `last_epoch`, which a resumed run is about to write again, and what is damaged."""
        if not self.writer:
            return
        before, damaged = self._read_history()
        rows = [row for row in before if int(row["epoch"]) <= last_epoch]
        if damaged and last_epoch and (not rows or int(rows[-1]["epoch"]) < last_epoch):
            first = int(rows[-1]["epoch"]) + 1 if rows else 1
            self._report(
                f"{self.path / 'history.csv'} is damaged at its end: the rows of epochs {first} to {last_epoch} are lost"
            )
        try:
            self._write_history(rows)
        except OSError as error:
            raise self._not_writable(error, self.path / "history.csv") from error

    def _write_history(self, rows):
        path = self.path / "history.csv"
        if not rows:
            path.unlink(missing_ok=True)
            return
        self._columns = list(rows[0])
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        files.write_text(path, text.getvalue())

    def append_history(self, row):
        """Appends a row an epoch.

        Raises:
            RunFolderError: if it cannot be written.
        """
        if not self.writer:
            return
        self.begin()
        path = self.path / "history.csv"
        try:
            if not path.exists():
                self._columns = list(row)
                files.write_text(path, ",".join(self._columns) + "\r\n")
            if self._columns is None or not set(row) <= set(self._columns):
                # Written by another version: all rows get all columns, for a number must not come to stand in another's.
                rows = self.read_history()
                columns = list(dict.fromkeys([*(name for old in rows[:1] for name in old), *row]))
                self._write_history([{name: old.get(name, "") for name in columns} for old in rows])
                self._columns = columns
            with path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns, restval="").writerow(row)
        except OSError as error:
            raise self._not_writable(error, path) from error

    def write_training(self, result):
        """Writes training.json: how a training ended, plain data.

        Raises:
            RunFolderError: if it cannot be written.
        """
        if self.writer:
            self.begin()
            try:
                files.write_text(self.path / "training.json", json.dumps(result, indent=2) + "\n")
            except OSError as error:
                raise self._not_writable(error) from error
