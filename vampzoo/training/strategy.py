"""Where the computation runs: one device, several of one machine, or several machines (tf.distribute)."""

import json
import os

import tensorflow as tf

from vampzoo.config import STRATEGIES


def create_strategy(name="auto"):
    """The `tf.distribute` strategy of that name. Must come before any other TensorFlow call for "multi_worker".

    Args:
        name: "auto" takes all visible GPUs, or the CPU; "mirrored" all GPUs, or all logical CPU devices; "multi_worker"
            the machines that the environment variable TF_CONFIG lists.

    Raises:
        ValueError: for an unknown name, or "multi_worker" without a TF_CONFIG.
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy={name!r} is unknown; the valid values are: {', '.join(STRATEGIES)}")
    if name == "multi_worker":
        try:
            workers = json.loads(os.environ.get("TF_CONFIG", ""))["cluster"]["worker"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                "strategy=multi_worker needs the environment variable TF_CONFIG, for example "
                '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", "index": 0}}'
            ) from error
        if workers:
            return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or (tf.config.list_logical_devices("CPU") if name == "mirrored" else [])
    if name == "one_device" or len(devices) < 2:
        return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    return tf.distribute.MirroredStrategy([device.name for device in devices])
