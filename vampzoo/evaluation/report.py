"""Evaluation of a run or preset on a dataset, written down: `evaluation.json` and the paper's figures."""

import csv
import json
import pathlib
import sys

import numpy as np
from tqdm import tqdm

from vampzoo import figures, files
from vampzoo.evaluation import components, measures, page, partial

NUM_IMAGES = 100  # in a grid


def write(folder, model, dataset, split="test", num_samples=5000, seed=0, out=None, resume=True, **how):
    """Evaluates `model` and writes what came out into `folder`, figures beside it: as `places` says.

    Args:
        folder: pathlib.Path of a run folder or any other.
        model: a `vampzoo.models.LatentVariableModel`.
        dataset: a `vampzoo.datasets.Dataset`.
        split: "train", "validation" or "test".
        num_samples: S.
        seed: integer.
        out: another path for the JSON; the figures go beside it, so that those of the folder stay what they were.
        resume: whether to go on with, and to keep, what is computed, in a file beside `out` until that is written. Not for
            one of several processes that compute together.
        how: further arguments of `vampzoo.evaluation.evaluate`.

    Returns:
        What the JSON file holds.

    Raises:
        ValueError: before anything is computed, if `out` cannot be written.
        OSError: if it could not be written after all; the message then holds the result.
    """
    page_path = None if out else folder / page.NAME
    out, figures_folder = places(folder, split, out)
    files.check_output(out, "the evaluation")
    images = getattr(dataset, split)
    # Of the weights evaluated, so that nobody takes it for an evaluation of others: a training may replace the file.
    weights_sha256 = model.weights_sha256
    if weights_sha256 is None and (weights := folder / files.WEIGHTS).exists():
        weights_sha256 = files.sha256(weights)
    what = {"fingerprint": dataset.fingerprint, "split": split, "num_samples": num_samples, "seed": seed}
    kept = partial.PartialResults(out.parent, model, {**what, "num_images": len(images)}) if resume else None
    if kept is not None and len(kept.values):
        print(f"going on after {len(kept.values)} images of an evaluation that was interrupted", file=sys.stderr)
    with tqdm(
        total=len(images),
        unit="image",
        desc=f"log-likelihood, S={num_samples}",
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
    ) as bar:
        result, log_likelihoods = measures.evaluate(
            model, images, num_samples, seed, progress=bar.update, kept=kept, **how
        )
    result = {"dataset": dataset.spec.name, "fingerprint": dataset.fingerprint, "split": split, **result}
    if weights_sha256:
        result["weights_sha256"] = weights_sha256
    text = json.dumps(result, indent=2) + "\n"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(out, text)
    except OSError as error:  # hours of work: it is shown where it can be
        raise OSError(f"{out} cannot be written ({error.strerror}); it would hold {json.dumps(result)}") from error
    if kept is not None:
        kept.remove()
    title = f"{dataset.spec.title}: {split} images"
    try:
        write_figures(figures_folder, model, images, log_likelihoods, title, seed)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{out} is written, but {figures_folder} cannot be: {reason}") from error
    if page_path and split == "test" and (folder / files.CONFIG).is_file():
        write_page(page_path, model, result, images, log_likelihoods, seed)
    return result


def write_page(path, model, result, images, log_likelihoods, seed):
    """Writes the page of a run folder that holds config.json and perhaps history.csv."""
    config = json.loads((path.parent / files.CONFIG).read_text())
    history = path.parent / "history.csv"
    rows = list(csv.DictReader(history.read_text().splitlines())) if history.is_file() else ()
    page.write(
        path, model, config, evaluation=result, history=rows, images=images, log_likelihoods=log_likelihoods, seed=seed
    )


def places(folder, split, out=None):
    """Where an evaluation goes: (path of the JSON, folder of the figures), one for each split.

    That of the test images is evaluation.json and figures/, which programs read; of the validation images
    evaluation_validation.json and figures/validation/.

    Args:
        folder: pathlib.Path of a run folder or any other.
        split: "train", "validation" or "test".
        out: another path for the JSON, beside which the figures go.
    """
    suffix = "" if split == "test" else f"_{split}"
    out = pathlib.Path(out or folder / f"evaluation{suffix}.json")
    return out, out.parent / "figures" / suffix.removeprefix("_")


def write_figures(folder, model, images, log_likelihoods, title, seed):
    """Samples, reconstructions beside originals, pseudo-inputs, one component's samples, histogram of log-likelihoods."""
    folder.mkdir(parents=True, exist_ok=True)
    figures.save_grid(folder / "samples.png", model.sample(NUM_IMAGES, seed=seed), title="Samples")
    originals = images[: NUM_IMAGES // 2]
    pairs = figures.side_by_side(originals, model.reconstruct(originals, seed=seed))
    pairs_title = f"{title}, each with its reconstruction on its right"
    figures.save_grid(folder / "reconstructions.png", pairs, columns=10, title=pairs_title)
    figures.save_histogram(folder / "log_likelihoods.png", log_likelihoods, title)
    np.save(folder / "log_likelihoods.npy", log_likelihoods)
    if model.prior_layer.has_pseudo_inputs:
        pseudo_inputs = model.pseudo_inputs.numpy()
        usage = model.component_usage(images, seed=seed)  # [K]
        shown = components.most_used(usage, NUM_IMAGES)
        title = components.usage_title(usage, shown)
        figures.save_grid(folder / "pseudo_inputs.png", pseudo_inputs[shown], title=title)
        component = int(np.random.default_rng(seed).integers(len(pseudo_inputs)))
        around = model.sample(NUM_IMAGES - 1, seed=seed, component=component)
        grid = np.concatenate([pseudo_inputs[component][np.newaxis], around])
        figures.save_grid(folder / "component.png", grid, title=f"Pseudo-input {component} (first), samples around it")
