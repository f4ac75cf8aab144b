"""Measures how fast the zoo is on this machine, beside what the machine can do and what people would use instead.

    python -m vampzoo.benchmark --peers=torch,torch_compile,pythae --out=benchmark.json

Times are medians of interleaved runs, with quartiles: on a machine with other work trust ratios of one run, not times.
The limit of a training step is its matrix products at the measured rate, plus the optimiser's memory traffic at the
measured bandwidth.
"""

import json
import os
import pathlib
import sys

from absl import flags

from vampzoo import config, files, program
from vampzoo.benchmarking import peers
from vampzoo.errors import InvalidValue

FLAGS = flags.FLAGS

SECTIONS = ("training", "epoch", "importance", "sampling", "startup", "growth")

_GROUP = "benchmark"
flags.DEFINE_list("sections", list(SECTIONS), f"what to measure: {', '.join(SECTIONS)}", module_name=_GROUP)
flags.DEFINE_list("models", ["vae", "hvae"], f"of {', '.join(config.MODELS)}", module_name=_GROUP)
flags.DEFINE_list("priors", ["standard", "vampprior"], f"of {', '.join(config.PRIORS)}", module_name=_GROUP)
flags.DEFINE_list("peers", [], f"of {', '.join(peers.PEERS)}, timed in the same rounds", module_name=_GROUP)
flags.DEFINE_integer(
    "num_components", config.NUM_COMPONENTS, "K of the mixture priors", lower_bound=1, module_name=_GROUP
)
flags.DEFINE_integer("batch_size", 100, "images a training step", lower_bound=1, module_name=_GROUP)
flags.DEFINE_integer("num_samples", 5000, "importance samples for each image", lower_bound=1, module_name=_GROUP)
flags.DEFINE_integer("rounds", 15, "interleaved rounds", lower_bound=1, module_name=_GROUP)
flags.DEFINE_integer("steps", 10, "training steps of one round", lower_bound=1, module_name=_GROUP)
program.define_path("out", None, "JSON file to write", module_name=_GROUP)


def main(argv):
    choices = (("sections", SECTIONS), ("models", config.MODELS), ("priors", config.PRIORS), ("peers", peers.PEERS))
    for name, valid in choices:
        if unknown := sorted(set(FLAGS[name].value) - set(valid)):
            raise InvalidValue(f"--{name}: unknown {', '.join(unknown)}; the valid values are: {', '.join(valid)}")
    configs = [
        config.ModelConfig(model=model, prior=prior, num_components=FLAGS.num_components)
        for model in FLAGS.models
        for prior in FLAGS.priors
    ]
    if not configs:
        raise InvalidValue("--models and --priors must name at least one each")
    config.check_num_samples(FLAGS.num_samples, "--num_samples")
    if FLAGS.out:
        files.check_output(FLAGS.out, "--out")

    from vampzoo.benchmarking import speed  # TensorFlow is imported here, after the flags are known to be good

    size, rounds, steps = FLAGS.batch_size, FLAGS.rounds, FLAGS.steps
    measures = {
        "training": lambda: speed.training(configs, FLAGS.peers, size, rounds, steps, progress),
        "epoch": lambda: speed.epoch(configs, size, progress=progress),
        "importance": lambda: speed.importance(configs, FLAGS.num_samples, rounds, progress=progress),
        "sampling": lambda: speed.sampling(configs, min(rounds, 5), progress=progress),
        "startup": lambda: speed.startup(configs, size, FLAGS.num_samples, progress),
        "growth": lambda: speed.growth(configs[-1], size, rounds, steps, progress),
    }
    result = {"cpus": os.cpu_count(), "num_components": FLAGS.num_components, "batch_size": FLAGS.batch_size}
    for section in FLAGS.sections:
        result[section] = measures[section]()
        print(f"== {section}", *readable(result[section]), sep="\n", flush=True)
    if FLAGS.out:
        out = pathlib.Path(FLAGS.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_path(out) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")


def readable(values, path=""):
    """One line for each group of numbers in a nested result: its path, then name and number in turn."""
    numbers = {name: value for name, value in values.items() if not isinstance(value, dict)}
    if numbers:
        yield f"{path:<42}" + "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
    for name, value in values.items():
        if isinstance(value, dict):
            yield from readable(value, f"{path}/{name}".lstrip("/"))


def progress(text):
    """Says on stderr what is being measured."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    program.run(main, __doc__)
