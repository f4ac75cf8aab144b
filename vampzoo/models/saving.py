"""`.keras` files: what a model is made of as plain data, and the check that it can be made of that again."""

import keras

from vampzoo.errors import InvalidValue
from vampzoo.networks.layers import every_layer


def described(model):
    """A model's networks, prior and likelihood as plain data: what its constructor takes.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.

    Raises:
        InvalidValue: if two networks share a layer, which each would get a copy of.
    """
    networks = model.networks()
    owners = {}
    for name, network in networks.items():
        for layer in every_layer(network):
            other = owners.setdefault(id(layer), name)
            if other != name and layer.weights:
                raise InvalidValue(
                    f"{other} and {name} share the layer {layer.name}, of which a .keras file would make two. "
                    "model.save_weights keeps the weights; build the model by the same code and call load_weights"
                )
    parts = {**networks, "prior": model.prior_layer}
    return {
        "name": model.name,
        "likelihood": model.likelihood,
        **{name: keras.saving.serialize_keras_object(part) for name, part in parts.items()},
    }


def check(model):
    """Makes a model of the description of this one, so that no file is written that cannot be loaded.

    Raises:
        InvalidValue: if that does not work; the message says why and what to do.
    """
    try:
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    except InvalidValue:
        raise
    except Exception as error:  # whatever a network of somebody's own may raise
        raise _refused(model, " ".join(str(_first_cause(error)).split())) from error
    if [w.shape for w in again.weights] != [w.shape for w in model.weights]:
        raise _refused(model, "what from_config makes of get_config has other weights")


def _first_cause(error):
    """The error that others were raised in response to: Keras wraps one in another that quotes the whole configuration."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return error


def _refused(model, reason):
    return InvalidValue(
        f"{type(model).__name__} cannot be saved as a whole, and nothing was written: {reason[:400]}\n"
        "Either mend that (classes of your own need @keras.saving.register_keras_serializable() and get_config), or keep "
        "the weights: model.save_weights, and load_weights on a model that the same code built"
    )
