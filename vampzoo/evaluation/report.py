"""Evaluation of a run or preset on a dataset, written down: `evaluation.json` and the paper's figures."""

import csv
import json
import pathlib
import sys

import numpy as np
from tqdm import tqdm

from vampzoo import datasets, figures, files
from vampzoo.errors import InvalidValue
from vampzoo.evaluation import components, measures, page, partial, tightness
from vampzoo.evaluation.precision import float32_products

NUM_IMAGES = 100  # in a grid
REFINED = "refined_log_likelihoods.npy"  # of each image, beside the plain ones


@float32_products()
def write(
    folder,
    model,
    dataset,
    split="test",
    num_samples=5000,
    seed=0,
    out=None,
    resume=True,
    *,
    check_samples=False,
    refine_steps=None,
    refined_samples=500,
    ais_steps=None,
    leave_out_copies=False,
    jit_compile=True,
    **how,
):
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
        check_samples: whether 100 images are estimated with ten times the samples as well (`tightness.check`), and a warning
            comes on stderr if that moves their mean by more than `tightness.LOOSE` nats.
        refine_steps: of `tightness.refined`; None: no such estimate.
        refined_samples: its S.
        ais_steps: of `tightness.annealed`, which checks the refined estimate if there is one; None: no such estimate.
        leave_out_copies: whether images that are in the training images, pixel by pixel, are left out.
        jit_compile: whether to compile with XLA.
        how: further arguments of `vampzoo.evaluation.evaluate`.

    Returns:
        What the JSON file holds.

    Raises:
        ValueError: before anything is computed, if `out` cannot be written, or nothing would be left of the images.
        OSError: if it could not be written after all; the message then holds the result.
    """
    page_path = None if out else folder / page.NAME
    out, figures_folder = places(folder, split, out)
    files.check_output(out, "the evaluation")
    images, of_copies = _images(dataset, split, leave_out_copies)
    # Of the weights evaluated, so that nobody takes it for an evaluation of others: a training may replace the file.
    weights_sha256 = model.weights_sha256
    if weights_sha256 is None and (weights := folder / files.WEIGHTS).exists():
        weights_sha256 = files.sha256(weights)
    what = {"fingerprint": dataset.fingerprint, "split": split, "num_samples": num_samples, "seed": seed}
    all_kept = []

    def keep(**stage):
        """What an interrupted evaluation has computed of a stage of this one; None if nothing is kept."""
        if not resume:
            return None
        draws = {"num_images": len(images), "importance_chunk": model.importance_chunk}
        all_kept.append(partial.PartialResults(out.parent, model, {**what, **draws, **stage}))
        return all_kept[-1]

    kept = keep()
    if kept is not None and len(kept.values):
        print(f"going on after {len(kept.values)} images of an evaluation that was interrupted", file=sys.stderr)
    with _bar(len(images), f"log-likelihood, S={num_samples}") as bar:
        result, log_likelihoods = measures.evaluate(
            model, images, num_samples, seed, progress=bar.update, kept=kept, jit_compile=jit_compile, **how
        )
    tighter, refined_log_likelihoods = _tighter(
        model,
        images,
        log_likelihoods,
        seed,
        checked_samples=num_samples if check_samples else None,
        refined_samples=refined_samples,
        refine_steps=refine_steps,
        ais_steps=ais_steps,
        keep=keep,
        jit_compile=jit_compile,
    )
    result |= tighter
    if result.get("check_difference", 0.0) > tightness.LOOSE:
        print(_loose(result), file=sys.stderr)
    result = {"dataset": dataset.spec.name, "fingerprint": dataset.fingerprint, "split": split, **of_copies, **result}
    if weights_sha256:
        result["weights_sha256"] = weights_sha256
    text = json.dumps(result, indent=2) + "\n"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(out, text)
    except OSError as error:  # hours of work: it is shown where it can be
        raise OSError(f"{out} cannot be written ({error.strerror}); it would hold {json.dumps(result)}") from error
    title, written = f"{dataset.spec.title}: {split} images", figures_folder
    try:
        write_log_likelihoods(figures_folder, log_likelihoods)
        if refined_log_likelihoods is not None:
            write_log_likelihoods(figures_folder, refined_log_likelihoods, REFINED)
        else:
            (figures_folder / REFINED).unlink(missing_ok=True)  # of an evaluation before
        for kept in all_kept:
            kept.remove()
        write_figures(figures_folder, model, images, log_likelihoods, title, seed)
        if page_path and split == "test" and (folder / files.CONFIG).is_file():
            written = page_path
            write_page(page_path, model, result, images, log_likelihoods, seed)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{out} is written, but {written} cannot be: {reason}") from error
    return result


def _tighter(
    model,
    images,
    log_likelihoods,
    seed,
    *,
    checked_samples,
    refined_samples,
    refine_steps,
    ais_steps,
    keep,
    jit_compile,
):
    """What evaluation.json says of the estimates of `vampzoo.evaluation.tightness`, and the refined ones [N], or None.

    The arguments are as for `write`. `checked_samples` is S of what is to be checked, or None. `keep` makes the
    `vampzoo.evaluation.partial.PartialResults` of a stage, from what decides its numbers.
    """
    result = {}
    chosen = tightness.subset(len(images))
    if checked_samples is not None:
        with _bar(len(chosen), f"log-likelihood, S={tightness.CHECK_FACTOR * checked_samples}") as bar:
            kept = keep(stage="check")
            result |= tightness.check(
                model, images, log_likelihoods, checked_samples, seed, bar.update, kept, jit_compile
            )
    best, proposals = log_likelihoods, None
    if refine_steps is not None:
        with _bar(len(images), f"refined, S={refined_samples}") as bar:
            kept = keep(stage="refined", samples=refined_samples, steps=refine_steps)
            of_refined, estimates, proposals = tightness.refined(
                model, images, log_likelihoods, refined_samples, refine_steps, seed, bar.update, kept, jit_compile
            )
        result |= of_refined
        best = estimates.log_likelihood
    if ais_steps is not None:
        with _bar(len(chosen), f"annealed, {ais_steps} steps") as bar:
            result |= tightness.annealed(model, images, best, ais_steps, seed, proposals, bar.update, jit_compile)
    return result, None if refine_steps is None else best


def _bar(total, what):
    return tqdm(total=total, unit="image", desc=what, file=sys.stderr, disable=not sys.stderr.isatty())


def _images(dataset, split, leave_out_copies):
    """The images of a split that are evaluated, and what evaluation.json says of copies in other splits.

    Training images that are intensities are drawn once (`datasets.draw_bits`), for grey values have no likelihood under a
    Bernoulli model: drawn_bits is then true.

    copies_in_train is the number of images of the split that are in train, pixel by pixel, copies_in_validation that of test
    images in validation; images_left_out is there if copies in train are left out. Training images that are intensities have
    no copies among binary ones: nothing is said of them.
    """
    images, facts = getattr(dataset, split), {}
    if split == "train" or dataset.spec.dynamic:
        if leave_out_copies:
            reason = "the training images themselves" if split == "train" else "binary, those of train are intensities"
            raise InvalidValue(f"copies of training images cannot be left out: the {split} images are {reason}")
        if split == "train" and dataset.spec.dynamic:
            images, facts = datasets.draw_bits(images, split), {"drawn_bits": True}
        return images, facts
    in_train = datasets.copies(images, dataset.train)
    facts["copies_in_train"] = int(in_train.sum())
    if split == "test":
        facts["copies_in_validation"] = int(datasets.copies(images, dataset.validation).sum())
    if leave_out_copies:
        if in_train.all():
            raise InvalidValue(f"all {split} images are copies of training images: nothing is left to evaluate")
        images = images[~in_train]
        facts["images_left_out"] = facts["copies_in_train"]
    return images, facts


def _loose(result):
    """The warning that the number of samples matters."""
    error = result["check_difference_stderr"]
    return (
        f"warning: with S = {result['check_num_samples']:,} in place of {result['num_samples']:,} the log-likelihood of "
        f"{result['check_num_images']} images rises by {result['check_difference']:.2f} nats"
        + ("" if error is None else f" (± {error:.2f})")
        + f"; half of the images have fewer than {result['effective_samples_median']:.1f} effective samples. The model is "
        "better than the estimate says: --proposal=refined comes closer"
    )


def write_page(path, model, result, images, log_likelihoods, seed):
    """Writes the page of a run folder that holds config.json and perhaps history.csv; none of a model of one's own."""
    config = json.loads((path.parent / files.CONFIG).read_text())
    if files.OWN_MODEL in config["model"]:  # of which the page would not know what to say
        return
    history = path.parent / "history.csv"
    rows = list(csv.DictReader(history.read_text().splitlines())) if history.is_file() else ()
    page.write(
        path, model, config, evaluation=result, history=rows, images=images, log_likelihoods=log_likelihoods, seed=seed
    )


def places(folder, split, out=None):
    """Where an evaluation goes: (path of the JSON, folder of the figures), one for each split.

    That of the test images is evaluation.json and figures/, which programs read; of the validation images
    evaluation_validation.json and figures/validation/. Another JSON in the same folder, say quick.json, has its figures in
    figures/quick/, so that those of evaluation.json stay what they were.

    Args:
        folder: pathlib.Path of a run folder or any other.
        split: "train", "validation" or "test".
        out: another path for the JSON, beside which the figures go.
    """
    suffix = "" if split == "test" else f"_{split}"
    usual = folder / f"evaluation{suffix}.json"
    out = pathlib.Path(out or usual)
    figures_folder = out.parent / "figures" / suffix.removeprefix("_")
    if out.parent.resolve() == folder.resolve() and out.name != usual.name:
        figures_folder /= out.stem
    return out, figures_folder


def write_log_likelihoods(folder, log_likelihoods, name="log_likelihoods.npy"):
    """Before all figures, some of which take long to draw: without these an evaluation is not complete."""
    folder.mkdir(parents=True, exist_ok=True)
    with files.atomic_path(folder / name) as temporary, temporary.open("wb") as file:
        np.save(file, log_likelihoods)


def write_figures(folder, model, images, log_likelihoods, title, seed):
    """Samples, reconstructions beside originals, pseudo-inputs, one component's samples, histogram of log-likelihoods."""
    folder.mkdir(parents=True, exist_ok=True)
    figures.save_grid(folder / "samples.png", model.sample(NUM_IMAGES, seed=seed), title="Samples")
    originals = images[: NUM_IMAGES // 2]
    pairs = figures.side_by_side(originals, model.reconstruct(originals, seed=seed))
    pairs_title = f"{title}, each with its reconstruction on its right"
    figures.save_grid(folder / "reconstructions.png", pairs, columns=10, title=pairs_title)
    figures.save_histogram(folder / "log_likelihoods.png", log_likelihoods, title)
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
