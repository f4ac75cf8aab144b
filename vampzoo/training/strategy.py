"""Where the computation runs: one device, several of one machine, or several machines (tf.distribute).

Dimensions: R replicas (devices over all machines), W workers (processes).
"""

import contextlib
import faulthandler
import hashlib
import json
import pathlib
import sys

import numpy as np
import tensorflow as tf

from vampzoo.config import STRATEGIES
from vampzoo.errors import InvalidValue
from vampzoo.training import rendezvous
from vampzoo.training.errors import WorkerLost

LEAVE_SECONDS = 60.0


def create_strategy(name="auto", worker_timeout=rendezvous.WORKER_TIMEOUT):
    """The `tf.distribute` strategy of that name. Must come before any other TensorFlow call for "multi_worker".

    Args:
        name: "auto" takes all visible GPUs, or the CPU; "mirrored" all GPUs, or all logical CPU devices; "multi_worker"
            the machines that the environment variable TF_CONFIG lists, and all GPUs of each.
        worker_timeout: seconds that the workers wait for each other.

    Raises:
        InvalidValue: for an unknown name, or "multi_worker" without a valid TF_CONFIG.
        WorkerLost: if another worker cannot be reached.
    """
    if name not in STRATEGIES:
        raise InvalidValue(f"strategy={name!r} is unknown; the valid values are: {', '.join(STRATEGIES)}")
    if name == "multi_worker":
        return _multi_worker(worker_timeout)
    if name == "one_device":
        with contextlib.suppress(RuntimeError):  # where TensorFlow has looked for its devices before
            # It would take the memory of all GPUs.
            tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[:1], "GPU")
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or (tf.config.list_logical_devices("CPU") if name == "mirrored" else [])
    if name == "one_device" or len(devices) < 2:
        return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def describe(strategy):
    """Where a strategy computes, in words: "1 CPU", "4 GPUs", "2 x 4 GPUs" of two machines."""
    replicas = strategy.num_replicas_in_sync
    workers = Workers(strategy).num
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    each = f"{replicas // workers} {kind}{'s' if replicas > workers else ''}"
    return f"{workers} x {each}" if workers > 1 else each


def unused_gpu():
    """What to say of a machine with a GPU of NVIDIA's that TensorFlow does not see; "" if there is none."""
    if tf.config.list_physical_devices("GPU") or not pathlib.Path("/dev/nvidia0").exists():
        return ""
    return (
        "this machine has a GPU that TensorFlow does not see, and the training runs on the CPU: GPUs need the extra "
        "`cuda`, a driver that works (nvidia-smi says), and to be asked for in a SLURM job (--gpus-per-node)"
    )


def _multi_worker(timeout):
    num_workers = rendezvous.meet(timeout)
    if num_workers > 1:
        # If one ends just now, TensorFlow waits for it for an hour, and no thread of Python runs meanwhile.
        message = f"connecting {num_workers} workers: ends after {timeout:g} seconds if one is lost"
        print(message, file=sys.stderr, flush=True)
        faulthandler.dump_traceback_later(timeout, exit=True, file=sys.__stderr__)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError) as error:
        raise WorkerLost(f"the workers could not connect ({str(error).splitlines()[0]})") from error
    finally:
        faulthandler.cancel_dump_traceback_later()


class Workers:
    """The processes that train together: one, unless the strategy is "multi_worker".

    Args:
        strategy: a `tf.distribute` strategy.
    """

    def __init__(self, strategy):
        resolver = strategy.cluster_resolver
        self.num = len(resolver.cluster_spec().as_dict().get("worker", ())) if resolver else 0
        self.num = max(1, self.num)
        self.is_chief = self.num == 1 or resolver.task_id == 0
        self._gather = tf.function(
            lambda row: strategy.gather(strategy.run(tf.identity, args=(row,)), axis=0),
            reduce_retracing=True,
            autograph=False,
        )
        host, _, _ = resolver.cluster_spec().task_address("worker", 0).rpartition(":") if self.num > 1 else ("", "", "")
        self._chief = host.strip("[]")
        self._departure = None  # the chief's; and its port, for the others
        self._departure_port = 0

    def gather(self, *numbers):
        """What every worker passes to its call of this: NumPy [W or more, len(numbers)].

        The chief's numbers are the first row. Waits until all workers have called.
        """
        if self.num == 1:
            return np.array([numbers], np.float64)
        if self.is_chief and self._departure is None:
            self._departure = rendezvous.Departure(self.num)
            self._departure_port = self._departure.port
        # With the first numbers that they tell each other goes where they will meet to leave.
        rows = self._gather(tf.constant([[self._departure_port, *numbers]], tf.float64)).numpy()
        self._departure_port = int(rows[0, 0])
        return rows[:, 1:]

    @contextlib.contextmanager
    def loss_explained(self, message="another worker ended: see what it said", remedy=""):
        """A context in which a connection that breaks is a `WorkerLost`, with a message that may end in a remedy."""
        try:
            yield
        except tf.errors.OpError as error:
            if self.num == 1:
                raise
            raise WorkerLost(f"{message} ({str(error).splitlines()[0]}){remedy}") from error

    def check_same(self, **values):
        """Compares plain data over all workers, which otherwise would train on a mixture, or wait for each other for ever.

        Args:
            values: by the names that a message has for them.

        Raises:
            InvalidValue: in every worker, if they differ in one.
            WorkerLost: if another worker has ended before.
        """
        if self.num == 1:
            return
        texts = [json.dumps(value, sort_keys=True) for value in values.values()]
        # 48 bits of a digest are exact in float64.
        digests = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") for text in texts]
        with self.loss_explained("another worker ended before the training began: see what it said"):
            rows = self.gather(*digests)
        differing = [name for name, column in zip(values, rows.T, strict=True) if len(set(column)) > 1]
        if differing:
            self.wait_to_leave()
            raise InvalidValue(
                f"the workers were started with different {', '.join(differing)}: give all of them the same flags and data"
            )

    def wait(self):
        """Waits until all workers have come here."""
        self.gather()

    def wait_to_leave(self):
        """Waits until no worker needs another: one that leaves earlier breaks what the others still compute.

        `wait` does not do, for a worker is through with a collective operation before the others have read its part. A
        worker may leave after it in any case: should one not come within a minute, nothing is lost.
        """
        if self.num == 1:
            return
        if self.is_chief and self._departure:
            self._departure.release(LEAVE_SECONDS)
        elif self._departure_port:
            rendezvous.wait_for_release((self._chief, self._departure_port), LEAVE_SECONDS)


def map_rows_over_replicas(strategy):
    """A function that maps over the rows of a batch, each replica taking its share.

    Args:
        strategy: a `tf.distribute` strategy.

    Returns:
        `map_rows(function, *batches)` for use in a `tf.function`. `batches` are tensors, or nests of them; the first has B
        rows, any other B or, as neighbours, k for each of those. `function` is called in every replica with the same rows
        of each and returns a tensor with a row for each of the first's. The result is the tensor with B rows that
        `function(*batches)` would be.
    """
    num_replicas = strategy.num_replicas_in_sync

    def map_rows(function, *batches):
        if num_replicas == 1:
            return function(*batches)
        num_rows = tf.shape(tf.nest.flatten(batches)[0])[0]  # B
        share = -(-num_rows // num_replicas)

        def rows_of_replica():
            first = share * tf.distribute.get_replica_context().replica_id_in_sync_group
            index = tf.minimum(first + tf.range(share), num_rows - 1)  # [share]; what is beyond B is cut off again

            def take(t):
                k = tf.shape(t)[0] // num_rows
                return tf.gather(t, tf.reshape(k * index[:, tf.newaxis] + tf.range(k), [-1]))  # [share k, ...]

            return function(*tf.nest.map_structure(take, batches))

        return strategy.gather(strategy.run(rows_of_replica), axis=0)[:num_rows]

    return map_rows
