"""Trainings in processes of their own, to be killed: started by forking a server that has imported everything already."""

import contextlib
import io
import json
import multiprocessing
import os
import resource
import runpy
import socket
import sys
import tempfile
import time
import traceback

import numpy as np
import tiny_run

from vampzoo import evaluation, files, training

CONTEXT = multiprocessing.get_context("forkserver")
# Not this file: some versions of Python give the server no sys.path on which it stands, and pass over what they miss.
CONTEXT.set_forkserver_preload(["vampzoo.training", "vampzoo.evaluation.report", "vampzoo.datasets", "vampzoo.zoo"])


def call(function, *arguments, timeout=600):
    """The result of a function in a process of its own; what it raises is raised here."""
    return call_together(function, arguments, timeout=timeout)[0]


def start(function, *arguments):
    """A running process."""
    process = CONTEXT.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def call_together(function, *argument_lists, timeout=600):
    """The results of a function in processes that run at the same time, one for each list of arguments.

    They are killed when they have answered: a pool would ask them to leave, and may wait for ever. What one of them
    raises is raised here; one that ends without an answer is an EOFError.
    """
    pipes = [CONTEXT.Pipe(duplex=False) for _ in argument_lists]
    processes = [
        start(_send_result, ours, function, arguments)
        for (_, ours), arguments in zip(pipes, argument_lists, strict=True)
    ]
    for _, ours in pipes:
        ours.close()  # so that a process that dies is noticed
    end = time.monotonic() + timeout
    try:
        for (theirs, _), process in zip(pipes, processes, strict=True):
            assert theirs.poll(max(0, end - time.monotonic())), (
                f"no result in {timeout} s: exit code {process.exitcode}"
            )
        answers = [theirs.recv() for theirs, _ in pipes]
    finally:
        for process in processes:
            process.kill()
            process.join()
    for _, error in answers:
        if error is not None:
            raise error
    return [result for result, _ in answers]


def _send_result(connection, function, arguments):
    try:
        answer = function(*arguments), None
    except Exception as error:
        error.add_note(traceback.format_exc())  # as text, since a traceback does not pass to another process
        answer = None, error
    connection.send(answer)
    connection.close()
    time.sleep(3600)  # the caller ends this process when it has read


def logical_devices(n):
    """Splits the CPU into `n` devices; must come before TensorFlow computes anything."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * n)
    return tf


def save_result(trainer, path):
    """What two runs are compared by: weights, and every number of the history that does not depend on the clock."""
    history = [[float(v) for k, v in row.items() if k != "images_per_second"] for row in trainer.folder.read_history()]
    with files.atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, *tiny_run.weights(trainer.model), np.array(history))


def assert_same_results(path, other):
    with np.load(path) as a, np.load(other) as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])


def train(path, epochs=30, result=None):
    """A whole training, with a checkpoint after every segment."""
    trainer = tiny_run.trainer(
        path,
        config=tiny_run.training_config(epochs=epochs, patience=1000),
        checkpoint_seconds=0,
    )
    trainer.fit()
    if result is not None:
        save_result(trainer, result)


# === Replicas ===


def train_on_replicas(path, num_replicas, batch_size, model="vae", jit_compile=False):
    """Terms of 50 steps, final weights, samples, ELBO and importance-sampled likelihood with the CPU as n devices."""
    tf = logical_devices(num_replicas)
    strategy = training.create_strategy("mirrored")
    assert strategy.num_replicas_in_sync == num_replicas
    return measure(tf, path, strategy, batch_size, model=model, jit_compile=jit_compile)


def measure(tf, path, strategy, batch_size, writer=True, model="vae", jit_compile=False):
    model_config = tiny_run.model_config(model=model)
    config = tiny_run.training_config(
        batch_size=batch_size, objective="iwae", objective_samples=2, q_dropout=0.2, p_dropout=0.3, shift_pixels=1
    )
    folder = training.RunFolder(path, tiny_run.run_config(model_config, config), writer=writer)
    trainer = training.Trainer(
        model_config, config, tiny_run.dataset(), folder, strategy=strategy, jit_compile=jit_compile
    )
    terms = []
    for step in range(50):
        epoch, step = divmod(step, trainer.steps.steps_per_epoch)
        arguments = map(tf.constant, (epoch + 1, step, step + 1, 1.0))
        terms.append(trainer.steps.run(*arguments, tf.zeros([len(trainer.steps.metric_names)], tf.float64)).numpy())
    how = {"map_rows": trainer.map_rows, "jit_compile": jit_compile}
    result, likelihoods = evaluation.evaluate(trainer.model, tiny_run.dataset().test, 7, **how)
    trainer.workers.wait_to_leave()
    return {
        "terms": np.array(terms),
        "weights": tiny_run.weights(trainer.model),
        "samples": trainer.model.sample(5, seed=1),
        "elbo": result["elbo"],
        "likelihoods": likelihoods,
    }


def statistics_on_replicas(path, num_replicas):
    """Moving statistics of a PixelHVAE's first batch normalisation for its initial weights, (mean, variance)."""
    logical_devices(num_replicas)
    strategy = training.create_strategy("mirrored")
    model = tiny_run.model_config(model="pixel_hvae", image_shape=(4, 4, 1))
    data = tiny_run.dataset(num_train=32, image_shape=(4, 4, 1))  # every replica has as many images in each batch
    with tiny_run.shallow_convolutions():
        trainer = tiny_run.trainer(path, model, tiny_run.training_config(ema_momentum=0.9), data, strategy=strategy)
    trainer.steps.estimate_statistics(1)
    norm = trainer.model.p_x_network.norms[0]
    return np.array(norm.moving_mean), np.array(norm.moving_variance)


# === Workers ===


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def set_tf_config(index, ports):
    os.environ["TF_CONFIG"] = json.dumps(
        {
            "cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
            "task": {"type": "worker", "index": index},
        }
    )


def become_worker(index, ports):
    set_tf_config(index, ports)
    return training.create_strategy("multi_worker")


def measure_as_worker(index, ports, path, batch_size):
    strategy = become_worker(index, ports)
    import tensorflow as tf

    return measure(tf, path, strategy, batch_size, writer=training.Workers(strategy).is_chief)


def run_program_as_worker(index, ports, program, *arguments):
    set_tf_config(index, ports)
    with tiny_run.shallow_convolutions():
        return run_program(program, *arguments)


def train_as_worker(index, ports, path, epochs, result):
    """A whole training; its exit code is 3 if another worker was lost, 0 if a signal stopped it."""
    strategy = become_worker(index, ports)
    model = tiny_run.model_config()
    config = tiny_run.training_config(epochs=epochs, patience=1000)
    writer = training.Workers(strategy).is_chief
    folder = training.RunFolder(path, tiny_run.run_config(model, config), writer=writer)
    options = {"jit_compile": False, "image_epochs": 0, "checkpoint_seconds": 0}
    trainer = training.Trainer(model, config, tiny_run.dataset(), folder, strategy=strategy, **options)
    try:
        trainer.fit()
    except training.WorkerLost as error:
        result.with_suffix(f".lost{index}").write_text(str(error))
        os._exit(3)
    except training.Interrupted:
        os._exit(0)
    if writer:
        save_result(trainer, result)


# === Limits ===


def train_on_a_full_disk(path, epochs):
    """Trains, and once a checkpoint is there no file may grow beyond a kilobyte. Returns the error's message."""
    trainer = tiny_run.trainer(path, config=tiny_run.training_config(epochs=epochs))
    trainer.checkpoint_seconds = 0
    save = trainer.checkpoints.save

    def save_and_fill():
        save()
        if trainer.epochs_done == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))

    trainer.checkpoints.save = save_and_fill
    try:
        trainer.fit()
    except training.RunFolderError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def memory_of_a_long_run(path, epochs, early):
    """Bytes in memory after `early` epochs and at the end."""
    trainer = tiny_run.trainer(
        path,
        config=tiny_run.training_config(epochs=epochs, patience=epochs),
        checkpoint_seconds=1.0,
        image_epochs=20,
    )
    measured, append = {}, trainer.folder.append_history

    def append_and_measure(row):
        append(row)
        if row["epoch"] in (early, epochs):
            with open("/proc/self/statm") as file:
                measured[row["epoch"]] = int(file.read().split()[1]) * resource.getpagesize()

    trainer.folder.append_history = append_and_measure
    trainer.fit()
    return measured[early], measured[epochs]


# === Programs ===


def run_program(program, *arguments):
    """Runs `python -m vampzoo.PROGRAM ARGUMENTS` here. Returns exit code, stdout and stderr."""
    sys.argv = [program, *arguments]
    code, texts = 0, []
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_module(f"vampzoo.{program}", run_name="__main__", alter_sys=True)
            except SystemExit as end:
                code = end.code or 0
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return code, *texts


def run_program_on_devices(n, program, *arguments):
    """`run_program` with the CPU as n devices."""
    logical_devices(n)
    return run_program(program, *arguments)


def run_program_in(folder, program, *arguments):
    """`run_program` with a folder as the working directory."""
    os.chdir(folder)
    return run_program(program, *arguments)


def run_code(environment, code, *arguments):
    """Runs `python -c CODE ARGUMENTS` here, with these variables alone in its environment. Returns stdout."""
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-c", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, {"__name__": "__main__"})
    return out.getvalue()


def run_program_aloud(err, program, *arguments):
    """Runs `python -m vampzoo.PROGRAM ARGUMENTS` as all that this process does: stderr goes to the file `err` at once."""
    os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)  # beneath Python's stderr, as handlers write to it
    sys.argv = [program, *arguments]
    runpy.run_module(f"vampzoo.{program}", run_name="__main__", alter_sys=True)


def overflow_in_the_second_replica():
    """A weight and the scale of the loss, at first and after a step in which float16 overflows in replica 1 alone."""
    import keras

    from vampzoo import optimizers

    tf = logical_devices(2)
    strategy = training.create_strategy("mirrored")
    with strategy.scope():
        weight = keras.Variable(np.ones(3, np.float32))
        optimizer = optimizers.create(tiny_run.training_config(mixed_precision="float16"), [weight], 5)
        optimizer.build([weight])

    @tf.function
    def step(bad_replica):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        gradients = [tf.where(tf.equal(replica, bad_replica), np.inf, 1.0) * tf.ones(3)]
        optimizer.apply(optimizers.sharing_overflow(optimizer, gradients), [weight])

    states = []
    for bad_replica in (1, 0, -1):
        strategy.run(step, args=(tf.constant(bad_replica),))
        states.append((np.array(weight), float(optimizer.scale_loss(tf.constant(1.0)))))
    return states


def fit_of_batch_normalisation_on_two_replicas():
    """What `fit` of a PixelHVAE says on two devices."""
    from vampzoo import models
    from vampzoo.errors import InvalidValue

    logical_devices(2)
    shape = (4, 4, 1)
    with training.create_strategy("mirrored").scope():
        model = models.create(tiny_run.model_config(model="pixel_hvae", image_shape=shape), 0)
        model.compile("adam")
    try:
        model.fit(tiny_run.dataset(image_shape=shape).train[:8], batch_size=8, verbose=0)
    except InvalidValue as error:
        return str(error)


def fit_on_two_replicas():
    """Weights after one step of `fit` on two devices, and those that the gradients of both halves give on one."""
    import keras

    from vampzoo import models, random
    from vampzoo.models.fitting import NOISE, losses_and_terms

    tf = logical_devices(2)
    strategy = training.create_strategy("mirrored")
    x, rate = tiny_run.dataset().train[:8], 0.1
    with strategy.scope():
        model = models.create(tiny_run.model_config(), 0)
        model.compile(keras.optimizers.SGD(rate), seed=5)
    model.fit(x, batch_size=8, shuffle=False, verbose=0)
    assert strategy.num_replicas_in_sync == 2
    one = models.create(tiny_run.model_config(), 0)
    with tf.GradientTape() as tape:
        losses = []
        for replica in (0, 1):
            noise = one.draw_noise(4, random.fold_in(random.key(5), NOISE, 0, 0, replica))
            half = tf.constant(x[4 * replica : 4 * replica + 4])
            losses.append(losses_and_terms(one, half, noise, one.prior_parameters(), 1.0, training=True)[0])
        loss = tf.reduce_mean(tf.concat(losses, axis=0))
    variables = [v.value for v in one.trainable_variables]
    expected = [v - rate * g for v, g in zip(variables, tape.gradient(loss, variables), strict=True)]
    return [v.numpy() for v in model.trainable_variables], [np.array(v) for v in expected]
