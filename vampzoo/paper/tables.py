"""The paper's tables beside our numbers: from the evaluations of runs, never by hand."""

import numpy as np

from vampzoo import config, datasets, evaluation
from vampzoo.config import MODEL_TITLES
from vampzoo.errors import InvalidValue
from vampzoo.paper import records
from vampzoo.paper import results as paper

UNKNOWN_DATA = "data that is not described here"
PRIOR_TITLES = {**config.PRIOR_TITLES, "weighted": "VampPrior, weighted"}


def row(cell, complete, number=1):
    """What a table says of a cell, as plain data.

    Args:
        cell: a `vampzoo.paper.cells.Cell`.
        complete: its complete runs.
        number: of the paper's table.

    Returns:
        A dictionary. `mean` and `sd` are over seeds (`sd` None for a single one), `stderr` over the test images of a run.
        All are None if there is no run.

    Raises:
        InvalidValue: if the runs are not of the same data.
    """
    results = [run.evaluation() for run in complete]
    bits = datasets.DATASETS[cell.dataset].likelihood != "bernoulli"
    measure = "bits_per_dimension" if bits else "log_likelihood"
    if len(prints := {result["fingerprint"] for result in results}) > 1:
        raise InvalidValue(f"the runs of {cell.name} were evaluated on different data: {sorted(prints)}")
    values = np.array([result[measure] for result in results], np.float64)
    mean = float(values.mean()) if len(values) else None
    paper_value = paper.result(cell.dataset, cell.model, cell.prior, number) if plain(cell) else None
    return {
        "dataset": cell.dataset,
        "model": cell.model,
        "prior": cell.prior,
        "num_components": cell.settings()["model"].get("num_components"),
        "objective_samples": cell.objective_samples,
        "measure": measure,
        "paper": paper_value,
        "mean": mean,
        "sd": float(values.std(ddof=1)) if len(values) > 1 else None,
        "stderr": float(np.mean([result[f"{measure}_stderr"] for result in results])) if results else None,
        "difference": None if mean is None or paper_value is None else mean - paper_value,
        "fingerprint": prints.pop() if prints else None,
        "runs": [_run_entry(run, result, measure) for run, result in zip(complete, results, strict=True)],
    }


def plain(cell):
    """Whether a cell is one of the paper's tables: its dataset's K, and the ELBO."""
    return cell.num_components is None and not cell.objective_samples


def _run_entry(run, result, measure):
    training = run.config()["training"]
    return {
        "run": run.folder.name,
        "seed": run.seed,
        "value": result[measure],
        "num_images": result["num_images"],
        "num_samples": result["num_samples"],
        "training": training,
        "departures": {name: {"run": ours, "configured": cell} for name, (ours, cell) in run.departures().items()},
        "cut_short": run.cut_short(),
        "evaluation_seconds": result.get("seconds"),
        **{name: run.training().get(name) for name in ("epochs", "best_epoch", "train_seconds")},
    }


def gain(run, reference):
    """What a run gains over another on the same test images, nats: mean and standard error of paired differences.

    Far better known than either log-likelihood, since what images differ in cancels.
    """
    a, b = (records.log_likelihoods(r.folder) for r in (run, reference))
    return evaluation.mean_and_standard_error(a - b)


def comparable(run, reference):
    """Whether two runs were evaluated on the same images with as many samples, so that their difference means something."""
    a, b = run.evaluation(), reference.evaluation()
    return all(a[name] == b[name] for name in ("fingerprint", "num_images", "num_samples"))


def gains(complete):
    """{run folder: {"over": the standard prior's run, "nats", "stderr"}} for runs of the same data, model and seed."""
    standard = [run for run in complete if run.cell.prior == "standard" and plain(run.cell)]
    references = {(run.cell.dataset, run.cell.model, run.seed): run for run in standard}
    found = {}
    for run in complete:
        reference = references.get((run.cell.dataset, run.cell.model, run.seed))
        if reference is None or reference == run or not plain(run.cell):
            continue
        if comparable(run, reference):
            nats, stderr = gain(run, reference)
            found[run.folder.name] = {"over": reference.folder.name, "nats": nats, "stderr": stderr}
    return found


def table(title, number, cells, complete):
    """A table as plain data: what the JSON holds and `markdown` shows."""
    rows = [row(cell, [run for run in complete if run.cell == cell], number) for cell in cells]
    return {"title": title, "rows": rows, "gains_over_standard_prior": gains(complete)}


# === Markdown ===


def _number(value, digits=2, sign=""):
    return "" if value is None else f"{value:{sign}.{digits}f}"


def _markdown_row(entry):
    digits = 3 if entry["measure"] == "bits_per_dimension" else 2
    ours = _number(entry["mean"], digits) + ("" if entry["sd"] is None else f" ± {entry['sd']:.{digits}f}")
    components = "" if entry["prior"] == "standard" else f", K = {entry['num_components']}"
    cells = (
        datasets.DATASETS[entry["dataset"]].title,
        MODEL_TITLES[entry["model"]]
        + (f", IWAE k = {entry['objective_samples']}" if entry["objective_samples"] else ""),
        PRIOR_TITLES[entry["prior"]] + components,
        _number(entry["paper"]),
        ours,
        str(len(entry["runs"])),
        _number(entry["stderr"], digits),
        _number(entry["difference"], digits, "+"),
    )
    return "| " + " | ".join(cells) + " |"


def markdown(data, incomplete=()):
    """The table as Markdown, with notes on data, training and what is missing.

    Args:
        data: as `table` returns it.
        incomplete: names of runs that are not in it.
    """
    heads = ("data", "model", "prior", "the paper", "ours", "seeds", "s.e. over images", "ours - paper")
    lines = [
        f"# {data['title']}",
        "",
        "Test log-likelihood in nats (higher is better); bits per dimension for grey images (lower is better). "
        "`ours` is the mean over seeds ± the standard deviation between them; `s.e.` the standard error of one run over "
        "test images. Written by `vampzoo.reproduce` from the runs' `evaluation.json`.",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
        *map(_markdown_row, data["rows"]),
    ]
    if data["gains_over_standard_prior"]:
        lines += ["", "Gain over the standard prior on the same test images (paired, nats ± standard error):", ""]
        for run, entry in data["gains_over_standard_prior"].items():
            lines.append(f"- {run}: {entry['nats']:+.2f} ± {entry['stderr']:.2f}")
    notes = _notes(data["rows"])
    lines += ["", "Data and training:", "", *notes] if notes else []
    runs = [run for entry in data["rows"] for run in entry["runs"]]
    for said in (departures(runs), cut_short(runs)):
        lines += ["", *said] if said else []
    if times := _times(data["rows"]):
        lines += ["", "Time of each run, with whatever else the machine did:", "", *times]
    if incomplete:
        lines += ["", f"Not complete: {', '.join(incomplete)}."]
    return "\n".join(lines) + "\n"


def _notes(rows):
    """A line a dataset on what it was measured on, and a line for each way of training."""
    lines = []
    for fingerprint, dataset in dict.fromkeys((e["fingerprint"], e["dataset"]) for e in rows if e["fingerprint"]):
        known = datasets.VARIANTS.get(fingerprint, UNKNOWN_DATA)
        lines.append(f"- {datasets.DATASETS[dataset].title}: {known} (fingerprint `{fingerprint[:12]}`).")
    shown = (
        "learning_rate",
        "epochs",
        "patience",
        "batch_size",
        "weight_decay",
        "ema_momentum",
        "q_dropout",
        "p_dropout",
    )
    recipes = {}
    for entry in rows:
        for run in entry["runs"]:
            how = [f"{name} {run['training'][name]:g}" for name in shown if name in run["training"]]
            how += [f"{run['num_images']} test images", f"S = {run['num_samples']}"]
            recipes.setdefault(f"{datasets.DATASETS[entry['dataset']].title}: {', '.join(how)}", None)
    return lines + [f"- {recipe}." for recipe in recipes]


def trained(runs):
    """How the runs of a figure were trained, as plain data.

    Args:
        runs: complete `vampzoo.paper.cells.Run`s.

    Returns:
        {"seeds": [...], "cut_short": epochs at which runs were ended, "departures": {setting that is not that of the
        configurations: {"run": [...], "configured": [...]}}}, distinct values each, in the order of the runs.
    """
    departures = {}
    for run in runs:
        for name, values in run.departures().items():
            found = departures.setdefault(name, {"run": [], "configured": []})
            for kind, value in zip(found, values, strict=True):
                found[kind] += [value] * (value not in found[kind])
    return {
        "seeds": sorted({run.seed for run in runs}),
        "cut_short": sorted({run.training()["epochs"] for run in runs if run.cut_short()}),
        "departures": departures,
    }


def departures(runs):
    """Lines on every setting (width, latents, likelihood, training, data) that is not that of a run's configuration.

    Args:
        runs: the entries of runs in what `row` gives.
    """
    different = [run for run in runs if run["departures"]]
    if not runs:
        return []
    if not different:
        return ["All settings of these runs, of model, data and training, are those of the configurations."]
    lines = ["Settings that are not those of the configurations (all others of model, data and training are):", ""]
    for run in different:
        said = [f"{name} {d['run']} instead of {d['configured']}" for name, d in run["departures"].items()]
        lines.append(f"- {run['run']}: {', '.join(said)}")
    return lines


def cut_short(runs):
    """Lines on the runs that neither early stopping nor their configuration's last epoch ended.

    Args:
        runs: as for `departures`.
    """
    names = [f"{run['run']} (epoch {run['epochs']}, the best {run['best_epoch']})" for run in runs if run["cut_short"]]
    return (
        [f"Ended before early stopping or the last epoch of their configuration: {', '.join(names)}."] if names else []
    )


def _times(rows):
    """A line for each run that says how long it took."""
    return [
        f"- {run['run']}: {run['train_seconds'] / 60:.0f} min of training ({run['epochs']} epochs, the best was "
        f"{run['best_epoch']}), {run['evaluation_seconds'] / 60:.0f} min of evaluation"
        for entry in rows
        for run in entry["runs"]
        if run["train_seconds"] is not None and run["evaluation_seconds"] is not None
    ]
