"""Where the computation runs: one device, several of one machine, or several machines (tf.distribute).

Dimensions: R replicas (devices over all machines), W workers (processes).
"""

import contextlib
import json
import os

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context  # has the workers' barrier, which TensorFlow exports under no public name

from vampzoo.config import STRATEGIES
from vampzoo.errors import InvalidValue

LEAVE_MILLISECONDS = 60_000


def create_strategy(name="auto"):
    """The `tf.distribute` strategy of that name. Must come before any other TensorFlow call for "multi_worker".

    Args:
        name: "auto" takes all visible GPUs, or the CPU; "mirrored" all GPUs, or all logical CPU devices; "multi_worker"
            the machines that the environment variable TF_CONFIG lists, and all GPUs of each.

    Raises:
        InvalidValue: for an unknown name, or "multi_worker" without a valid TF_CONFIG.
    """
    if name not in STRATEGIES:
        raise InvalidValue(f"strategy={name!r} is unknown; the valid values are: {', '.join(STRATEGIES)}")
    if name == "multi_worker":
        _check_tf_config()
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or (tf.config.list_logical_devices("CPU") if name == "mirrored" else [])
    if name == "one_device" or len(devices) < 2:
        return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _check_tf_config():
    try:
        tf_config = json.loads(os.environ.get("TF_CONFIG", ""))
        workers, task = tf_config["cluster"]["worker"], tf_config["task"]
        valid = task["type"] == "worker" and 0 <= task["index"] < len(workers)
    except (ValueError, KeyError, TypeError):
        valid = False
    if not valid:
        raise InvalidValue(
            "strategy=multi_worker needs the environment variable TF_CONFIG, for the first of two machines for example "
            '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", "index": 0}}; '
            f"it is {os.environ.get('TF_CONFIG')!r}"
        )


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
        self._num_barriers = 0
        self._gather = tf.function(
            lambda row: strategy.gather(strategy.run(tf.identity, args=(row,)), axis=0), reduce_retracing=True
        )

    def gather(self, *numbers):
        """What every worker passes to its call of this, at least one number: NumPy [W or more, len(numbers)].

        The chief's numbers are the first row. Waits until all workers have called.
        """
        if self.num == 1:
            return np.array([numbers], np.float64)
        return self._gather(tf.constant([numbers], tf.float64)).numpy()

    def wait(self):
        """Waits until all workers have come here."""
        self.gather(0)  # without any number TensorFlow's collective crashes the process

    def wait_to_leave(self):
        """Waits until no worker needs another: one that leaves earlier breaks what the others still compute.

        `wait` does not do, for a worker is through with a collective operation before the others have read its part.
        This is the barrier of the service by which the workers found each other. A worker may leave after it in any
        case: should it fail, or one worker not come within a minute, nothing is lost.
        """
        if self.num > 1:
            self._num_barriers += 1  # the service has each of them once
            with contextlib.suppress(tf.errors.OpError):
                context.context().wait_at_barrier(f"leave_{self._num_barriers}", LEAVE_MILLISECONDS)


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
