"""The table of presets: what a zoo's folder holds, for people (a notebook, Markdown) and for programs (index.json)."""

import dataclasses
import html
import json
import math
import pathlib

from vampzoo import config, datasets, files
from vampzoo.zoo import hub, preset_folder
from vampzoo.zoo.errors import ZooError

INDEX_SECONDS = 60.0  # that another process may take to write it
INDEX = "index.json"
HEADS = ("preset", "model", "prior", "data", "the paper", "ours", "ours, refined", "licence", "MiB")


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a preset's config.json and metrics.json say; None where they say nothing.

    Attributes:
        model, prior, weighted, num_components, likelihood, image_shape: as in `vampzoo.config.ModelConfig`.
        dataset: a key of `vampzoo.datasets.DATASETS`, or another name.
        measure: "log_likelihood" (nats) or "bits_per_dimension", of the test images.
        value, stderr: of the measure, and its standard error over images.
        refined: the measure by the tighter bound of refined proposals (`vampzoo.evaluate --proposal=refined`).
        paper: the paper's value for this model, prior and dataset.
        effective_components: how many of the mixture's components explain the test images.
        license: of the weights.
        mebibytes: size of the folder.
    """

    model: str | None = None
    prior: str | None = None
    weighted: bool | None = None
    num_components: int | None = None
    likelihood: str | None = None
    image_shape: tuple[int, int, int] | None = None
    dataset: str | None = None
    measure: str | None = None
    value: float | None = None
    stderr: float | None = None
    refined: float | None = None
    paper: float | None = None
    effective_components: float | None = None
    license: str | None = None
    mebibytes: float | None = None


class Preset(str):
    """A preset's name, which knows more: `facts`, a `Facts`, whose fields are its attributes, too."""

    def __new__(cls, name, facts):
        preset = super().__new__(cls, name)
        preset.facts = facts
        return preset

    def __getattr__(self, name):
        if name != "facts" and name in Facts.__dataclass_fields__:
            return getattr(self.facts, name)
        raise AttributeError(f"a preset has no {name!r}")

    def __getnewargs__(self):
        return str(self), self.facts

    def cells(self):
        """The strings that stand under `HEADS`."""
        facts = self.facts
        digits = 3 if facts.measure == "bits_per_dimension" else 2
        ours = "not measured" if facts.value is None else f"{facts.value:.{digits}f}"
        if facts.stderr is not None:
            ours += f" ± {facts.stderr:.{digits}f}"
        prior = config.PRIOR_TITLES.get(facts.prior, facts.prior or "?")
        spec = datasets.DATASETS.get(facts.dataset)
        return (
            str(self),
            config.MODEL_TITLES.get(facts.model, facts.model or "?"),
            f"{prior}, weighted" if facts.weighted else prior,
            spec.title if spec else facts.dataset or "?",
            "" if facts.paper is None else f"{facts.paper:.2f}",
            ours,
            "" if facts.refined is None else f"{facts.refined:.{digits}f}",
            facts.license or "unknown",
            "" if facts.mebibytes is None else f"{facts.mebibytes:.1f}",
        )


class Presets(list):
    """A list of `Preset`s, so of names, that shows itself as a table."""

    def rows(self):
        """What `INDEX` holds: a dictionary for each preset."""
        return [{"name": str(preset), **dataclasses.asdict(preset.facts)} for preset in self]

    def __repr__(self):
        table = [HEADS, *(preset.cells() for preset in self)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in table)

    def _repr_html_(self):
        def line(tag, cells):
            return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

        return f"<table>{line('th', HEADS)}{''.join(line('td', preset.cells()) for preset in self)}</table>"

    def markdown(self):
        """The text of README.md in a zoo's folder: the table, with links to the cards."""
        lines = [
            "# The presets",
            "",
            "Load one with `vampzoo.load(name)`. Test log-likelihood in nats (higher is better), bits per dimension for "
            "grey images (lower is better), ± the standard error over test images; refined proposals are a tighter "
            "bound of the same model. The data of each is described in its "
            f"card. Written by `python -m vampzoo.reproduce --preset_table`, as is `{INDEX}`, the same for programs.",
            "",
            f"| {' | '.join(HEADS)} |",
            "|---" * len(HEADS) + "|",
        ]
        for preset in self:
            _, *cells = preset.cells()
            lines.append(f"| [{preset}]({preset}/README.md) | {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


def presets(zoo_dir=None, *, model=None, prior=None, dataset=None):
    """The presets, sorted by name.

        vampzoo.presets(model="hvae", dataset="caltech101")

    Args:
        zoo_dir: a folder of presets, or "hf://OWNER"; None: the environment's VAMPZOO_ZOO, or what came with this
            installation.
        model: one of `vampzoo.config.MODELS`; None: any.
        prior: one of `vampzoo.config.PRIORS`; None: any.
        dataset: a dataset, or a part of its name ("mnist"); None: any.

    Returns:
        A `Presets`: a list of names, each with the facts about the preset as attributes (`Facts`), which a notebook shows as
        a table.

    Raises:
        ZooError: if there is no such folder, model or prior.
    """
    for what, value, valid in (("model", model, config.MODELS), ("prior", prior, config.PRIORS)):
        if value is not None and value not in valid:
            raise ZooError(f"{what}={value!r} is unknown; the valid values are: {', '.join(valid)}")
    if owner := preset_folder.zoo_owner(zoo_dir):
        found = (Preset(name, _facts_on_the_hub(owner, name)) for name in hub.names(owner))
    else:
        folder = preset_folder.zoo_folder(zoo_dir)
        found = (Preset(name, facts(folder / name)) for name in preset_folder.names(folder))
    return Presets(
        preset
        for preset in found
        if model in (None, preset.model)
        and prior in (None, preset.prior)
        and (dataset is None or dataset in (preset.dataset or ""))
    )


def facts(folder):
    """The `Facts` about a preset folder.

    A file that is missing or damaged, or a value of another type, leaves its facts out: a list of presets is not the place
    to fail because of one of them. `load` says what is wrong.
    """
    folder = pathlib.Path(folder)
    found = {}
    try:
        _, model_config = preset_folder.read_config(folder)
        for name in ("model", "prior", "weighted", "likelihood", "image_shape"):
            found[name] = getattr(model_config, name)
        found["num_components"] = None if model_config.prior == "standard" else model_config.num_components
        metrics = json.loads((folder / "metrics.json").read_text())
        evaluation = metrics["evaluation"] or {}
        measure = "bits_per_dimension" if "bits_per_dimension" in evaluation else "log_likelihood"
        found |= {name: _text(metrics.get(name)) for name in ("dataset", "license")}
        found["paper"] = _number(metrics.get("paper"))
        found |= {"value": _number(evaluation.get(measure)), "stderr": _number(evaluation.get(f"{measure}_stderr"))}
        found["measure"] = measure if evaluation else None
        found["refined"] = _number(evaluation.get(f"refined_{measure}"))
        found["effective_components"] = _number(evaluation.get("effective_components"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Facts(**found, mebibytes=round(size / 2**20, 1))


def _number(value):
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def _text(value):
    return value if isinstance(value, str) else None


def _facts_on_the_hub(owner, name):
    try:
        folder = hub.fetch_description(hub.Address(owner, name))
    except ZooError:  # tagged as one, and none
        return Facts()
    return dataclasses.replace(facts(folder), mebibytes=None)  # the weights are not here


def check_index(zoo_dir):
    """Raises ZooError if a zoo's folder has a file called `INDEX` that is no table of presets."""
    path = pathlib.Path(zoo_dir, INDEX)
    if not path.exists():
        return
    try:
        rows = json.loads(path.read_text())
        ours = isinstance(rows, list) and all(isinstance(row, dict) and "name" in row for row in rows)
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise ZooError(f"{path} is no table of presets, and an export would replace it: move it away")


def write_index(zoo_dir):
    """Writes `INDEX` of a zoo's folder, its table of presets.

    Raises:
        ZooError: if it cannot be written, or another process has been writing it for `INDEX_SECONDS`.
    """
    path = pathlib.Path(zoo_dir, INDEX)
    try:
        # From listing to writing: else of two exports that end together one could be missing.
        lock = files.Lock(path.with_name(f".{INDEX}.lock"), INDEX_SECONDS)
        try:
            files.write_text(path, json.dumps(presets(zoo_dir).rows(), indent=2) + "\n")
        finally:
            lock.release(remove=True)
    except OSError as error:  # BlockingIOError is one
        raise ZooError(f"{path} cannot be written: {error.strerror or error}") from error
