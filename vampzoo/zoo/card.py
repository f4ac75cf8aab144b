"""The card of a preset: what was measured, on what, how to repeat it. Every number comes from the files of the run.

It begins with the metadata that Hugging Face's hub reads, YAML whose values are written as JSON (a part of YAML), so that
cards are the same with and without the hub's own library.
"""

import json
import math
import pathlib
import re

from vampzoo import datasets
from vampzoo.config import AUTOREGRESSIVE_DECODERS, MODEL_TITLES, SELECTION_TITLES, TrainingConfig
from vampzoo.errors import InvalidValue
from vampzoo.zoo import preset_folder

PRIOR_DESCRIPTIONS = {
    "standard": "standard normal prior",
    "mog": "mixture-of-Gaussians prior",
    "vampprior": "VampPrior",
    "vampprior_data": "VampPrior on training images",
}
UNKNOWN_LICENSE = "unknown"
_LICENSE_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def selected_by(config):
    """What the best epoch was chosen by, one of `vampzoo.config.SELECTIONS`: in history.csv validation_<selection>."""
    return config["training"].get("selection", "elbo")


def check_license(license):
    """Raises ValueError if a text cannot be the short name of a licence, as the hub's model cards have them."""
    if not _LICENSE_NAME.fullmatch(license):
        raise InvalidValue(
            f"license={license!r} is no short name of a licence, such as mit, apache-2.0, cc-by-4.0, other or unknown"
        )


def metrics(name, config, evaluation, history, paper_value=None, license=UNKNOWN_LICENSE):
    """What metrics.json holds: the evaluation, the training in three numbers, the paper's cell and the licence.

    Args:
        name: of the preset.
        config: contents of config.json.
        evaluation: contents of evaluation.json.
        history: the rows of history.csv, dictionaries of strings.
        paper_value: the paper's test result for this cell, in the unit that it prints; None if it has none.
        license: of the weights, by its short name.
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
        "license": license,
    }


def metrics_of_unmeasured(name, config, license=UNKNOWN_LICENSE):
    """What metrics.json holds for a model of which nothing is known but its weights and its configuration."""
    model = config["model"]
    return {
        "name": name,
        "model": model["model"],
        "prior": model["prior"],
        "dataset": config["data"]["dataset"],
        "paper": None,
        "evaluation": None,
        "training": None,
        "vampzoo_version": config.get("vampzoo_version"),
        "license": license,
    }


def render(metrics, config, note=""):
    """README.md of a preset folder, as text.

    Args:
        metrics: as `metrics` or `metrics_of_unmeasured` returns them.
        config: contents of config.json.
        note: what else must be known of the data, a sentence or more.
    """
    model, name = config["model"], metrics["name"]
    spec = datasets.DATASETS.get(metrics["dataset"])
    prior = PRIOR_DESCRIPTIONS[model["prior"]]
    if model["prior"] != "standard":
        prior += f", K = {model['num_components']}, {'trained' if model['weighted'] else 'equal'} weights"
    sections = [
        _front_matter(metrics),
        f"# {name}",
        f"{MODEL_TITLES[model['model']]} with a {prior}, trained on {_title(metrics['dataset'])}, "
        f"images {'x'.join(map(str, model['image_shape']))}, "
        f"likelihood `{model['likelihood']}`.",
        "![Images drawn from the model](samples.png)",
        f'```python\nimport vampzoo\n\nmodel = vampzoo.load("{name}")\nimages = model.sample(16, seed=1)\n```',
        "## Results",
        *_results(metrics),
        "## Data",
        *_data(spec, config["data"].get("fingerprint"), note),
        "## Training",
        _training(metrics, config),
        "## Limits and licence",
        _limits(metrics, config),
    ]
    return "\n\n".join(sections) + "\n"


def _title(dataset):
    spec = datasets.DATASETS.get(dataset)
    return spec.title if spec else dataset


# === What the hub reads ===


def _front_matter(metrics):
    """The metadata between two lines of ---, see https://huggingface.co/docs/hub/model-cards."""
    model, prior, dataset = metrics["model"], metrics["prior"], metrics["dataset"]
    results = _hub_results(metrics)
    data = {
        "license": metrics.get("license", UNKNOWN_LICENSE),
        "library_name": "vampzoo",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["vampzoo", "keras", "tensorflow", "variational-autoencoder", model, prior],
    }
    # Data of one's own has no name that a stranger could look for.
    if (hub_name := dataset.removeprefix("tfds:")) in datasets.DATASETS or dataset.startswith("tfds:"):
        data["datasets"] = [hub_name]
    if results:
        data["metrics"] = [result["type"] for result in results]
        of_data = {"type": hub_name, "name": _title(dataset), "split": metrics["evaluation"]["split"]}
        if fingerprint := metrics["evaluation"].get("fingerprint"):
            of_data["args"] = {"fingerprint": fingerprint}
        task = {"type": "unconditional-image-generation", "name": "Unconditional Image Generation"}
        data["model-index"] = [
            {"name": metrics["name"], "results": [{"task": task, "dataset": of_data, "metrics": results}]}
        ]
    lines = []
    for key, value in data.items():
        text = json.dumps(value, indent=2, ensure_ascii=False)
        # What goes on in a further line of YAML has to be indented more than its key.
        lines.append(f"{key}: {text}".replace("\n", "\n  "))
    return "\n".join(["---", *lines, "---"])


def _hub_results(metrics):
    """What was measured, as a list of the hub's metrics."""
    evaluation, results = metrics["evaluation"] or {}, []
    for label, key, _ in MEASURED:
        value = evaluation.get(key)
        if isinstance(value, int | float) and math.isfinite(value):
            args = {"stderr": evaluation.get(f"{key}_stderr")}
            if key in ("log_likelihood", "bits_per_dimension"):
                args["num_samples"] = evaluation["num_samples"]
            if key.startswith("refined_"):
                args["num_samples"] = evaluation["refined_num_samples"]
            args["seed"] = evaluation["seed"]
            args = {name: v for name, v in args.items() if v is not None}
            results.append({"type": key, "value": value, "name": label, "args": args})
    return results


# === The sections ===


def _data(spec, fingerprint, note):
    lines = [spec.source if spec else "Data of the one who trained this model."]
    if fingerprint in datasets.VARIANTS:
        lines.append(f"Here: {datasets.VARIANTS[fingerprint]}.")
    if fingerprint in datasets.OVERLAPS:
        lines.append(f"{datasets.OVERLAPS[fingerprint]}.")
    paragraphs = [" ".join([*lines, note]).strip()]
    if fingerprint:
        paragraphs.append(
            f"Fingerprint of images and splits: `{fingerprint}`. Numbers measured on "
            "other data or another split are comparable only within the noise of a split."
        )
    return paragraphs


def _training(metrics, config):
    training, name = metrics["training"], metrics["name"]
    if training is None:
        return "How it was trained is not recorded."
    # The one dataset that has no place of its own: vampzoo.export leaves the path out, which is of one machine.
    own_data = " --data_file=YOUR.npz" if metrics["dataset"] == "npz" else ""
    return (
        _departures(config["training"], training["epochs"])
        + f"{training['epochs']} epochs; the weights are those after epoch {training['best_epoch']}, which had the best "
        f"{SELECTION_TITLES[training['selection']]} of the validation images ({training['best_validation']:.2f} nats)."
        + _unfinished(training, config["training"])
        + " To repeat it, from the folder that holds this one (give `--data_dir` and `--manual_dir` if the data is not in "
        "TFDS's own folder):\n\n```\npython -m vampzoo.train "
        f"--flagfile={name}/train.flags --run_dir=runs/{name}{own_data}\n```"
    )


def _unfinished(training, how):
    """A sentence if nothing but the number of epochs ended it: not early stopping, nor a rate that had fallen to 0."""
    patience, falling = (
        how.get(name, getattr(TrainingConfig(), name)) for name in ("patience", "learning_rate_decay_epochs")
    )
    if 0 < falling <= training["epochs"] or training["epochs"] - training["best_epoch"] > patience:
        return ""
    return " Early stopping had not come by then: longer training may take it further."


PAPER_LEARNING_RATES = (1e-4, 5e-4)  # the grid of section 5.1


def _departures(training, epochs):
    """What the paper's models were not trained with, in as many epochs as there were."""
    usual, used = TrainingConfig(), []
    for name, text in (
        ("batch_size", "batches of {}"),
        ("warmup_epochs", "warm-up over {} epochs"),
        ("patience", "patience of {} epochs"),
    ):
        if (value := training.get(name, getattr(usual, name))) != getattr(usual, name):
            used.append(text.format(value))
    rate, falling = training.get("learning_rate", usual.learning_rate), training.get("learning_rate_decay_epochs")
    if falling or rate not in PAPER_LEARNING_RATES:
        used.append(f"learning rate {rate:g}" + (f" falling to 0 over {falling} epochs" if falling else ""))
    if (objective := training.get("objective", "elbo")) != "elbo":
        first, count = training.get("one_sample_epochs", 0), training["objective_samples"]
        after = f" after {first} epochs of one" if first else ""
        gradient = " with doubly reparameterised gradients" if objective == "dreg" else ""
        if first < epochs:
            used.append(f"importance-weighted objective of {count} sample{'s' * (count > 1)}{after}{gradient}")
        elif gradient:  # with one sample there is no other bound than the ELBO
            used.append(f"the ELBO{gradient}")
    elif (count := training.get("objective_samples", 1)) > 1 and training.get("one_sample_epochs", 0) < epochs:
        used.append(f"the mean ELBO of {count} samples")
    names = ("weight_decay", "ema_momentum", "q_dropout", "p_dropout")
    used += [f"{name} {training[name]:g}" for name in names if training.get(name)]
    if pixels := training.get("shift_pixels"):
        first = training.get("shift_epochs", 0)
        when = f" in the first {first} epochs" if 0 < first < epochs else ""
        used.append(f"training images moved by up to {pixels} pixel{'s' * (pixels > 1)}{when}")
    if start := training.get("start_from"):
        used.append(f"weights that were those of {pathlib.PurePath(start).name}, where the networks are alike")
    if (precision := training.get("mixed_precision", "none")) != "none":
        used.append(f"networks that compute in {precision}")
    if training.get("optimizer") == "adam":
        used.append("Adam on gradients that are not normalised")
    return f"Not as in the paper: {', '.join(used)}. " if used else ""


LOOSE_EFFECTIVE_SAMPLES = 10

MEASURED = (  # (label, key of evaluation.json, digits)
    ("bits per dimension", "bits_per_dimension", 3),
    ("log-likelihood, nats", "log_likelihood", 2),
    ("bits per dimension, refined proposals", "refined_bits_per_dimension", 3),
    ("log-likelihood, refined proposals, nats", "refined_log_likelihood", 2),
    ("ELBO, nats", "elbo", 2),
    ("distortion, nats", "distortion", 2),
    ("rate, nats", "rate", 2),
)


def _results(metrics):
    evaluation = metrics["evaluation"]
    if evaluation is None:
        return ["Not measured."]
    bits = "bits_per_dimension" in evaluation
    paper_value = "none for this cell" if metrics["paper"] is None else f"{metrics['paper']:.2f}"
    rows = [("the paper, " + ("bits per dimension" if bits else "log-likelihood, nats"), paper_value)]
    for label, key, digits in MEASURED:
        if evaluation.get(key) is not None:
            error = evaluation.get(f"{key}_stderr")
            rows.append((label, f"{evaluation[key]:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")))
    if "active_units" in evaluation:
        rows.append(("active units", ", ".join(f"{n} of {layer}" for layer, n in evaluation["active_units"].items())))
    if "effective_components" in evaluation:
        rows.append(("effective components", f"{evaluation['effective_components']:.1f}"))
    return [
        "| | test |\n|---|---|\n" + "\n".join(f"| {label} | {value} |" for label, value in rows),
        f"Measured on the {evaluation['num_images']:,} images of the {evaluation['split']} split; the log-likelihood with "
        f"S = {evaluation['num_samples']:,} importance samples an image and seed {evaluation['seed']}. "
        "± is the standard error over images.",
        *_tightness(evaluation),
    ]


def _tightness(evaluation):
    """Paragraphs on how tight the log-likelihood is, of evaluations that looked at it."""
    lines = []
    if (effective := evaluation.get("effective_samples_median")) is not None:
        lines.append(
            f"Of an image's {evaluation['num_samples']:,} samples {effective:.1f} count (the median effective number)"
            + (": so few that the estimate is a loose bound." if effective < LOOSE_EFFECTIVE_SAMPLES else ".")
        )
    if evaluation.get("refined_log_likelihood") is not None:
        lines.append(
            "Refined proposals are a tighter bound of the same model: q(z|x) fitted to each image by "
            f"{evaluation['refined_steps']} gradient steps, S = {evaluation['refined_num_samples']:,}. "
            f"Here it lies {evaluation['refined_difference']:.2f} nats higher; the paper's numbers are without it."
        )
    if (left_out := evaluation.get("images_left_out")) is not None:
        lines.append(f"{left_out} images that are in the training images, too, are left out.")
    return [" ".join(lines)] if lines else []


def _limits(metrics, config):
    model, license = config["model"], metrics.get("license", UNKNOWN_LICENSE)
    lines = [
        "- It models images of this dataset at this size and nothing else. Images unlike them get a log-likelihood, too, "
        "which says little: do not use it to tell normal images from others without a test of your own.",
        "- The log-likelihood is a lower bound in expectation, tight as S grows."
        + (
            ""
            if model["model"] == "pixel_hvae"
            or (model["model"] == "topdown_hvae" and model.get("decoder") in AUTOREGRESSIVE_DECODERS)
            else " The pictures are means of p(x|z) for random z, not draws of pixels."
        ),
        "- The weights are under "
        + (
            "a licence that is not stated: ask who published them"
            if license == UNKNOWN_LICENSE
            else f"the licence `{license}`"
        )
        + "; the data is under the terms named above.",
    ]
    evaluation = metrics["evaluation"] or {}
    dead = evaluation.get("dead_components", 0)
    # Where more take part than have the largest share of an image, those without one are not dead but like others.
    if dead and evaluation["effective_components"] <= model["num_components"] - dead:
        lines.append(
            f"- **{dead} of the {model['num_components']} components of the prior explain no test image.**"
            + (
                ""
                if model["weighted"]
                else " As all have the same weight, that share of the samples is drawn from those."
            )
        )
    if model["prior"] == "vampprior_data":
        lines.append("- **The weights contain training images**: they are this prior's pseudo-inputs.")
    elif preset_folder.shows_training_images(config):
        lines.append("- The pseudo-inputs were trained starting from training images, and may still resemble them.")
    return "\n".join(lines)
