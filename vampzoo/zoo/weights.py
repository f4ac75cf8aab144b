"""The weights of a preset: those of its SavedModel, read as arrays from a TensorFlow checkpoint.

A SavedModel names its variables as it likes, so that a map goes with it: assets.extra/weights.json says under which key of
the checkpoint each weight of the model is. Nothing of the SavedModel's graph is loaded, let alone executed.
"""

import json
import pathlib

import keras
import numpy as np
import tensorflow as tf

from vampzoo import files
from vampzoo.files import VARIABLES, WEIGHTS_MAP
from vampzoo.zoo.errors import ZooError


def names(model):
    """A name for each of `model.weights`, in order: ATTRIBUTE/POSITION/VARIABLE; a list of networks is ATTRIBUTE.INDEX.

    Keras' own names count the layers that a process has made, and layers of different networks share them; these depend on
    the model alone.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.

    Raises:
        ZooError: if a weight belongs to none of the networks that are public attributes of the model.
    """
    found = {}
    # The prior's encoder is q(z2|x), too: of two names the later in the alphabet is taken, q_z2_network.
    for attribute, value in sorted(vars(model).items()):
        if attribute.startswith("_"):  # Keras' own lists
            continue
        is_list = isinstance(value, list)
        for index, network in enumerate(value if is_list else [value]):
            if isinstance(network, keras.layers.Layer):
                for position, weight in enumerate(network.weights):
                    place = f"{attribute}.{index}" if is_list else attribute
                    found[id(weight)] = f"{place}/{position}/{weight.name}"
    if nameless := [weight.path for weight in model.weights if id(weight) not in found]:
        raise ZooError(f"weights {', '.join(nameless)} belong to no network that is a public attribute of the model")
    return [found[id(weight)] for weight in model.weights]


def write_map(model, folder):
    """Writes the map of a SavedModel.

    Weights are found by their bits. Two that are equal in all bits and in shape may change places: it makes no difference.

    Args:
        model: the `vampzoo.models.LatentVariableModel` that the SavedModel was made of.
        folder: of the SavedModel, .../1.

    Raises:
        ZooError: if the SavedModel lacks a weight.
    """
    keys = {}
    with files.path_without_patterns(folder) as plain:
        checkpoint = tf.train.load_checkpoint(f"{plain}/{VARIABLES}")
        for key, dtype in sorted(checkpoint.get_variable_to_dtype_map().items()):
            if dtype != tf.string:  # the object graph
                keys.setdefault(_bits(checkpoint.get_tensor(key)), []).append(key)
    found = {}
    for name, weight in zip(names(model), model.weights, strict=True):
        if not keys.get(bits := _bits(weight.numpy())):
            raise ZooError(f"the SavedModel in {folder} does not hold the weight {name}")
        found[name] = keys[bits].pop(0)
    path = pathlib.Path(folder, WEIGHTS_MAP)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


def _bits(array):
    return array.dtype.str, array.shape, array.tobytes()


def read(model, folder):
    """Gives a model the weights that a SavedModel holds.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        folder: of the SavedModel, .../1.

    Raises:
        ZooError: if the map or the checkpoint is damaged or belongs to another model; the model is then as it was.
    """
    keys = json.loads(pathlib.Path(folder, WEIGHTS_MAP).read_text())
    expected = dict(zip(names(model), model.weights, strict=True))
    if not isinstance(keys, dict) or set(keys) != set(expected):
        raise ZooError(f"{WEIGHTS_MAP} names other weights than the model has")
    try:
        with files.path_without_patterns(folder) as plain:
            checkpoint = tf.train.load_checkpoint(f"{plain}/{VARIABLES}")
            shapes, dtypes = checkpoint.get_variable_to_shape_map(), checkpoint.get_variable_to_dtype_map()
            for name, weight in expected.items():
                key = keys[name]
                if shapes.get(key) != list(weight.shape) or dtypes[key] != weight.dtype:
                    raise ZooError(f"{name} is {weight.dtype} {list(weight.shape)}, and {key} of the checkpoint is not")
            arrays = {name: checkpoint.get_tensor(keys[name]) for name in expected}
    except (tf.errors.OpError, RuntimeError, IndexError, TypeError) as error:  # all of these come from truncated files
        raise ZooError(f"the checkpoint cannot be read: {error}") from error
    for name, weight in expected.items():
        weight.assign(np.asarray(arrays[name]))
