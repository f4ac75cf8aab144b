"""The card of a preset: what was measured, on what, how to repeat it. Every number comes from the files of the run."""

from vampzoo import datasets
from vampzoo.config import MODEL_TITLES

PRIOR_DESCRIPTIONS = {
    "standard": "standard normal prior",
    "mog": "mixture-of-Gaussians prior",
    "vampprior": "VampPrior",
    "vampprior_data": "VampPrior on training images",
}
SELECTIONS = {"elbo": "ELBO", "importance_bound": "importance-weighted bound"}


def selected_by(config):
    """What the best epoch was chosen by, a key of `SELECTIONS`; its column of history.csv is validation_<key>."""
    return config["training"].get("selection", "elbo")


def metrics(name, config, evaluation, history, paper_value=None):
    """What metrics.json holds: the evaluation, the training in three numbers, and the paper's cell.

    Args:
        name: of the preset.
        config: contents of config.json.
        evaluation: contents of evaluation.json.
        history: the rows of history.csv, dictionaries of strings.
        paper_value: the paper's test result for this cell, in the unit that it prints; None if it has none.
    """
    model, dataset, selection = config["model"], config["data"]["dataset"], selected_by(config)
    best = max(history, key=lambda row: float(row[f"validation_{selection}"]))
    return {
        "name": name,
        "model": model["model"],
        "prior": model["prior"],
        "dataset": dataset,
        "paper": paper_value,
        "evaluation": evaluation,
        "training": {
            "epochs": int(history[-1]["epoch"]),
            "best_epoch": int(best["epoch"]),
            "selection": selection,
            "best_validation": float(best[f"validation_{selection}"]),
        },
        "vampzoo_version": config.get("vampzoo_version"),
    }


def render(metrics, config, note=""):
    """README.md of a preset folder, as text.

    Args:
        metrics: as `metrics` returns them.
        config: contents of config.json.
        note: what else must be known of the data, a sentence or more.
    """
    model, name = config["model"], metrics["name"]
    evaluation, training, fingerprint = metrics["evaluation"], metrics["training"], config["data"]["fingerprint"]
    spec = datasets.DATASETS.get(metrics["dataset"])
    title = spec.title if spec else metrics["dataset"]
    prior = PRIOR_DESCRIPTIONS[model["prior"]]
    if model["prior"] != "standard":
        prior += f", K = {model['num_components']}, {'trained' if model['weighted'] else 'equal'} weights"
    sections = [
        f"# {name}",
        f"{MODEL_TITLES[model['model']]} with a {prior}, trained on {title}, "
        f"images {'x'.join(map(str, model['image_shape']))}, "
        f"likelihood `{model['likelihood']}`.",
        "![Images drawn from the model](samples.png)",
        f'```python\nimport vampzoo\n\nmodel = vampzoo.load("{name}")\nimages = model.sample(16, seed=1)\n```',
        "## Results",
        _results(metrics, evaluation),
        f"Measured on the {evaluation['num_images']:,} images of the {evaluation['split']} split; the log-likelihood with "
        f"S = {evaluation['num_samples']:,} importance samples an image and seed {evaluation['seed']}. "
        "± is the standard error over images.",
        "## Data",
        _data(spec, fingerprint, note),
        f"Fingerprint of images and splits: `{fingerprint}`. Numbers measured on "
        "other data or another split are comparable only within the noise of a split.",
        "## Training",
        _departures(config["training"])
        + f"{training['epochs']} epochs; the weights are those after epoch {training['best_epoch']}, which had the best "
        f"{SELECTIONS[training['selection']]} of the validation images ({training['best_validation']:.2f} nats). To repeat "
        "it, from the project's folder (give `--data_dir` and `--manual_dir` if the data is not in TFDS's own folder):",
        f"```\npython -m vampzoo.train --flagfile=saved_models/{name}/train.flags --run_dir=runs/{name}\n```",
        "## Limits and licence",
        _limits(config),
    ]
    return "\n\n".join(sections) + "\n"


def _data(spec, fingerprint, note):
    lines = [spec.source if spec else "Data of the one who trained this model."]
    if fingerprint in datasets.VARIANTS:
        lines.append(f"Here: {datasets.VARIANTS[fingerprint]}.")
    return " ".join([*lines, note]).strip()


def _departures(training):
    """What the paper's models were not trained with."""
    used = []
    if training.get("objective") == "iwae":
        used.append(f"importance-weighted objective of {training['objective_samples']} samples")
    names = ("weight_decay", "ema_momentum", "q_dropout", "p_dropout")
    used += [f"{name} {training[name]:g}" for name in names if training.get(name)]
    return f"Not as in the paper: {', '.join(used)}. " if used else ""


def _results(metrics, evaluation):
    bits = "bits_per_dimension" in evaluation
    paper_value = "none for this cell" if metrics["paper"] is None else f"{metrics['paper']:.2f}"
    rows = [("the paper, " + ("bits per dimension" if bits else "log-likelihood, nats"), paper_value)]
    measured = [
        ("bits per dimension", "bits_per_dimension", 3),
        ("log-likelihood, nats", "log_likelihood", 2),
        ("ELBO, nats", "elbo", 2),
        ("distortion, nats", "distortion", 2),
        ("rate, nats", "rate", 2),
    ]
    for label, key, digits in measured:
        if key in evaluation:
            error = evaluation.get(f"{key}_stderr")
            rows.append((label, f"{evaluation[key]:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")))
    if "active_units" in evaluation:
        rows.append(("active units", ", ".join(f"{n} of {layer}" for layer, n in evaluation["active_units"].items())))
    return "| | test |\n|---|---|\n" + "\n".join(f"| {label} | {value} |" for label, value in rows)


def _limits(config):
    lines = [
        "- It models images of this dataset at this size and nothing else. Images unlike them get a log-likelihood, too, "
        "which says little: do not use it to tell normal images from others without a test of your own.",
        "- The log-likelihood is a lower bound in expectation, tight as S grows."
        + (
            ""
            if config["model"]["model"] == "pixel_hvae"
            else " The pictures are means of p(x|z) for random z, not draws of pixels."
        ),
        "- The code and the weights are under the MIT licence; the data is under the terms named above.",
    ]
    if config["model"]["prior"] == "vampprior_data":
        lines.append("- **The weights contain training images**: they are this prior's pseudo-inputs.")
    elif config["training"].get("pseudo_inputs_from_data"):
        lines.append("- The pseudo-inputs were trained starting from training images, and may still resemble them.")
    return "\n".join(lines)
