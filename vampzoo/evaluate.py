"""Evaluates a run or a preset: ELBO, importance-sampled log-likelihood, active units, figures.

    python -m vampzoo.evaluate --run_dir=runs/my_run --split=test --num_samples=5000

The log-likelihood is the paper's: importance samples from q(z|x), a lower bound that can be loose. With --proposal=refined a
tighter bound of the same model stands beside it, with --estimator=ais a check of it by annealed importance sampling.

Writes evaluation.json and figures/ into the run folder (of another split evaluation_validation.json, figures/validation/),
or where --out says, and ends with one JSON line on stdout. The data is looked for where the run found it.
"""

import json
import pathlib

from absl import flags

from vampzoo import config, files, program
from vampzoo.errors import InvalidValue

FLAGS = flags.FLAGS

MAX_STEPS = 100_000  # of a fit or a walk: the noise of all of them is drawn at once

_GROUP = "evaluation"
program.define_path("run_dir", None, "run folder, preset folder, preset name or hf://OWNER/NAME", module_name=_GROUP)
program.define_path("zoo_dir", None, "where preset names are looked for: a folder or hf://OWNER", module_name=_GROUP)
program.define_path("data_dir", None, "folder of prepared TFDS datasets (default: the run's)", module_name=_GROUP)
program.define_path(
    "manual_dir", None, "folder with source files, which then need no download (default: the run's)", module_name=_GROUP
)
program.define_path("data_file", None, "for a run on --dataset=npz: the file (default: the run's)", module_name=_GROUP)
flags.DEFINE_enum("split", "test", ("train", "validation", "test"), "which images", module_name=_GROUP)
flags.DEFINE_integer("num_samples", 5000, "importance samples for each image", module_name=_GROUP)
flags.DEFINE_integer("seed", 0, "decides the draws", lower_bound=0, module_name=_GROUP)
flags.DEFINE_boolean(
    "check_samples",
    True,
    "estimate 100 of the images with ten times the samples, too, and warn if that moves them by more than 0.5 nats",
    module_name=_GROUP,
)
flags.DEFINE_enum(
    "proposal",
    "encoder",
    ("encoder", "refined"),
    "refined: estimate as well from q(z|x) improved for each image by gradient steps",
    module_name=_GROUP,
)
flags.DEFINE_integer("refine_steps", 200, "gradient steps an image", 1, MAX_STEPS, module_name=_GROUP)
flags.DEFINE_integer(
    "refined_samples",
    500,
    "importance samples from a refined proposal",
    1,
    config.MAX_IMPORTANCE_SAMPLES,
    module_name=_GROUP,
)
flags.DEFINE_enum(
    "estimator",
    "importance",
    ("importance", "ais"),
    "ais: check 100 images by annealed importance sampling as well, from the proposal's side",
    module_name=_GROUP,
)
flags.DEFINE_integer("ais_steps", 200, "temperatures of annealed importance sampling", 1, MAX_STEPS, module_name=_GROUP)
flags.DEFINE_boolean(
    "leave_out_copies", False, "leave out images that are training images, pixel by pixel", module_name=_GROUP
)
flags.DEFINE_boolean("jit_compile", True, "compile with XLA", module_name=_GROUP)
flags.DEFINE_enum(
    "strategy",
    "auto",
    [name for name in config.STRATEGIES if name != "multi_worker"],
    "devices to evaluate on (auto: all GPUs); what comes closer than importance sampling is computed on one",
    module_name=_GROUP,
)
program.define_path("out", None, "another path for evaluation.json; figures/ goes beside it", module_name=_GROUP)


_FLAGS_OF = {  # of one way to estimate alone
    "refine_steps": ("proposal", "refined"),
    "refined_samples": ("proposal", "refined"),
    "ais_steps": ("estimator", "ais"),
}


def main(argv):
    if FLAGS.run_dir is None:
        raise InvalidValue("--run_dir is missing: the folder that vampzoo.train wrote")
    config.check_num_samples(FLAGS.num_samples, "--num_samples")
    for flag, (of, value) in _FLAGS_OF.items():
        if FLAGS[flag].present and FLAGS[of].value != value:
            raise InvalidValue(f"--{flag} has no effect without --{of}={value}")
    if FLAGS.out:
        files.check_output(FLAGS.out, "--out")

    from vampzoo import datasets, training, zoo
    from vampzoo.evaluation import report

    folder, _ = zoo.find(FLAGS.run_dir, FLAGS.zoo_dir)
    is_preset = (folder / zoo.CHECKSUMS).exists()
    if is_preset and not FLAGS.out:
        raise InvalidValue(f"--out is missing: {folder} is a preset, into which nothing is written")
    strategy = training.create_strategy(FLAGS.strategy)
    with strategy.scope():
        model = zoo.load(folder)
    data = zoo.read_data(folder)
    places = {} if is_preset else training.places_of_data(folder)  # a preset may come from anybody's machine
    places |= {name: FLAGS[name].value for name in ("data_dir", "manual_dir", "data_file") if FLAGS[name].value}
    if (file := places.get("data_file")) and not FLAGS.data_file and not pathlib.Path(file).is_file():
        raise InvalidValue(f"{folder} was trained on {file}, which is not there: give its place now with --data_file")
    dataset = datasets.load(
        data["dataset"],
        **places,
        likelihood=model.likelihood,
        binarization=data["binarization"],
    )
    if dataset.fingerprint != data["fingerprint"]:
        raise InvalidValue(
            f"{data['dataset']} is not the data that {folder} was trained on: its images or splits differ "
            f"(fingerprint {dataset.fingerprint[:12]}, trained on {data['fingerprint'][:12]})"
        )
    result = program.interruptible(
        lambda: report.write(
            folder,
            model,
            dataset,
            FLAGS.split,
            FLAGS.num_samples,
            FLAGS.seed,
            FLAGS.out,
            jit_compile=FLAGS.jit_compile,
            map_rows=training.map_rows_over_replicas(strategy),
            check_samples=FLAGS.check_samples,
            refine_steps=FLAGS.refine_steps if FLAGS.proposal == "refined" else None,
            refined_samples=FLAGS.refined_samples,
            ais_steps=FLAGS.ais_steps if FLAGS.estimator == "ais" else None,
            leave_out_copies=FLAGS.leave_out_copies,
        ),
        "the same command goes on from here",
    )
    print(json.dumps({"run_dir": str(folder), **result}))


def cli():
    """The console script vampzoo-evaluate: the same as `python -m vampzoo.evaluate`."""
    program.run(main, __doc__)


if __name__ == "__main__":
    cli()
