"""Makes a preset of a run: its card, metrics, checksums, and the SavedModel, which holds the weights.

    python -m vampzoo.export --run_dir=runs/hvae_vampprior_caltech101 --name=hvae_vampprior_caltech101 --license=cc-by-4.0

The run must have been evaluated on its test images (vampzoo.train does so at its end). A further export under the same name
adds the SavedModel's next version and renews all other files. The table of presets beside it, index.json, is renewed, too.
Ends with one JSON line on stdout.
"""

import csv
import json
import math
import pathlib
import shlex

from absl import flags

from vampzoo import files, program, zoo
from vampzoo.errors import InvalidValue
from vampzoo.paper import records, results
from vampzoo.zoo import card, replacing, writing

FLAGS = flags.FLAGS

_GROUP = "export"
program.define_path("run_dir", None, "run folder that vampzoo.train wrote", module_name=_GROUP)
flags.DEFINE_string("name", None, "of the preset: MODEL_PRIOR_DATASET, lower case", module_name=_GROUP)
program.define_path(
    "zoo_dir",
    None,
    "folder for the presets (default: $VAMPZOO_ZOO, or saved_models/ of the checkout)",
    module_name=_GROUP,
)
flags.DEFINE_string("note", "", "what the card should say about the data in addition", module_name=_GROUP)
flags.DEFINE_string(
    "license", card.UNKNOWN_LICENSE, "of the weights: mit, cc-by-4.0, ... It is for you to say", module_name=_GROUP
)
flags.DEFINE_boolean(
    "allow_training_images",
    False,
    "export a model whose pseudo-inputs are training images or began as such",
    module_name=_GROUP,
)

_LOCAL_FLAGS = tuple(f"--{name}=" for name in (*files.DATA_PLACES, "run_dir"))  # paths of the machine that trained


def main(argv):
    for flag in ("run_dir", "name"):
        if not FLAGS[flag].value:
            raise InvalidValue(f"--{flag} is missing: {FLAGS[flag].help}")
    writing.check_characters(FLAGS.name)
    card.check_license(FLAGS.license)
    if FLAGS.zoo_dir and zoo.zoo_owner(FLAGS.zoo_dir) is None:
        if not pathlib.Path(FLAGS.run_dir).is_dir():
            raise zoo.ZooError(f"the run folder {FLAGS.run_dir} does not exist")
        replacing.check_zoo(FLAGS.zoo_dir)
        pathlib.Path(FLAGS.zoo_dir).mkdir(parents=True, exist_ok=True)
    zoo_dir = zoo.zoo_folder(FLAGS.zoo_dir)
    if files.PACKAGE in zoo_dir.parents:
        raise InvalidValue(
            "--zoo_dir is missing: a folder for presets of yours; those of the installed package stay as they are"
        )
    folder = export_preset(
        FLAGS.run_dir,
        FLAGS.name,
        zoo_dir,
        FLAGS.note,
        FLAGS.allow_training_images,
        FLAGS.license,
    )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(
        json.dumps({"preset": str(folder), "version": zoo.latest_version(folder), "mebibytes": round(size / 2**20, 1)})
    )


def export_preset(run_dir, name, zoo_dir, note="", allow_training_images=False, license=card.UNKNOWN_LICENSE):
    """Writes the preset folder `zoo_dir`/`name`; it appears whole or not at all.

    Args:
        run_dir: a run folder with evaluation.json.
        name: of the preset.
        zoo_dir: the folder with the presets.
        note: for the card.
        allow_training_images: whether a model may be exported whose pseudo-inputs are training images, or began as such
            and so may show them still.
        license: of the weights, by its short name.

    Returns:
        The folder, a `pathlib.Path`.

    Raises:
        ZooError: if a file of the run is missing or damaged, its weights are training images, the name contradicts the
            model, or what was written does not load with the very weights of the run.
        ValueError: if the licence is no short name.
    """
    run_dir, preset = pathlib.Path(run_dir), pathlib.Path(zoo_dir) / name
    if not run_dir.is_dir():
        raise zoo.ZooError(f"the run folder {run_dir} does not exist")
    if (run_dir / zoo.CHECKSUMS).is_file():
        raise zoo.ZooError(f"{run_dir} is a preset already, and --run_dir is the folder of a run")
    config, model_config = zoo.read_config(run_dir)
    if missing := {"data", "training"} - set(config):
        raise zoo.ZooError(f"{run_dir / zoo.CONFIG} lacks {sorted(missing)}: not the configuration of a run")
    writing.check_name(name, model_config, config["data"]["dataset"])
    card.check_license(license)
    if zoo.shows_training_images(config) and not allow_training_images:
        reason = "are training images" if model_config.prior == "vampprior_data" else "began as training images"
        raise zoo.ZooError(
            f"the pseudo-inputs of {run_dir} {reason}, and a preset would hold them. If you may publish those, give "
            "--allow_training_images"
        )
    paper_value = None  # of trained weights (Eq. 16) the paper has no result
    if not model_config.weighted:
        paper_value = results.result(config["data"]["dataset"], model_config.model, model_config.prior)
    evaluation, history = read_evaluation(run_dir, config), read_history(run_dir, config)
    metrics = card.metrics(name, config, evaluation, history, paper_value, license)
    train_flags = [
        line
        for line in read_text(run_dir / "train.flags", "vampzoo.train writes it").splitlines()
        if not line.startswith(_LOCAL_FLAGS)
    ]

    replacing.check_target(pathlib.Path(zoo_dir, name).resolve())  # before seconds are spent
    zoo.check_index(zoo_dir)
    if records.of_other_weights(run_dir, evaluation):
        raise zoo.ZooError(
            f"{run_dir / 'evaluation.json'} is about other weights than {run_dir / zoo.WEIGHTS}: run "
            f"`{evaluate_command(run_dir)}` again"
        )
    model = zoo.load(run_dir)  # TensorFlow is imported here, after the files are known to be good
    with replacing.replaced(zoo_dir, name) as (folder, version, theirs):
        files.write_text(folder / "train.flags", "\n".join(train_flags) + "\n")
        writing.write(folder, model, name, config, metrics, version, note, theirs)
    zoo.write_index(zoo_dir)
    return preset


# === Files of the run ===


def evaluate_command(run_dir):
    """What writes the evaluation.json of a run."""
    return f"python -m vampzoo.evaluate --run_dir={shlex.quote(str(run_dir))} --split=test"


def read_text(path, hint):
    """The text of a file; a missing one is an error that says what to do about it."""
    try:
        return path.read_text()
    except FileNotFoundError:
        raise zoo.ZooError(f"{path} is missing: {hint}") from None
    except ValueError as error:
        raise zoo.ZooError(f"{path} is damaged ({error}): {hint}") from error


def read_evaluation(run_dir, config):
    """The contents of evaluation.json, once they are known to be about this run's test images."""
    path = run_dir / "evaluation.json"
    command = evaluate_command(run_dir)
    try:
        evaluation = json.loads(read_text(path, f"run `{command}` first"))
        if evaluation["split"] != "test":
            raise zoo.ZooError(f"{path} is about the {evaluation['split']} split: run `{command}` first")
        for key in ("log_likelihood", "elbo", "num_images", "num_samples", "seed"):
            if not math.isfinite(evaluation[key]):
                raise zoo.ZooError(f"{path}: {key} is {evaluation[key]}")
        if evaluation["fingerprint"] != config["data"]["fingerprint"]:
            raise zoo.ZooError(f"{path} is about other data than the run was trained on: run `{command}` again")
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise zoo.ZooError(f"{path} is damaged ({error!r}): run `{command}` again") from error
    return evaluation


def read_history(run_dir, config):
    """The rows of history.csv, once they are known to have what the best epoch was chosen by."""
    path = run_dir / "history.csv"
    rows = list(csv.DictReader(read_text(path, "vampzoo.train writes it").splitlines()))
    try:
        for row in rows:
            int(row["epoch"]), float(row[f"validation_{card.selected_by(config)}"])
    except (KeyError, TypeError, ValueError) as error:
        raise zoo.ZooError(f"{path} is damaged: {error!r}") from error
    if not rows:
        raise zoo.ZooError(f"{path} has no rows: the run has not finished an epoch")
    return rows


def cli():
    """The console script vampzoo-export: the same as `python -m vampzoo.export`."""
    program.run(main, __doc__)


if __name__ == "__main__":
    cli()
