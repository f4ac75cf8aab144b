"""RESULTS.md: the paper's Tables 1 and 2 with our numbers beside them, from the records of runs, never by hand."""

import json
import pathlib

import numpy as np

from vampzoo import datasets, evaluation
from vampzoo.config import MODEL_TITLES, SELECTION_TITLES
from vampzoo.paper import cells, records, tables
from vampzoo.paper import results as paper

MODELS = ("vae", "hvae", "conv_hvae", "pixel_hvae")  # the columns of Table 1
ORDER = (
    "static_mnist",
    "dynamic_mnist",
    "omniglot",
    "caltech101_silhouettes",
    "frey_faces",
    "histopathology",
    "glyphs",
)
MAX_SEEDS = 10
NUM_SAMPLES = 5000  # of the paper; a result with another number says so
UNRECORDED = "unrecorded.json"  # runs of which the number is known and the record was not kept
LEARNING_RATES = "learning_rates.json"
NOTES = "notes.md"  # what is to be said beside the tables


def complete_runs(results_dir):
    """The runs of the paper's cells of which `results_dir` holds complete records, in the order of the tables."""
    grid = cells.grid(ORDER, MODELS, cells.COLUMNS)
    runs = cells.runs(grid, MAX_SEEDS, results_dir)
    return [run for run in runs if run.folder.is_dir() and run.state() == "complete"]


def unfinished(results_dir):
    """A line on the folders of the paper's cells in `results_dir` that are not complete, and so in no table; or "".

    A record is not complete, for example, if it was evaluated with fewer samples than its configuration asks for.
    """
    grid = cells.grid(ORDER, MODELS, cells.COLUMNS)
    runs = cells.runs(grid, MAX_SEEDS, results_dir)
    names = [run.folder.name for run in runs if run.folder.is_dir() and run.state() != "complete"]
    return f"Not in the tables, since not complete: {', '.join(names)}." if names else ""


def markdown(results_dir, presets=()):
    """The text of RESULTS.md.

    Args:
        results_dir: folder with the records of runs, and `UNRECORDED`, `LEARNING_RATES` and `NOTES` if there are any.
        presets: the `vampzoo.zoo.Preset`s of which it should say how tight their likelihoods are.
    """
    results_dir = pathlib.Path(results_dir)
    runs = complete_runs(results_dir)
    sections = [
        "# Results",
        "Written by `python -m vampzoo.reproduce --notrain --runs_dir=results` from the records in [results/](results): "
        "configuration, history, evaluation and the log-likelihood of each test image of each run. Nats, higher is better; "
        "bits per dimension for grey images (Frey Faces, Histopathology), lower is better. Importance-sampled with "
        "S = 5,000 on all test images unless a mark or note says otherwise. All runs on one or two CPU cores.",
        "## Table 1: test log-likelihood",
        table_1(runs, unrecorded(results_dir)),
        footnotes(unrecorded(results_dir)),
        unfinished(results_dir),
        "## What the VampPrior gains over the standard prior",
        "On the same test images, seed by seed: mean of the paired differences ± their standard error over images; with "
        "several seeds, the mean over them ± the standard deviation between them. For grey images in nats an image, too. "
        "Both values are lower bounds, and not equally loose, of which ± knows nothing: the one gain that was measured with "
        "tighter ones is smaller by them ([docs/likelihoods.md](docs/likelihoods.md)).",
        gains(runs),
        "## Table 2: the priors",
        "Of the HVAE on static MNIST the paper's values are those of its Table 2, which has -85.89 for the standard prior "
        "where its Table 1 has -86.05.",
        priors(runs),
        *tightness(presets),
        "## Data",
        "\n".join(data(runs)),
        "## How the runs were trained",
        training(runs),
    ]
    if (results_dir / LEARNING_RATES).is_file():
        rates = learning_rates(json.loads((results_dir / LEARNING_RATES).read_text()))
        sections += ["## The learning rate", rates]
    if (results_dir / NOTES).is_file():
        sections.append((results_dir / NOTES).read_text().strip())
    for picture in sorted(results_dir.glob("figure*.png")):
        number = picture.stem.removeprefix("figure")
        sections.append(f"![Figure {number}]({results_dir.name}/{picture.name})\n\n*{caption(number, results_dir)}*")
    return "\n\n".join(filter(None, sections)) + "\n"


def caption(number, results_dir):
    """Of a figure: what is in it, and in what its runs differ from the paper's recipe."""
    text = f"Figure {number} of the paper, from runs of ours"
    path = pathlib.Path(results_dir, f"figure{number}.json")
    trained = json.loads(path.read_text()).get("trained") if path.is_file() else None
    if not trained:  # it shows images, or is of an older version
        return f"{text}."
    one = len(trained["seeds"]) == 1
    text += f" with seed{'' if one else 's'} {' and '.join(map(str, trained['seeds']))}."
    said = [
        f"{name} {_listed(values['run'])} instead of {_listed(values['configured'])}"
        for name, values in trained["departures"].items()
    ]
    if trained["cut_short"]:
        said.append(f"ended at epoch {_listed(trained['cut_short'])}")
    return text + (f" By a recipe of its own: {', '.join(said)}." if said else "")


def _listed(values):
    return " or ".join(map(str, values))


# README.md shows Table 1 between these two.
START, END = "<!-- Table 1, written by vampzoo.reproduce -->", "<!-- the end of Table 1 -->"


def has_place(text):
    """Whether a text has a place for Table 1."""
    return START in text and END in text


def with_table_1(text, results_dir):
    """The text with Table 1 in its place."""
    table = table_1(complete_runs(results_dir), unrecorded(results_dir))
    return text[: text.index(START) + len(START)] + f"\n\n{table}\n\n" + text[text.index(END) :]


def unrecorded(results_dir):
    """[{"dataset", "model", "prior", "value", "stderr", "remark", "command"}] of `UNRECORDED`; empty without the file."""
    path = pathlib.Path(results_dir, UNRECORDED)
    return json.loads(path.read_text()) if path.is_file() else []


def ours(cell, runs, others=()):
    """A cell's entry: mean ± standard deviation over seeds, or ± the standard error of a single run, and the seeds.

    Args:
        cell: a `vampzoo.paper.cells.Cell`.
        runs: complete runs.
        others: entries of `unrecorded`, marked by the number of their footnote.
    """
    entry = tables.row(cell, [run for run in runs if run.cell == cell])
    digits = 3 if entry["measure"] == "bits_per_dimension" else 2
    if entry["mean"] is not None:
        spread = entry["stderr"] if entry["sd"] is None else entry["sd"]
        text = f"{entry['mean']:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")
        samples = {run["num_samples"] for run in entry["runs"]} - {NUM_SAMPLES}
        mark = "".join(f"; S = {s:,}" for s in sorted(samples))
        mark += "; other settings" if any(run["departures"] for run in entry["runs"]) else ""
        mark += "".join(f"; ended at epoch {run['epochs']}" for run in entry["runs"] if run["cut_short"])
        return f"{text} ({len(entry['runs'])}{mark})"
    for number, other in enumerate(others, start=1):
        if (other["dataset"], other["model"], other["prior"]) == (cell.dataset, cell.model, cell.prior):
            return f"{other['value']:.{digits}f} ± {other['stderr']:.{digits}f} [{number}]"
    return ""


def table_1(runs, others=()):
    """Rows datasets, columns models with both priors; under the paper's numbers ours."""
    columns = [(model, prior) for model in MODELS for prior in ("standard", "vampprior")]
    heads = [f"{MODEL_TITLES[m]}{' + VampPrior' if p == 'vampprior' else ''}" for m, p in columns]
    lines = ["| | | " + " | ".join(heads) + " |", "|" + "---|" * (len(columns) + 2)]
    for dataset in ORDER:
        paper_row = [paper.result(dataset, *column) for column in columns]
        our_row = [ours(cells.Cell(dataset, *column), runs, others) for column in columns]
        title = datasets.DATASETS[dataset].title
        if any(value is not None for value in paper_row):
            values = ["" if value is None else f"{value:.2f}" for value in paper_row]
            lines.append(f"| {title} | the paper | " + " | ".join(values) + " |")
            title = ""
        if any(our_row):
            lines.append(f"| {title} | ours | " + " | ".join(our_row) + " |")
    return "\n".join(lines) + "\n\n" + BRACKETS


BRACKETS = (
    "In round brackets the number of seeds: with several, ± is the standard deviation between them; with one, the standard "
    "error over test images. A run that ended at an epoch was stopped there, before early stopping. A number in square "
    "brackets is that of a note in RESULTS.md, on a single run with fewer samples or another recipe. An empty cell has not "
    "been run by the paper's recipe; what others reach is under Beyond the paper in RESULTS.md."
)


def footnotes(others):
    """What is to be known of the runs whose records were not kept, by the numbers that `table_1` gives them."""
    return "\n\n".join(f"[{i}] {other['remark']} `{other['command']}`" for i, other in enumerate(others, start=1))


def gains(runs):
    """The gain of each prior over the standard one, averaged over the seeds that both have.

    ± is the standard error over images of a single seed, and the standard deviation between several, which is the larger: it
    holds what training anew changes.
    """
    lines = ["| data | model | prior | seeds | gain, nats | the paper's gain |", "|---|---|---|---|---|---|"]
    by_cell = {(run.cell, run.seed): run for run in runs}
    for cell in dict.fromkeys(run.cell for run in runs if run.cell.prior != "standard"):
        standard = cells.Cell(cell.dataset, cell.model, "standard")
        seeds = [
            seed
            for (c, seed), run in by_cell.items()
            if c == cell and (other := by_cell.get((standard, seed))) and tables.comparable(run, other)
        ]
        if not seeds:
            continue
        pairs = [[records.log_likelihoods(by_cell[c, seed].folder) for c in (cell, standard)] for seed in seeds]
        differences = np.array([with_prior - without for with_prior, without in pairs])  # [seeds, N]
        mean, error = evaluation.mean_and_standard_error(differences[0])
        if len(seeds) > 1:
            mean, error = differences.mean(), differences.mean(axis=1).std(ddof=1)
        known = [
            paper.result(cell.dataset, cell.model, prior, number(cell.dataset)) for prior in (cell.prior, "standard")
        ]
        of_pairs = [by_cell[c, seed] for c in (cell, standard) for seed in seeds]
        mark = "; other settings" if any(run.departures() for run in of_pairs) else ""
        mark += "; not trained to the end" if any(run.cut_short() for run in of_pairs) else ""
        bits = datasets.DATASETS[cell.dataset].likelihood != "bernoulli"
        theirs = "" if None in known else f"{known[0] - known[1]:+.2f}" + (" bits per dimension" if bits else "")
        lines.append(
            f"| {datasets.DATASETS[cell.dataset].title} | {MODEL_TITLES[cell.model]} | {tables.PRIOR_TITLES[cell.prior]} "
            f"| {len(seeds)} | {mean:+.2f} ± {error:.2f}{mark} | {theirs} |"
        )
    return "\n".join(lines) if len(lines) > 2 else "No pair of runs is complete."


def priors(runs):
    """Table 2 and its like: rows priors, columns the datasets on which an HVAE or VAE has several."""
    columns = list(dict.fromkeys((run.cell.dataset, run.cell.model) for run in runs))
    lines = [
        "| prior | " + " | ".join(f"{MODEL_TITLES[m]}, {datasets.DATASETS[d].title}" for d, m in columns) + " |",
        "|" + "---|" * (len(columns) + 1),
    ]
    for prior in cells.COLUMNS:
        entries = []
        for dataset, model in columns:
            value = paper.result(dataset, model, prior, number(dataset))
            theirs = "" if value is None else f" (the paper {value:.2f})"
            entries.append((ours(cells.Cell(dataset, model, prior), runs) + theirs).strip())
        lines.append(f"| {tables.PRIOR_TITLES[prior]} | " + " | ".join(entries) + " |")
    return "\n".join(lines) if columns else "No run is complete."


def tightness(presets):
    """The section on a tighter bound of the published models; none if it was not measured."""
    lines = ["| preset | the paper | ours | refined |", "|---|---|---|---|"]
    for preset in presets:
        if preset.refined is not None:
            _, _, _, _, theirs, plain, refined, *_ = preset.cells()
            lines.append(f"| {preset} | {theirs} | {plain} | {refined} |")
    if len(lines) == 2:
        return []
    return [
        "## How tight these numbers are",
        "Importance sampling with the encoder's draws (S = 5,000; of the glyphs 1,000) is a lower bound, and by how much "
        "depends on the encoder. With the proposal refined for each image the same models are worth more; only the plain "
        "figure may be held against the paper's. [docs/likelihoods.md](docs/likelihoods.md) has the differences with their "
        "errors, ten times the samples and annealing.",
        "\n".join(lines),
    ]


def number(dataset):
    """The table of the paper that speaks of a dataset's priors: 2 of static MNIST, 1 of the others."""
    return 2 if dataset == "static_mnist" else 1


def data(runs):
    """A line for each dataset that was measured on: what is known of it, and its fingerprint.

    Where a dataset has several, the line names their runs, which are not to be compared with the others.
    """
    of_data = {}  # {(dataset, fingerprint): names of runs}
    for run in runs:
        of_data.setdefault((run.cell.dataset, run.evaluation()["fingerprint"]), []).append(run.folder.name)
    lines = []
    for (dataset, fingerprint), names in of_data.items():
        several = sum(other == dataset for other, _ in of_data) > 1
        lines.append(
            f"- {datasets.DATASETS[dataset].title}: {datasets.VARIANTS.get(fingerprint, tables.UNKNOWN_DATA)} "
            f"(fingerprint `{fingerprint[:12]}`{': ' + ', '.join(names) if several else ''})."
        )
    return lines


def training(runs):
    """A row for each run: rate, epochs, the best of them, its validation ELBO, active units and time.

    Below it the runs whose settings are not their cell's configuration, and those that were cut short; `ours` marks both.
    """
    lines = [
        "| run | learning rate | epochs (best) | best validation ELBO | test ELBO | active units | training, evaluation |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        how, end, result = run.config()["training"], run.training(), run.evaluation()
        units = ", ".join(f"{n} of {layer}" for layer, n in result["active_units"].items())
        lines.append(
            f"| {run.folder.name} | {how['learning_rate']:g} | {end['epochs']} ({end['best_epoch']}) "
            f"| {_best_validation(how, end)} | {result['elbo']:.2f} | {units} "
            f"| {end['train_seconds'] / 60:.0f} min, {result['seconds'] / 60:.0f} min |"
        )
    entries = [tables.row(run.cell, [run])["runs"][0] for run in runs]
    said = [part for part in (tables.departures(entries), tables.cut_short(entries)) if part]
    return "\n".join([*lines, *(line for part in said for line in ["", *part])])


def _best_validation(how, end):
    """What a run's epoch was chosen by: its validation ELBO, or what else it says."""
    selection = how.get("selection", "elbo")
    value = f"{end[f'validation_{selection}']:.2f}"
    return value if selection == "elbo" else f"{value} ({SELECTION_TITLES[selection]})"


def learning_rates(chosen):
    """How the learning rate was chosen.

    Args:
        chosen: {"dataset model": {"epochs", "prior", "seed", "validation_elbo": {rate: nats}, "chosen"}}.
    """
    lines = [
        "The paper's grid is 1e-4 and 5e-4. Chosen on validation images, by short runs of the VampPrior with each:",
        "",
        "| data, model | epochs | validation ELBO | chosen |",
        "|---|---|---|---|",
    ]
    for name, entry in chosen.items():
        values = ", ".join(
            f"{rate}: {'diverged' if value is None else f'{value:.2f}'}"
            for rate, value in entry["validation_elbo"].items()
        )
        lines.append(f"| {name} | {entry['epochs']} | {values} | {entry['chosen']} |")
    return "\n".join(lines)
