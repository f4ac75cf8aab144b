"""The weights of a model as the bytes of a .weights.h5 file, to and from memory."""

import io

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
    # Compared before and after: layers whose weights do not fit Keras would leave at their initial ones with a warning, and
    # of what the model lacks it would say nothing, so that weights of another prior would pass for those of this one. Seed
    # generators and networks that two attributes share are stored, too; so the model itself is the measure.
    try:
        given, own = _arrays(data), _arrays(to_bytes(model))
        if differing := sorted(given.keys() ^ own.keys()):
            raise ValueError(
                f"it holds {len(given)} arrays, and the model has {len(own)}: it is another model's. Only one of them has "
                f"{differing[0]}"
            )
        for name, array in own.items():
            if given[name].shape != array.shape:
                raise ValueError(f"{name} has the shape {given[name].shape}, and the model's {array.shape}")
        model.load_weights(_File(data))
        for name, array in _arrays(to_bytes(model)).items():
            if not np.array_equal(given[name], array, equal_nan=array.dtype.kind == "f"):
                raise ValueError(f"{name} could not be loaded")
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    if bad := [weight.path for weight in model.weights if not np.all(np.isfinite(weight.numpy()))]:
        raise ValueError(f"NaN or infinite values in {', '.join(bad)}")


def _arrays(data):
    """{name in the file: array}, without those of the optimiser of a compiled model."""
    arrays = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/"):
            arrays[name] = item[()]

    with h5py.File(io.BytesIO(data), "r") as file:
        file.visititems(visit)
    return arrays
