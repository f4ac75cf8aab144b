"""Trains a model of the zoo.

    python -m vampzoo.train --flagfile=configs/caltech.flags

The run folder holds checkpoints, the best weights, TensorBoard events and, at the end, evaluation.json and figures. The same
command on an existing run folder resumes it.
"""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import signal
import sys
import warnings

from absl import flags

from vampzoo import __version__, config, datasets, figures, files, program, zoo
from vampzoo.errors import Hint, InvalidValue

FLAGS = flags.FLAGS

_DATA = "data"
flags.DEFINE_string(
    "dataset", None, f"{', '.join(datasets.DATASETS)}; npz (a file of yours); or tfds:NAME", module_name=_DATA
)
program.define_path("data_dir", None, "folder of prepared TFDS datasets (default: TFDS's own)", module_name=_DATA)
program.define_path("manual_dir", None, "folder with source files, which then need no download", module_name=_DATA)
program.define_path(
    "data_file", None, "for --dataset=npz: arrays train, and optionally validation and test", module_name=_DATA
)
flags.DEFINE_enum(
    "binarization",
    None,
    datasets.BINARIZATIONS,
    "how grey images become binary (default: the dataset's)",
    module_name=_DATA,
)

_MODEL = "model"
_ARCHITECTURE = config.ModelConfig()
flags.DEFINE_enum("model", _ARCHITECTURE.model, config.MODELS, "which model", module_name=_MODEL)
flags.DEFINE_enum("prior", _ARCHITECTURE.prior, config.PRIORS, "prior of the top latent layer", module_name=_MODEL)
flags.DEFINE_boolean("weighted", _ARCHITECTURE.weighted, "trainable mixture weights (Eq. 16)", module_name=_MODEL)
flags.DEFINE_integer(
    "num_components", None, "K of a mixture prior (default: the paper's for the dataset)", module_name=_MODEL
)
flags.DEFINE_enum("likelihood", None, config.LIKELIHOODS, "p(x|z) (default: the dataset's)", module_name=_MODEL)
flags.DEFINE_integer("hidden_units", _ARCHITECTURE.hidden_units, "width of the gated dense layers", module_name=_MODEL)
flags.DEFINE_integer("z1_size", _ARCHITECTURE.z1_size, "latents of the lower layer", module_name=_MODEL)
flags.DEFINE_integer(
    "z2_size", _ARCHITECTURE.z2_size, "latents of the upper layer (of the only one for --model=vae)", module_name=_MODEL
)
flags.DEFINE_integer("layers", _ARCHITECTURE.layers, "stochastic layers of --model=topdown_hvae", module_name=_MODEL)
flags.DEFINE_integer(
    "latent_size", _ARCHITECTURE.latent_size, "latents of each layer of --model=topdown_hvae", module_name=_MODEL
)
flags.DEFINE_integer(
    "state_size",
    _ARCHITECTURE.state_size,
    "what a factor of --model=topdown_hvae hears of all latents above it",
    module_name=_MODEL,
)
flags.DEFINE_integer(
    "layer_units",
    _ARCHITECTURE.layer_units,
    "width of the gated layers between the latents of --model=topdown_hvae",
    module_name=_MODEL,
)
flags.DEFINE_float(
    "layer_head_scale",
    _ARCHITECTURE.layer_head_scale,
    "initial weights of the heads of --model=topdown_hvae below the top, in multiples of the usual ones",
    module_name=_MODEL,
)
flags.DEFINE_enum(
    "state_maps",
    _ARCHITECTURE.state_maps,
    config.STATE_MAPS,
    "what a layer of --model=topdown_hvae adds to the state: affine in its latents, or a gated layer of them",
    module_name=_MODEL,
)
flags.DEFINE_boolean(
    "shared_layers",
    _ARCHITECTURE.shared_layers,
    "whether the layers of --model=topdown_hvae below the top share weights",
    module_name=_MODEL,
)
flags.DEFINE_enum(
    "decoder",
    _ARCHITECTURE.decoder,
    config.DECODERS,
    "p(x|state) of --model=topdown_hvae: affine, or with one gated layer, or two; conv: convolutions at a quarter of the "
    "image's sides; block: the same, and of a pixel given those before it in its block of 4x4; pixel: of a pixel given "
    "those before it in and around its block",
    module_name=_MODEL,
)
flags.DEFINE_integer("conv_maps", _ARCHITECTURE.conv_maps, "maps of --decoder=conv or block", module_name=_MODEL)
flags.DEFINE_integer(
    "pixel_units",
    _ARCHITECTURE.pixel_units,
    "units for each pixel in a layer of --decoder=block or pixel",
    module_name=_MODEL,
)
flags.DEFINE_integer(
    "pixel_layers", _ARCHITECTURE.pixel_layers, "hidden layers of --decoder=block or pixel", module_name=_MODEL
)
flags.DEFINE_integer(
    "block_window",
    _ARCHITECTURE.block_window,
    "pixels beyond its block that a pixel of --decoder=block depends on (0: blocks are independent given the latents)",
    module_name=_MODEL,
)
flags.DEFINE_float(
    "pseudo_inputs_mean", None, "mean of the initial pseudo-inputs (default: the dataset's)", module_name=_MODEL
)
flags.DEFINE_float(
    "pseudo_inputs_stddev",
    None,
    "standard deviation of the initial pseudo-inputs (default: the dataset's)",
    module_name=_MODEL,
)

_TRAINING = "training"
_DEFAULTS = config.TrainingConfig()
flags.DEFINE_integer("epochs", _DEFAULTS.epochs, "the most epochs", module_name=_TRAINING)
flags.DEFINE_integer(
    "warmup_epochs",
    _DEFAULTS.warmup_epochs,
    "epochs over which the weight of the rate rises to 1",
    module_name=_TRAINING,
)
flags.DEFINE_integer(
    "patience",
    _DEFAULTS.patience,
    "epochs without a better value of what --selection names that it goes on for, after the warm-up and the epochs of "
    "--one_sample_epochs and --shift_epochs; one more, and it stops",
    module_name=_TRAINING,
)
flags.DEFINE_integer(
    "batch_size", _DEFAULTS.batch_size, "images in a step, over all devices together", module_name=_TRAINING
)
flags.DEFINE_float("learning_rate", _DEFAULTS.learning_rate, "of the optimiser", module_name=_TRAINING)
flags.DEFINE_integer(
    "learning_rate_decay_epochs",
    _DEFAULTS.learning_rate_decay_epochs,
    "epochs over which the learning rate falls to 0 along half a cosine (0: it stays)",
    module_name=_TRAINING,
)
flags.DEFINE_enum(
    "objective",
    _DEFAULTS.objective,
    config.OBJECTIVES,
    "ELBO; iwae: the importance-weighted bound of Burda et al. (2016); dreg: with the gradient of Tucker et al. (2019)",
    module_name=_TRAINING,
)
flags.DEFINE_integer(
    "objective_samples",
    _DEFAULTS.objective_samples,
    "k: how many samples of the latents a step draws for each image; the cost grows with k",
    module_name=_TRAINING,
)
flags.DEFINE_integer(
    "one_sample_epochs",
    _DEFAULTS.one_sample_epochs,
    "epochs at the start with one sample for each image, before --objective_samples: the ELBO first (0: none)",
    module_name=_TRAINING,
)
flags.DEFINE_enum(
    "selection",
    _DEFAULTS.selection,
    config.SELECTIONS,
    "on what of the validation images the best weights are chosen",
    module_name=_TRAINING,
)
flags.DEFINE_integer(
    "selection_samples",
    _DEFAULTS.selection_samples,
    "how many samples of the latents validation draws for each image; the cost grows with them",
    module_name=_TRAINING,
)
flags.DEFINE_enum(
    "optimizer",
    _DEFAULTS.optimizer,
    config.OPTIMIZERS,
    "Adam on per-tensor normalised gradients, or plain",
    module_name=_TRAINING,
)
flags.DEFINE_float(
    "weight_decay", 0.0, "decoupled decay of kernels, as a fraction of the learning rate a step", module_name=_TRAINING
)
flags.DEFINE_float(
    "ema_momentum", 0.0, "of averaged weights, which are then validated and kept (0: none)", module_name=_TRAINING
)
flags.DEFINE_float(
    "q_dropout", 0.0, "share of the variational networks' units left out for an image (0: none)", module_name=_TRAINING
)
flags.DEFINE_float(
    "p_dropout", 0.0, "share of the generative networks' units left out for an image (0: none)", module_name=_TRAINING
)
flags.DEFINE_integer(
    "shift_pixels",
    0,
    "by how many pixels at most a training image is moved, anew at each use (0: none is)",
    module_name=_TRAINING,
)
flags.DEFINE_integer(
    "shift_epochs", 0, "epochs at the start in which images are moved by --shift_pixels (0: all)", module_name=_TRAINING
)
flags.DEFINE_boolean(
    "pseudo_inputs_from_data", False, "start the pseudo-inputs at training images with noise", module_name=_TRAINING
)
flags.DEFINE_string(
    "start_from",
    _DEFAULTS.start_from,
    "preset, run folder or hf://OWNER/NAME whose weights those networks start with that both models have",
    module_name=_TRAINING,
)
flags.DEFINE_enum(
    "mixed_precision", "none", config.MIXED_PRECISIONS, "what the networks compute in", module_name=_TRAINING
)
flags.DEFINE_integer("seed", 0, "decides weights, order, binarisation and noise", module_name=_TRAINING)

_RUN = "run"
program.define_path("run_dir", None, "run folder (default: runs/MODEL_PRIOR_DATASET_seedN)", module_name=_RUN)
flags.DEFINE_boolean("overwrite", False, "delete what the run folder holds and start anew", module_name=_RUN)
flags.DEFINE_boolean("jit_compile", True, "compile with XLA", module_name=_RUN)
flags.DEFINE_integer(
    "pseudo_input_chunk",
    0,
    "pseudo-inputs encoded at once, to bound the memory; without XLA on CPUs (0: all)",
    lower_bound=0,
    module_name=_RUN,
)
flags.DEFINE_enum("strategy", "auto", config.STRATEGIES, "devices to train on (auto: all GPUs)", module_name=_RUN)
flags.DEFINE_float(
    "worker_timeout",
    300.0,
    "seconds that the workers of --strategy=multi_worker wait for each other at the start",
    lower_bound=0.0,
    module_name=_RUN,
)
flags.DEFINE_float(
    "checkpoint_seconds",
    60.0,
    "time between two checkpoints (0: as often as can be, every epoch at least)",
    lower_bound=0.0,
    module_name=_RUN,
)
flags.DEFINE_integer(
    "image_epochs",
    20,
    "epochs between two image grids, and measurements of components, in TensorBoard (0: none)",
    lower_bound=0,
    module_name=_RUN,
)

_EVALUATION = "evaluation"
flags.DEFINE_boolean("evaluate", True, "evaluate on the test images at the end", module_name=_EVALUATION)
flags.DEFINE_integer("num_samples", 5000, "importance samples for each image", module_name=_EVALUATION)
program.define_path("out", None, "another path for evaluation.json; figures/ goes beside it", module_name=_EVALUATION)

_MAX_WORKER_TIMEOUT = 1e6  # seconds; Python's timer takes no more than some 10^9

REEVALUATE = ". The same command evaluates again, and so does vampzoo.evaluate on one machine"

# Flags that say where and how to run, not what comes out; the rest of a run's flags go into its train.flags.
_NOT_RECORDED = ("run_dir", "overwrite", "out", "worker_timeout")


def main(argv):
    if FLAGS.dataset is None:
        names = ", ".join([*datasets.DATASETS, "npz", "tfds:NAME"])
        raise InvalidValue(f"--dataset is missing; the valid values are: {names}")
    training_config = config.TrainingConfig(
        **{field.name: FLAGS[field.name].value for field in dataclasses.fields(config.TrainingConfig)}
    )
    if training_config.start_from:
        zoo.find(training_config.start_from)
    config.check_num_samples(FLAGS.num_samples, "--num_samples")
    if not math.isfinite(FLAGS.checkpoint_seconds):
        raise InvalidValue(f"--checkpoint_seconds must be finite, got {FLAGS.checkpoint_seconds}")
    if not 0 < FLAGS.worker_timeout <= _MAX_WORKER_TIMEOUT:
        raise InvalidValue(
            f"--worker_timeout must be positive and at most {_MAX_WORKER_TIMEOUT:g} seconds, got {FLAGS.worker_timeout:g}"
        )
    if FLAGS.out:
        files.check_output(FLAGS.out, "--out")
    flag_lines = recorded_flags()

    signal.signal(signal.SIGTERM, leave)
    # TensorFlow is imported here, after the flags are known to be good.
    from vampzoo import training

    strategy = training.create_strategy(FLAGS.strategy, FLAGS.worker_timeout)
    workers = training.Workers(strategy)  # of several one writes, and all compute
    dataset = datasets.load(
        FLAGS.dataset,
        data_dir=FLAGS.data_dir,
        manual_dir=FLAGS.manual_dir,
        data_file=FLAGS.data_file,
        likelihood=FLAGS.likelihood,
        binarization=FLAGS.binarization,
    )
    model_config = create_model_config(dataset.spec)
    hint_at_unused_flags(model_config)
    hint_at_stages_that_never_come(training_config)
    data = {"dataset": FLAGS.dataset, "binarization": FLAGS.binarization, "fingerprint": dataset.fingerprint}
    data |= zoo.passed_on_by(training_config.start_from)
    run_config = training.run_config(model_config, training_config, data)
    how = ("overwrite", "jit_compile", "pseudo_input_chunk", "evaluate", "num_samples")
    workers.check_same(
        version=__version__,
        data=run_config["data"],
        **{"settings of the model": run_config["model"], "settings of the training": run_config["training"]},
        **{f"--{flag}": FLAGS[flag].value for flag in how},
    )
    name = f"{model_config.model}_{model_config.prior}_{FLAGS.dataset.replace(':', '_')}_seed{training_config.seed}"
    folder = training.RunFolder(
        FLAGS.run_dir or pathlib.Path("runs", name), run_config, flag_lines, FLAGS.overwrite, writer=workers.is_chief
    )
    try:
        return train(folder, model_config, training_config, dataset, strategy)
    finally:
        folder.close()


def train(folder, model_config, training_config, dataset, strategy):
    """Trains in a run folder, evaluates there, and prints the result; returns the exit code."""
    from vampzoo import training

    is_chief = folder.writer
    start = zoo.load(training_config.start_from) if training_config.start_from else None
    trainer = training.Trainer(
        model_config,
        training_config,
        dataset,
        folder,
        strategy=strategy,
        jit_compile=FLAGS.jit_compile,
        checkpoint_seconds=FLAGS.checkpoint_seconds,
        image_epochs=FLAGS.image_epochs,
        start=start,
        pseudo_input_chunk=FLAGS.pseudo_input_chunk,
    )
    if said := training.unused_gpu():
        warnings.warn(said, Hint, stacklevel=2)
    images = f"{len(dataset.train)} training images on {training.describe(trainer.strategy)}"
    print(f"{trainer.model.describe()}\n{images}; run folder {folder.path}", file=sys.stderr)
    if start is not None:
        found, new = (", ".join(names) or "nothing" for names in trainer.started)
        print(f"with the weights of {training_config.start_from}: {found}; new: {new}", file=sys.stderr)
    try:
        model = trainer.fit()
    except training.Interrupted as interruption:
        print(f"stopped by {interruption}; {same_command()} resumes {folder.path}", file=sys.stderr)
        return 0 if interruption.signal_number == signal.SIGTERM else 128 + interruption.signal_number
    result = {
        "epochs": trainer.epochs_done,
        "best_epoch": trainer.best_epoch,
        f"validation_{training_config.selection}": trainer.best_validation,
        "train_seconds": round(trainer.seconds, 1),
    }
    folder.write_training(result)
    if is_chief and (history := folder.read_history()):  # none is left if somebody moved history.csv away
        title = f"{config.MODEL_TITLES[model_config.model]}, {config.PRIOR_TITLES[model_config.prior]}"
        title = f"{title} on {dataset.spec.title}"
        figures.save_training(folder.figures / "training.png", history, title, trainer.best_epoch)
    result = {"run_dir": str(folder.path), **result}
    done = "1 epoch is" if trainer.epochs_done == 1 else f"{trainer.epochs_done} epochs are"
    print(f"{done} done, the best was {trainer.best_epoch}", file=sys.stderr)
    if FLAGS.evaluate:
        result |= program.interruptible(
            lambda: evaluate(trainer, model, dataset), f"{same_command()} goes on with the evaluation"
        )
    trainer.workers.wait_to_leave()
    if is_chief:
        print(json.dumps(result))
    return 0


def evaluate(trainer, model, dataset):
    """Evaluates on the test images. Returns what is reported of it: nothing in a worker that does not write."""
    from vampzoo import evaluation, training
    from vampzoo.evaluation import report

    folder, seed = trainer.folder, trainer.config.seed
    lost = trainer.workers.loss_explained("another worker was lost, and with it this evaluation", remedy=REEVALUATE)
    if not folder.writer:  # this worker's share of it
        how = {"map_rows": trainer.map_rows, "jit_compile": FLAGS.jit_compile}
        with lost:
            evaluation.evaluate(model, dataset.test, FLAGS.num_samples, seed, **how)
        return {}
    print(f"evaluating {len(dataset.test)} test images, {FLAGS.num_samples} samples each", file=sys.stderr)
    resume = trainer.workers.num == 1
    with lost:
        result = report.write(
            folder.path,
            model,
            dataset,
            "test",
            FLAGS.num_samples,
            seed,
            FLAGS.out,
            resume=resume,
            jit_compile=FLAGS.jit_compile,
            map_rows=trainer.map_rows,
        )
    training.write_test_result(folder.tensorboard, trainer.best_epoch, result)
    return result


def leave(signal_number, frame):
    """Before and after the training loop there is nothing to save: SIGTERM ends the program at once.

    Not by an exception, which TensorFlow would turn into another one where it is tracing a function; and past Python's
    stderr, which refuses to be written to by a handler that has interrupted it.
    """
    with contextlib.suppress(OSError):
        os.write(2, f"stopped by SIGTERM; {same_command()} goes on from here\n".encode())
    os._exit(0)


def same_command():
    """What goes on with this run, in words: with --overwrite a command would begin anew."""
    return "the same command without --overwrite" if FLAGS.is_parsed() and FLAGS.overwrite else "the same command"


def create_model_config(spec):
    """The `ModelConfig` that flags and dataset describe; what no flag says comes from the dataset."""
    names = ("num_components", "likelihood", "pseudo_inputs_mean", "pseudo_inputs_stddev")
    from_dataset = {name: getattr(spec, name) for name in (*names, "image_shape")}
    from_flags = {
        field.name: FLAGS[field.name].value
        for field in dataclasses.fields(config.ModelConfig)
        if field.name in FLAGS and FLAGS[field.name].value is not None
    }
    return config.ModelConfig(**{**from_dataset, **from_flags})


def hint_at_unused_flags(model_config):
    """Warns of flags that somebody gave, and that make no difference to this model on this data."""
    unused = model_config.unused()
    if not model_config.prior.startswith("vampprior"):
        unused["pseudo_input_chunk"] = f"prior={model_config.prior}"
    if FLAGS.dataset == "npz":
        unused |= dict.fromkeys(("data_dir", "manual_dir"), "dataset=npz")
    for name, cause in unused.items():
        if FLAGS[name].value != FLAGS[name].default:
            warnings.warn(f"--{name}={FLAGS[name].value} has no effect with --{cause}", Hint, stacklevel=2)


def hint_at_stages_that_never_come(training_config):
    """Warns of a stage of the training that begins after its last epoch."""
    for name, stage in (
        ("one_sample_epochs", f"--objective_samples={training_config.objective_samples}"),
        ("shift_epochs", "images that are not moved"),
    ):
        if (first := getattr(training_config, name)) >= training_config.epochs:
            said = f"--{name}={first} leaves no epoch for {stage}: --epochs={training_config.epochs}"
            warnings.warn(said, Hint, stacklevel=2)


def recorded_flags():
    """The text of a flagfile that reproduces this run.

    Raises:
        InvalidValue: for a value that such a file cannot hold.
    """
    lines = []
    for group in (_DATA, _MODEL, _TRAINING, _RUN, _EVALUATION):
        for flag in FLAGS.flags_by_module_dict()[group]:
            if flag.value is not None and flag.name not in _NOT_RECORDED:
                lines.append(line := _recorded(flag))
                # What reads the file takes its lines, without the spaces around them.
                if [text.strip() for text in line.splitlines()] != [line]:
                    raise InvalidValue(f"--{flag.name} may not hold line breaks nor end in spaces: {flag.value!r}")
    return "\n".join(lines) + "\n"


def _recorded(flag):
    """A flag's line; of where the data is the whole path, for the file may be read from another folder."""
    if flag.name in files.DATA_PLACES and "://" not in flag.value:
        return f"--{flag.name}={os.path.abspath(flag.value)}"
    return flag.serialize()


def cli():
    """The console script vampzoo-train: the same as `python -m vampzoo.train`."""
    program.run(main, __doc__)


if __name__ == "__main__":
    cli()
