"""The weights of a model as the bytes of a .weights.h5 file, to and from memory."""

import io
import warnings

import h5py
import numpy as np


class _File(io.BytesIO):
    """Bytes that Keras takes for a file of weights, which it knows by the end of its name."""

    def __str__(self):
        return "model.weights.h5"


def to_bytes(model):
    """The file as bytes.

    Not written to a path: HDF5 crashes the process where the disk is full.

    Args:
        model: a built `keras.Model`.
    """
    file = _File()
    model.save_weights(file)
    return file.getvalue()


def from_bytes(model, data):
    """Gives a model the weights that a file holds: all that the model has, and no others.

    They are read by Keras' loader for weight files, which reads arrays and nothing else: nothing is unpickled and no code
    runs.

    Args:
        model: a built `keras.Model`.
        data: the bytes of the file.

    Raises:
        ValueError: if they are damaged, those of another model, or not finite.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # with which Keras leaves layers at their initial weights
            model.load_weights(_File(data))
        # Of what the model lacks Keras says nothing; weights of another prior would be taken for those of this one.
        num_arrays = _num_arrays(data)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, UserWarning) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    # Seed generators and networks that two attributes share are stored, too, so that the model itself is the measure.
    if num_arrays != (expected := _num_arrays(to_bytes(model))):
        raise ValueError(f"it holds {num_arrays} arrays, and the model has {expected}: it is another model's")
    if bad := [weight.path for weight in model.weights if not np.all(np.isfinite(weight.numpy()))]:
        raise ValueError(f"NaN or infinite values in {', '.join(bad)}")


def _num_arrays(data):
    count = 0

    def visit(name, item):
        nonlocal count
        count += isinstance(item, h5py.Dataset)

    with h5py.File(io.BytesIO(data), "r") as file:
        file.visititems(visit)
    return count
