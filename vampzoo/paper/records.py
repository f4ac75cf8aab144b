"""Records of runs: what is kept of a run folder when its weights are not, small enough for a repository.

results/<run>/ holds config.json, training.json, history.csv, evaluation.json, and the log-likelihood of each test image in
log_likelihoods.npz (float32, nats).
"""

import json
import pathlib
import shutil
import tempfile
import zipfile

import numpy as np

from vampzoo import files
from vampzoo.errors import InvalidValue

FILES = ("config.json", "training.json", "history.csv", "evaluation.json")
LIKELIHOODS = "log_likelihoods.npz"


def keep(run_folder, results_dir):
    """Copies the record of a complete run to `results_dir`/<name of the run>; it appears whole or not at all.

    Args:
        run_folder: of a run that is trained and evaluated.
        results_dir: where records are; made if need be.

    Returns:
        The folder of the record, a `pathlib.Path`.

    Raises:
        InvalidValue: if the run lacks a file, or its log-likelihoods are not those of its evaluation.
    """
    run_folder, record = pathlib.Path(run_folder), pathlib.Path(results_dir, pathlib.Path(run_folder).name)
    if missing := [name for name in FILES if not (run_folder / name).is_file()]:
        raise InvalidValue(f"{run_folder} has no {', '.join(missing)}: it is not complete")
    values = log_likelihoods(run_folder)
    if not fits(run_folder, json.loads((run_folder / "evaluation.json").read_text())):
        raise InvalidValue(
            f"the log-likelihoods in {run_folder} are not those of its evaluation.json: evaluate it again"
        )
    if record.exists() and record.samefile(run_folder):  # which holds more than the record would
        return record
    record.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=files.TEMPORARY_PREFIX, dir=record.parent) as temporary:
        new = pathlib.Path(temporary, "record")
        new.mkdir()
        for name in FILES:
            shutil.copyfile(run_folder / name, new / name)
        np.savez_compressed(new / LIKELIHOODS, log_likelihoods=values.astype(np.float32))
        if record.exists():
            record.rename(pathlib.Path(temporary, "old"))
        new.rename(record)
    return record


def of_other_weights(folder, evaluation):
    """Whether a run folder holds other weights than its evaluation is about: it was trained further since."""
    weights, evaluated = pathlib.Path(folder, files.WEIGHTS), evaluation.get("weights_sha256")
    return bool(evaluated) and weights.is_file() and files.sha256(weights) != evaluated


def fits(folder, evaluation):
    """Whether a run folder or a record holds the log-likelihoods of the test images that its evaluation is about."""
    try:
        values = log_likelihoods(folder)
    except InvalidValue:
        return False
    same_number = len(values) == evaluation["num_images"]
    return same_number and bool(np.isclose(values.mean(), evaluation["log_likelihood"], rtol=1e-6, atol=1e-3))


def log_likelihoods(folder):
    """The log-likelihood of each test image, float64 [N], nats, of a run folder or a record.

    Raises:
        InvalidValue: if it holds none, or a damaged file of them.
    """
    for path in (folder / LIKELIHOODS, folder / "figures" / "log_likelihoods.npy"):
        if path.is_file():
            try:
                loaded = np.load(path, allow_pickle=False)
                return np.asarray(loaded["log_likelihoods"] if path.suffix == ".npz" else loaded, np.float64)
            except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
                raise InvalidValue(f"{path} is damaged ({error!r}): evaluate the run again") from error
    raise InvalidValue(f"{folder} holds no log-likelihoods of test images: evaluate the run again")
