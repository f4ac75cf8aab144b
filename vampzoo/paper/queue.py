"""The cells of the paper's tables one after the other, each with a learning rate that validation images have chosen.

One run at a time has the whole machine. What is complete is passed over, what was stopped is resumed: the same call goes on
wherever an earlier one ended.
"""

import json
import math
import pathlib
import shutil

from vampzoo import files
from vampzoo.errors import InvalidValue
from vampzoo.paper import cells, records

GRID = ("5e-4", "1e-4")  # the paper's (section 5.1)
CHOSEN = {"caltech101_silhouettes": "1e-4"}  # by whole runs: at 5e-4 the models overfit after the epochs of a trial
TRIAL_EPOCHS = 30
TRIAL_PRIOR = (
    "vampprior"  # whose choice serves the other priors of its dataset and model, so that these differ in it alone
)
LEARNING_RATES = "learning_rates.json"
_FLAGS = ("datasets", "models", "priors")

_CALTECH = [("caltech101_silhouettes", model, prior) for model in ("hvae", "vae") for prior in cells.COLUMNS]
_FREY = [("frey_faces", model, prior) for model in ("hvae", "vae") for prior in ("vampprior", "standard")]
_MNIST = [("static_mnist", "hvae", prior) for prior in ("vampprior", "standard", "mog", "vampprior_data")]
_MNIST += [("omniglot", "hvae", prior) for prior in ("vampprior", "standard")]
_MNIST += [("dynamic_mnist", "hvae", prior) for prior in ("vampprior", "standard", "vampprior_data")]
_MNIST += [
    (dataset, "vae", prior)
    for dataset in ("static_mnist", "dynamic_mnist", "omniglot")
    for prior in ("vampprior", "standard")
]
# (dataset, model, prior), seed. What most people compare with comes first, and one seed of everything before a second.
ORDER = [(cell, 0) for cell in [*_MNIST, *_FREY, *_CALTECH]]
ORDER += [(cell, seed) for seed in (1, 2) for cell in [*_FREY, *_CALTECH]]


def runs(runs_dir, datasets=None, models=None, priors=None, seeds=3):
    """The runs of the queue, in its order.

    Args:
        runs_dir: where run folders are and are made.
        datasets: names; of these alone. So also `models` and `priors`.
        seeds: of the seeds below this alone.

    Raises:
        InvalidValue: if none is left.
    """
    wanted = (datasets, models, priors)
    order = [
        (cells.Cell(*cell), seed)
        for cell, seed in ORDER
        if seed < seeds and all(names is None or name in names for name, names in zip(cell, wanted, strict=True))
    ]
    if not order:
        flags = [f"--{flag}={','.join(names)}" for flag, names in zip(_FLAGS, wanted, strict=True) if names]
        valid = "; ".join(f"{dataset}: {', '.join(_of(dataset))}" for dataset in dict.fromkeys(c[0] for c, _ in ORDER))
        raise InvalidValue(f"the queue has no run for {' '.join(flags)} --seeds={seeds}; it has {valid}")
    return [cells.Run(cell, seed, pathlib.Path(runs_dir, f"{cell.name}_seed{seed}")) for cell, seed in order]


def _of(dataset):
    """What the queue has of a dataset, "MODEL PRIOR" each."""
    return dict.fromkeys(f"{model} {prior}" for (name, model, prior), _ in ORDER if name == dataset)


def check_flags(queued, train_flags):
    """Refuses flags of vampzoo.train that the queue decides, before anything is trained.

    Raises:
        InvalidValue: naming the flag.
    """
    for flag in train_flags:
        name = flag.lstrip("-").partition("=")[0]
        if name in ("learning_rate", "selection"):  # trials choose the rate, by the validation ELBO
            raise InvalidValue(f"--train_flags: --{name} is decided by the queue, leave it out")
    for run in queued:
        run.cell.check_flags(train_flags)


def learning_rate(run, runs_dir, train_flags=(), train=cells.train):
    """The learning rate of a run's dataset and model: which of `GRID` has the better validation ELBO after 30 epochs.

    Args:
        run: a `vampzoo.paper.cells.Run`.
        runs_dir: where trials are made, and `LEARNING_RATES` keeps what was found.
        train_flags: further flags of vampzoo.train.
        train: as `vampzoo.paper.cells.train`.

    Returns:
        A string, one of `GRID`.

    Raises:
        InvalidValue: if a trial fails; one that diverges is only not chosen, unless all do.
    """
    if run.cell.dataset in CHOSEN:
        return CHOSEN[run.cell.dataset]
    path = pathlib.Path(runs_dir, LEARNING_RATES)
    known = json.loads(path.read_text()) if path.is_file() else {}
    key = f"{run.cell.dataset} {run.cell.model}"
    if key not in known:
        values, failures = {}, []
        for rate in GRID:
            try:
                values[rate] = _trial(run.cell, rate, runs_dir, train_flags, train)
            except cells.Diverged as error:  # too high a rate
                values[rate] = None
                failures.append(f"{rate}: {error}")
        if len(failures) == len(GRID):
            raise InvalidValue(f"the trials of every learning rate diverged: {'; '.join(failures)}")
        chosen = max(values, key=lambda rate: -math.inf if values[rate] is None else values[rate])
        known[key] = {
            "epochs": TRIAL_EPOCHS,
            "prior": TRIAL_PRIOR,
            "seed": 0,
            "validation_elbo": values,
            "chosen": chosen,
        }
        files.write_text(path, json.dumps(known, indent=2) + "\n")
    return known[key]["chosen"]


def _trial(cell, rate, runs_dir, train_flags, train):
    """The best validation ELBO, nats, of 30 epochs with a learning rate."""
    trial = _trial_run(cells.Cell(cell.dataset, cell.model, TRIAL_PRIOR), rate, runs_dir)
    if not trial.training():
        how = [*train_flags, f"--learning_rate={rate}", f"--epochs={TRIAL_EPOCHS}", "--noevaluate"]
        train(trial, how, complete=False)
    return trial.training()["validation_elbo"]


def _trial_run(cell, rate, runs_dir):
    return cells.Run(cell, 0, pathlib.Path(runs_dir, "rates", f"{cell.name}_lr{rate}_seed0"))


def work(queued, runs_dir, results_dir, train_flags=(), report=print, train=cells.train, record=True):
    """Takes the runs in order until all are complete; one that fails is said and passed over.

    A run that was made on another machine, of which there is a record alone, is complete; so are its learning rates.

    Args:
        queued: what `runs` gives.
        runs_dir: where run folders are made, outside of any working tree.
        results_dir: where the record of each complete run goes, and the learning rates.
        train_flags: further flags of vampzoo.train, such as where the data is.
        report: called with a line for each run.
        train: as `vampzoo.paper.cells.train`.
        record: whether to keep records; the learning rates are kept all the same.

    Returns:
        {name of a run that failed: message}.
    """
    pathlib.Path(runs_dir, "rates").mkdir(parents=True, exist_ok=True)
    failures = {}
    rates, recorded_rates = pathlib.Path(runs_dir, LEARNING_RATES), pathlib.Path(results_dir, LEARNING_RATES)
    if recorded_rates.is_file():
        _keep_rates(recorded_rates, rates)
    for run in queued:
        try:
            if recorded(run, results_dir, train_flags) is not run:
                report(f"{run.folder.name}: recorded in {results_dir}")
                continue
            if run.state(train_flags) != "complete":
                rate = learning_rate(run, runs_dir, train_flags, train)
                _start_from_trial(run, rate, runs_dir)
                report(f"{run.folder.name}, learning rate {rate}")
                train(run, [*train_flags, f"--learning_rate={rate}"])
            if record:
                records.keep(run.folder, results_dir)
            if rates.is_file():
                _keep_rates(rates, recorded_rates)
        except (InvalidValue, OSError) as error:
            failures[run.folder.name] = str(error)
            report(f"{run.folder.name}: {error}")
    return failures


def recorded(run, results_dir, train_flags=()):
    """The record of a run that has no folder here and was complete elsewhere, as a run; any other run is given back."""
    record = cells.Run(run.cell, run.seed, pathlib.Path(results_dir, run.folder.name))
    return record if not run.folder.exists() and record.state(train_flags) == "complete" else run


def _keep_rates(found, record):
    """Adds learning rates to a file, which may hold others."""
    known = json.loads(record.read_text()) if record.is_file() else {}
    known |= json.loads(found.read_text())
    files.write_text(record, json.dumps(dict(sorted(known.items())), indent=2) + "\n")


def _start_from_trial(run, rate, runs_dir):
    """Gives a new run the trial that was its own first epochs, if there is one."""
    trial = _trial_run(run.cell, rate, runs_dir)
    if run.seed or run.folder.exists() or not trial.folder.exists():
        return
    copy = run.folder.with_name(f"{files.TEMPORARY_PREFIX}{run.folder.name}")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(trial.folder, copy)
    (copy / "training.json").unlink(missing_ok=True)
    copy.rename(run.folder)
