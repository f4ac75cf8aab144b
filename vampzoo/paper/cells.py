"""The cells of the paper's tables and figures: which runs they are, and how far each has come.

A cell is one model on one dataset; with a seed it is a run of `vampzoo.train` in a run folder of its own.
"""

import dataclasses
import itertools
import json
import pathlib
import subprocess
import sys

from vampzoo import datasets, files
from vampzoo.config import ModelConfig, TrainingConfig
from vampzoo.errors import NOT_FINITE, InvalidValue
from vampzoo.paper import records

# How a column of the tables is called -> the flags that make it.
COLUMNS = {
    "standard": {"prior": "standard"},
    "mog": {"prior": "mog"},
    "vampprior": {"prior": "vampprior"},
    "vampprior_data": {"prior": "vampprior_data"},
    "weighted": {"prior": "vampprior", "weighted": True},  # Eq. 16
}
CONFIGS = {"caltech101_silhouettes": "caltech", "frey_faces": "frey"}  # of the others the file has the dataset's name


@dataclasses.dataclass(frozen=True)
class Cell:
    """What is compared.

    Attributes:
        dataset: a key of `vampzoo.datasets.DATASETS`.
        model: one of `vampzoo.config.MODELS`.
        prior: a key of `COLUMNS`.
        num_components: K; None: the dataset's.
        objective_samples: k of the importance-weighted objective; 0: the ELBO with one sample.
    """

    dataset: str
    model: str
    prior: str
    num_components: int | None = None
    objective_samples: int = 0

    @property
    def name(self):
        """Of its run folders, without the seed."""
        parts = [self.model, self.prior, self.dataset]
        parts += [f"K{self.num_components}"] if self.num_components else []
        parts += [f"iwae{self.objective_samples}"] if self.objective_samples else []
        return "_".join(parts)

    def configured(self):
        """{section of config.json: {field: value}} of all settings that its flagfile and vampzoo.train's defaults give.

        The seed and where the data is are no part of it.
        """
        spec = datasets.DATASETS[self.dataset]
        names = ("num_components", "likelihood", "pseudo_inputs_mean", "pseudo_inputs_stddev", "image_shape")
        from_spec = {name: getattr(spec, name) for name in names}
        found = {
            "model": {**dataclasses.asdict(ModelConfig()), **from_spec},
            "training": dataclasses.asdict(TrainingConfig()),
            "data": {"dataset": self.dataset, "binarization": None},
        }
        for name, text in flag_values(config_file(self)).items():
            for fields in found.values():
                if name in fields:
                    fields[name] = parsed(text, fields[name])
        for section, fields in self.settings().items():
            found[section] |= fields
        found["model"]["image_shape"] = list(found["model"]["image_shape"])
        del found["training"]["seed"]
        return found

    def check_flags(self, train_flags):
        """Refuses flags of vampzoo.train that would make another cell of it, before anything is trained.

        Args:
            train_flags: --name=value each.

        Raises:
            InvalidValue: naming the flag and what the cell says.
        """
        own = {name: value for fields in self.settings().values() for name, value in fields.items()}
        for flag in train_flags:
            name, _, text = flag.lstrip("-").partition("=")
            if name in ("seed", "run_dir", "flagfile"):
                raise InvalidValue(f"--train_flags: --{name} is decided by the cell's run, leave it out")
            if name in own and parsed(text, own[name]) != own[name]:
                raise InvalidValue(
                    f"--train_flags: {flag} contradicts the cell {self.name}, whose {name} is {own[name]}"
                )

    def settings(self):
        """{section of config.json: {field: value}} that make a run one of this cell."""
        model = {"model": self.model, "weighted": False, **COLUMNS[self.prior]}
        if self.prior != "standard":
            model["num_components"] = self.num_components or datasets.DATASETS[self.dataset].num_components
        training = {"objective": "elbo", "objective_samples": 1}
        if self.objective_samples:
            training = {"objective": "iwae", "objective_samples": self.objective_samples}
        return {"model": model, "training": training, "data": {"dataset": self.dataset}}


def grid(names_of_datasets, models, priors, num_components=(None,), objective_samples=(0,)):
    """The cells of a grid, dataset by dataset; a prior without components occurs once, whatever K."""
    axes = itertools.product(names_of_datasets, models, priors, num_components, objective_samples)
    return list(
        dict.fromkeys(
            Cell(d, m, p, None if p == "standard" or k == datasets.DATASETS[d].num_components else k, s)
            for d, m, p, k, s in axes
        )
    )


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of a cell."""

    cell: Cell
    seed: int
    folder: pathlib.Path

    def state(self, train_flags=()):
        """ "complete", "started" or "new".

        Complete is a run whose weights were evaluated on all test images with as many samples as asked for, and of which the
        log-likelihood of each image is there.

        Args:
            train_flags: further flags of the train program, --name=value each, that the run must have been made with.

        Raises:
            InvalidValue: if the folder holds a run with other settings, or a damaged one.
        """
        path = self.folder / "config.json"
        if not path.exists():
            return "new"
        try:
            config = json.loads(path.read_text())
            self._check(config, train_flags)
            return "complete" if self._is_evaluated(self.num_samples(train_flags)) else "started"
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise InvalidValue(f"{self.folder} is no run folder, or damaged: {error!r}") from error

    def departures(self):
        """Settings in which the run differs from its cell's configuration: {field: (the run's value, the cell's)}.

        A setting that an older version did not record had the value that is the default now, which is the cell's unless
        its flagfile says otherwise. Of a run that was cut short the number of epochs is none of them.
        """
        config = self.config()
        departures = {
            name: (recorded, value)
            for section, fields in self.cell.configured().items()
            for name, value in fields.items()
            if (recorded := config.get(section, {}).get(name, value)) != value
        }
        if self.cut_short():
            departures.pop("epochs", None)
        return departures

    def num_samples(self, train_flags=()):
        """The importance samples asked for, for each test image: a bound with fewer is lower, and no result of the cell."""
        values = flag_values(config_file(self.cell))
        values |= {name: text for name, _, text in (flag.lstrip("-").partition("=") for flag in train_flags)}
        if not values["num_samples"].isdecimal():
            raise InvalidValue(f"--train_flags: --num_samples must be a positive integer, got {values['num_samples']}")
        return int(values["num_samples"])

    def _is_evaluated(self, num_samples):
        evaluation = self.evaluation()
        if evaluation is None or evaluation["num_samples"] < num_samples or evaluation.get("images_left_out"):
            return False
        return not records.of_other_weights(self.folder, evaluation) and records.fits(self.folder, evaluation)

    def _check(self, config, train_flags):
        expected = self.cell.settings()
        expected["training"] = {**expected["training"], "seed": self.seed}
        given = {flag.lstrip("-").partition("=")[0] for flag in train_flags}
        configured = self.cell.configured()
        for section in ("model", "data"):  # another width, likelihood or binarisation is another model or other data
            recorded = config[section]
            expected[section] |= {
                name: value for name, value in configured[section].items() if name in recorded and name not in given
            }
        if self.cell.prior == "standard":
            expected["model"].pop("num_components", None)  # of which it has none
        # A run of an older version lacks the settings that came since, and did what is their default now.
        recorded = {**config, "training": {**dataclasses.asdict(TrainingConfig()), **config["training"]}}
        for section, fields in expected.items():
            for name, value in fields.items():
                if recorded[section][name] != value:
                    raise InvalidValue(
                        f"{self.folder} holds another run: {section}.{name} is {recorded[section][name]!r}, not {value!r}. "
                        "Move it elsewhere; runs of other settings go to another --runs_dir and --out"
                    )
        for flag in train_flags:
            name, _, text = flag.lstrip("-").partition("=")
            for section in ("model", "training", "data"):
                value = recorded[section].get(name)
                if name in recorded[section] and parsed(text, value) != value:
                    raise InvalidValue(f"{self.folder} holds another run: {name} is {value!r}, not {text!r}")

    def evaluation(self):
        """What evaluation.json says of the test images; None if the run is not evaluated on them."""
        path = self.folder / "evaluation.json"
        if not path.exists():
            return None
        evaluation = json.loads(path.read_text())
        return evaluation if evaluation["split"] == "test" else None

    def config(self):
        """The contents of config.json."""
        return json.loads((self.folder / "config.json").read_text())

    def training(self):
        """What training.json says of how the training went; {} for a run of an older version, which has none."""
        path = self.folder / "training.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def cut_short(self):
        """Whether a run that is trained was ended by neither early stopping nor the last epoch of its cell's configuration.

        By hand or by a smaller number of epochs, which is how such a run comes to its evaluation.
        """
        how, end = {**dataclasses.asdict(TrainingConfig()), **self.config()["training"]}, self.training()
        if not end:  # of an older version, which does not say
            return False
        last = max(how["epochs"], self.cell.configured()["training"]["epochs"])
        return end["epochs"] < last and end["epochs"] - end["best_epoch"] <= how["patience"]

    def command(self, train_flags=()):
        """The command that starts or resumes it."""
        settings = self.cell.settings()
        flags = {**settings["model"], **settings["training"], "seed": self.seed, "run_dir": self.folder}
        flags["weighted"] = str(flags["weighted"]).lower()
        given = [f"--{name}={value}" for name, value in flags.items()]
        return [sys.executable, "-m", "vampzoo.train", f"--flagfile={config_file(self.cell)}", *train_flags, *given]


def parsed(text, like):
    """The value of a flag: its text, as the type of another value of the same setting; the text if it cannot be that."""
    if isinstance(like, bool):
        return text.lower() in ("", "true", "t", "1", "yes")
    try:
        return type(like)(text) if isinstance(like, int | float) else text
    except ValueError:
        return text


def flag_values(path):
    """{flag: text} of a flagfile that comes with vampzoo, and of those that it includes; later values win."""
    values = {}
    for line in path.read_text().splitlines():
        name, equals, text = line.strip().removeprefix("--").partition("=")
        if name == "flagfile":
            values |= flag_values(path.parent / pathlib.Path(text).name)
        elif line.startswith("--no") and not equals:
            values[name.removeprefix("no")] = "false"
        elif line.startswith("--"):
            values[name] = text
    return values


def config_file(cell):
    """The flagfile of a cell: its model's on the dataset if there is one, else the dataset's.

    Raises:
        ValueError: if this installation has no configurations.
    """
    stem = CONFIGS.get(cell.dataset, cell.dataset)
    configs = files.shipped(files.CONFIGS)
    if configs is None:
        raise InvalidValue("the folder configs/ with the settings of the runs is not part of this installation")
    own = configs / f"{stem}_{cell.model.removesuffix('_hvae')}.flags"
    return own if own.exists() else configs / f"{stem}.flags"


def runs(cells, seeds, runs_dir):
    """The runs of cells: all cells of a dataset with the first seed, then with the next."""
    by_dataset = itertools.groupby(cells, key=lambda cell: cell.dataset)
    return [
        Run(cell, seed, pathlib.Path(runs_dir, f"{cell.name}_seed{seed}"))
        for group in (list(group) for _, group in by_dataset)
        for seed in range(seeds)
        for cell in group
    ]


class Diverged(InvalidValue):
    """A training's loss, weights or validation ELBO became NaN or infinite: its settings will not do."""


def train(run, train_flags=(), complete=True):
    """Runs the train program until it ends.

    Args:
        run: a `Run`.
        train_flags: further flags of the train program, --name=value each.
        complete: whether the run is to be complete then, that is evaluated.

    Raises:
        InvalidValue: with the program's last words, if it fails or stops before it is done; `Diverged` if the loss, the
            weights or the validation ELBO became NaN or infinite.
    """
    process = subprocess.Popen(run.command(train_flags), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    last = ""
    try:
        for line in process.stderr:
            sys.stderr.write(line)
            last = line.strip() or last
    except BaseException:  # Ctrl-C or a signal: the run saves itself, and then we leave
        process.terminate()
        process.wait()
        raise
    if process.wait() != 0:
        kind = Diverged if NOT_FINITE in last else InvalidValue
        raise kind(f"exit code {process.returncode}: {last}")
    if complete and run.state(train_flags) != "complete":
        raise InvalidValue("it was stopped before its evaluation; the same command resumes it")
    if not complete and not run.training():
        raise InvalidValue("it was stopped before its end; the same command resumes it")
