"""The measurements of the benchmark: training steps, whole epochs, importance sampling, sampling, a fresh process, growth.

Every function takes `progress`, which is called with a line of text now and then. Times are in milliseconds, as quartiles.
"""

import contextlib
import dataclasses
import itertools
import json
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from vampzoo import config
from vampzoo.benchmarking import peers
from vampzoo.errors import InvalidValue

# What Adam on a normalised gradient moves for each float32 weight: the gradient read twice (norm, update), weight and
# both moments read and written.
_OPTIMIZER_BYTES = 4 * (2 + 3 + 3)

_GROWTH = {"num_components": (1, 250, 500, 1000, 2000), "batch_size": (10, 100, 250, 500, 1000)}
_GROWTH_SAMPLES = (500, 1000, 2000, 5000, 10000)


def _silent(text):
    pass


def _name(model_config):
    return f"{model_config.model}_{model_config.prior}"


def _random_images(num, image_shape):
    return np.random.default_rng(0).integers(0, 2, (num, *image_shape)).astype(np.float32)


# === Training ===


def training_run(model_config, batch_size, num_steps):
    """The trainer's own steps on random images.

    Returns:
        The model, and a function that makes `num_steps` training steps.
    """
    # Imported here and below, so that `child` can time it.
    import tensorflow as tf

    from vampzoo import models, optimizers
    from vampzoo.training import TrainingSteps

    model = models.create(model_config)
    optimizer = optimizers.NormalizedAdam()
    optimizer.build(model.trainable_variables)
    images = _random_images(num_steps * batch_size, model_config.image_shape)
    steps = TrainingSteps(
        model,
        optimizer,
        images,
        batch_size=batch_size,
        seed=0,
        dynamic=False,
        strategy=tf.distribute.get_strategy(),
        jit_compile=True,
    )
    arguments = (tf.constant(1), tf.constant(0), tf.constant(num_steps), tf.constant(1.0))
    sums = tf.zeros([len(steps.metric_names)], tf.float64)
    return model, lambda: steps.run(*arguments, sums).numpy()


def training(configs, peer_names, batch_size, rounds, num_steps, progress=_silent):
    """Times training steps of several configs, of their peers, and of the machine.

    Returns:
        {"machine": rates, "models": {name: times, operations and shares}, "peers": {name: {peer: times}},
        "vampprior_over_standard": {model: ratio}}.
    """
    from vampzoo.benchmarking import timing

    runs, models_by_name = _training_runs(configs, peer_names, batch_size, num_steps, progress)
    matrix_product, operations = timing.matrix_product()
    runs["matrix_product"] = (matrix_product, 1)
    bytes_moved = {}
    for name, model in models_by_name.items():
        memory_pass, bytes_moved[name] = timing.memory_pass(_num_trained(model))
        runs[f"{name}/memory"] = (memory_pass, 1)
    seconds = timing.interleave(runs, rounds, lambda i: progress(f"round {i} of {rounds}"))
    milliseconds = {name: timing.quartiles(values) for name, values in seconds.items()}

    rate = operations / (1e-3 * milliseconds["matrix_product"]["median"])
    result = {"machine": {"matrix_product_gflops": rate / 1e9}, "models": {}, "peers": {}}
    for name, model in models_by_name.items():
        bandwidth = bytes_moved[name] / (1e-3 * milliseconds[f"{name}/memory"]["median"])
        result["models"][name] = _against_limit(model, batch_size, milliseconds[name], rate, bandwidth)
        result["peers"][name] = {
            peer: {**milliseconds[f"{name}/{peer}"], "vampzoo_is_faster_by": _ratio(seconds, f"{name}/{peer}", name)}
            for peer in peer_names
            if f"{name}/{peer}" in seconds
        }
    result["vampprior_over_standard"] = {
        model: _ratio(seconds, f"{model}_vampprior", f"{model}_standard")
        for model in config.MODELS
        if f"{model}_vampprior" in seconds and f"{model}_standard" in seconds
    }
    return result


def _training_runs(configs, peer_names, batch_size, num_steps, progress):
    """What is to be timed, as `timing.interleave` takes it, of models and of their peers; and {name: model}."""
    runs, models_by_name = {}, {}
    for model_config in configs:
        name = _name(model_config)
        progress(f"compiling {name}")
        models_by_name[name], run = training_run(model_config, batch_size, num_steps)
        runs[name] = (run, num_steps)
        images = _random_images(num_steps * batch_size, model_config.image_shape)
        for peer in peer_names:
            try:
                peer_run = peers.create(peer, model_config, images, batch_size)
            except peers.Unsupported as reason:
                progress(f"skipping {peer} for {name}: {reason}")
                continue
            except ImportError as error:
                raise InvalidValue(f"--peers={peer} needs a package of the extra `bench`: {error}") from error
            runs[f"{name}/{peer}"] = (lambda peer_run=peer_run: peer_run(num_steps), num_steps)
    return runs, models_by_name


def _against_limit(model, batch_size, milliseconds, rate, bandwidth):
    """A step's times beside what the machine allows: `rate` operations a second, `bandwidth` bytes a second."""
    from vampzoo.models import flops

    operations = flops.training_step(model, batch_size)
    limit = 1e3 * (operations / rate + _OPTIMIZER_BYTES * _num_trained(model) / bandwidth)
    median = milliseconds["median"]
    return {
        "step_ms": milliseconds,
        "images_per_second": 1e3 * batch_size / median,
        "step_gflop": operations / 1e9,
        "share_of_matrix_product_rate": 1e3 * operations / rate / median,
        "optimizer_gb_per_second": bandwidth / 1e9,
        "limit_ms": limit,
        "share_of_limit": limit / median,
    }


def _ratio(seconds, numerator, denominator):
    """Median over the rounds of the ratio within a round: what disturbs a whole round cancels."""
    return float(np.median(seconds[numerator] / seconds[denominator]))


def _num_trained(model):
    return sum(int(variable.shape.num_elements()) for variable in model.trainable_variables)


# === A whole epoch ===

_IMAGE_EPOCHS = 20  # from one image grid in TensorBoard to the next, as `vampzoo.train` has it


def epoch(configs, batch_size, num_epochs=20, progress=_silent):
    """Where the time of an epoch goes: in the trainer itself, on random images as many as Caltech 101 Silhouettes has.

    Returns:
        {name: {"steps_ms", "validation_ms", "images_ms", "rest_ms", "validation_share", "images_share", "rest_share"}}:
        medians an epoch (of the image grids the part that falls to one epoch), and their shares of the steps. The rest is
        what Python does in between: history, TensorBoard scalars, progress bar, keeping the best weights.
    """
    result = {}
    for model_config in configs:
        progress(f"{num_epochs} epochs of {_name(model_config)}")
        with tempfile.TemporaryDirectory() as folder:
            seconds = _timed_epochs(model_config, batch_size, num_epochs, pathlib.Path(folder, "run"))
        ms = {f"{name}_ms": 1e3 * float(np.median(values)) for name, values in seconds.items()}
        shares = {
            name.replace("_ms", "_share"): value / ms["steps_ms"] for name, value in ms.items() if "steps" not in name
        }
        result[_name(model_config)] = {**ms, **shares}
    return result


def _timed_epochs(model_config, batch_size, num_epochs, path):
    """Seconds of each epoch that went into steps, validation, image grids and the rest: {name: NumPy}."""
    from vampzoo import datasets, training
    from vampzoo.training.reporting import TensorBoard

    train, validation = (_random_images(n, model_config.image_shape) for n in (4100, 2264))
    spec = datasets.DATASETS["caltech101_silhouettes"]
    data = datasets.Dataset(spec=spec, train=train, validation=validation, test=validation, fingerprint="")
    training_config = config.TrainingConfig(epochs=num_epochs + 3, batch_size=batch_size)
    with contextlib.closing(training.RunFolder(path, {}, "")) as folder:
        trainer = training.Trainer(model_config, training_config, data, folder, image_epochs=0)
        clock = _Clock()
        trainer.steps.run = clock.timed("steps", trainer.steps.run)
        trainer.validation_elbo = clock.timed("validation", trainer.validation_elbo)
        folder.append_history = clock.lap(folder.append_history)
        model = trainer.fit()
        tensorboard = TensorBoard(folder.tensorboard, model, validation, seed=0)
        grids = clock.timed("images", tensorboard.images)
        usage = np.full(model_config.num_components, 1 / model_config.num_components)
        for i in range(4):
            grids(i, usage)
            clock.next_lap()
        tensorboard.close()
    laps = {name: np.array(seconds[:-1]) for name, seconds in clock.laps.items()}  # the last has only begun
    steps, validation, whole = (laps[name][3 : 3 + num_epochs] for name in ("steps", "validation", "whole"))
    images = laps["images"][-3:] / _IMAGE_EPOCHS  # the first grid compiles, as the first epochs do
    return {"steps": steps, "validation": validation, "images": images, "rest": whole - steps - validation}


class _Clock:
    """Adds up the seconds within functions, lap by lap."""

    def __init__(self):
        self.laps = {name: [0.0] for name in ("steps", "validation", "images", "whole")}
        self._start = time.perf_counter()

    def timed(self, name, function):
        """The function, whose time counts for `name`."""

        def run(*arguments):
            start = time.perf_counter()
            result = function(*arguments)
            self.laps[name][-1] += time.perf_counter() - start
            return result

        return run

    def lap(self, function):
        """The function, after which a new lap begins."""

        def run(*arguments):
            result = function(*arguments)
            self.next_lap()
            return result

        return run

    def next_lap(self):
        now = time.perf_counter()
        self.laps["whole"][-1] = now - self._start
        self._start = now
        for values in self.laps.values():
            values.append(0.0)


# === Evaluation and sampling ===


def importance(configs, num_samples, rounds, num_images=4, progress=_silent):
    """Importance samples a second, and the share of their floor: matrix products alone at the machine's rate."""
    from vampzoo import models
    from vampzoo.benchmarking import timing
    from vampzoo.models import flops

    built = {_name(model_config): models.create(model_config) for model_config in configs}
    runs = {"matrix_product": (timing.matrix_product()[0], 1)}
    for name, model in built.items():
        images = _random_images(num_images, model.image_shape)
        runs[name] = (lambda model=model, x=images: model.log_likelihood(x, num_samples), num_images)
    seconds = timing.interleave(runs, rounds, lambda i: progress(f"round {i} of {rounds}"))
    product = timing.quartiles(seconds["matrix_product"])["median"]
    rate = timing.matrix_product()[1] / (1e-3 * product)
    result = {}
    for name, model in built.items():
        image_ms = timing.quartiles(seconds[name])
        operations = flops.importance_sample(model)
        floor = 1e3 * num_samples * operations / rate
        result[name] = {
            "image_ms": image_ms,
            "samples_per_second": 1e3 * num_samples / image_ms["median"],
            "mflop_per_sample": operations / 1e6,
            "floor_ms": floor,
            "share_of_floor": floor / image_ms["median"],
        }
    return result


def sampling(configs, rounds, num_images=10000, progress=_silent):
    """Seconds for drawing images from each model."""
    from vampzoo import models
    from vampzoo.benchmarking import timing

    built = {_name(model_config): models.create(model_config) for model_config in configs}
    runs = {name: (lambda model=model: model.sample(num_images), 1) for name, model in built.items()}
    seconds = timing.interleave(runs, rounds, lambda i: progress(f"round {i} of {rounds}"))
    times = {name: timing.quartiles(values) for name, values in seconds.items()}
    return {
        name: {"num_images": num_images, "ms": ms, "images_per_second": 1e3 * num_images / ms["median"]}
        for name, ms in times.items()
    }


# === A fresh process ===


def startup(configs, batch_size, num_samples, progress=_silent):
    """Seconds until a fresh process has trained its first step, and sampled; the most memory it ever held."""
    result = {}
    for model_config in configs:
        for task in ("train", "sample", "importance"):
            progress(f"{_name(model_config)}: {task} in a fresh process")
            measured = in_child(task, model_config, batch_size, num_samples)
            result.setdefault(_name(model_config), {})[task] = measured
    return result


def in_child(task, model_config, batch_size, num_samples):
    """One task of `child` in a new interpreter: its seconds from exec to exit, and what it says of itself."""
    code = "import sys; from vampzoo.benchmarking import speed; speed.child(*map(eval, sys.argv[1:]))"
    arguments = (task, dataclasses.asdict(model_config), batch_size, num_samples)
    command = [sys.executable, "-c", code, *map(repr, arguments)]
    start = time.perf_counter()
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.perf_counter() - start
    return {"process_s": seconds, **json.loads(finished.stdout.splitlines()[-1])}


def child(task, fields, batch_size, num_samples):
    """What a fresh process does for `startup`; prints its seconds and its peak memory as JSON."""
    marks = [("start", time.perf_counter())]

    def mark(name):
        marks.append((name, time.perf_counter()))

    from vampzoo import models

    mark("import_s")
    model_config = config.ModelConfig.from_dict(fields)
    if task == "train":
        _, run = training_run(model_config, batch_size, 1)
        mark("build_s")
        run()
        mark("first_step_s")
    else:
        model = models.create(model_config)
        mark("build_s")
        if task == "sample":
            model.sample(16)
            mark("sample_16_s")
        else:
            model.log_likelihood(_random_images(2, model_config.image_shape), num_samples)
            mark("first_images_s")
    seconds = {name: t - before for (_, before), (name, t) in itertools.pairwise(marks)}
    seconds["peak_gib"] = _peak_bytes() / 2**30
    print(json.dumps(seconds))


def _peak_bytes():
    """The most memory that this process had at once; getrusage would count the parent's at the fork too."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# === Growth ===


def growth(model_config, batch_size, rounds, num_steps, progress=_silent):
    """Time against K, batch size and S, with a straight line through each (milliseconds)."""
    from vampzoo import models
    from vampzoo.benchmarking import timing

    runs = {"num_components": {}, "batch_size": {}, "num_samples": {}}
    for k in _GROWTH["num_components"] if model_config.prior != "standard" else ():
        progress(f"compiling K={k}")
        _, run = training_run(dataclasses.replace(model_config, num_components=k), batch_size, num_steps)
        runs["num_components"][k] = (run, num_steps)
    for b in _GROWTH["batch_size"]:
        progress(f"compiling batch size {b}")
        runs["batch_size"][b] = (training_run(model_config, b, num_steps)[1], num_steps)
    model, image = models.create(model_config), _random_images(1, model_config.image_shape)
    for s in _GROWTH_SAMPLES:
        runs["num_samples"][s] = (lambda s=s: model.log_likelihood(image, s), 1)
    result = {}
    for axis, points in runs.items():
        if not points:
            continue
        seconds = timing.interleave(points, rounds, lambda i, axis=axis: progress(f"{axis}: round {i} of {rounds}"))
        medians = {value: timing.quartiles(seconds[value])["median"] for value in points}
        result[axis] = {"ms": medians, "fit": timing.line(list(medians), list(medians.values()))}
    return result
