"""`.keras` files: what a model is made of as plain data, and the check that it can be made of that again."""

import keras

from vampzoo.errors import InvalidValue
from vampzoo.networks.layers import every_layer


def distinct_networks(model):
    """{name: network} of `model.networks()`, each network of a list by itself and once: NAME_0, NAME_1, ..."""
    found, seen = {}, set()
    for name, part in model.networks().items():
        for i, network in enumerate(part if isinstance(part, list) else [part]):
            if id(network) not in seen:
                seen.add(id(network))
                found[f"{name}_{i}" if isinstance(part, list) else name] = network
    return found


def described(model):
    """A model's networks, prior and likelihood as plain data: what its constructor takes.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.

    Raises:
        InvalidValue: if two networks share a layer, which each would get a copy of.
    """
    owners = {}
    for name, network in distinct_networks(model).items():
        for layer in every_layer(network):
            other = owners.setdefault(id(layer), name)
            if other != name and layer.weights:
                raise InvalidValue(
                    f"{other} and {name} share the layer {layer.name}, of which a .keras file would make two. "
                    "model.save_weights keeps the weights; build the model by the same code and call load_weights"
                )
    parts = {**model.networks(), "prior": model.prior_layer}
    return {
        "name": model.name,
        "likelihood": model.likelihood,
        **{name: _part_as_data(part) for name, part in parts.items()},
    }


def _part_as_data(part):
    """A layer as plain data; of a list each distinct one, and their order, so that what was one stays one."""
    if not isinstance(part, list):
        return keras.saving.serialize_keras_object(part)
    distinct = list({id(layer): layer for layer in part}.values())
    places = {id(layer): i for i, layer in enumerate(distinct)}
    return {"distinct": [_part_as_data(layer) for layer in distinct], "order": [places[id(layer)] for layer in part]}


def part_from_data(value, custom_objects=None):
    """The inverse of what `described` did to a part: a layer, a list of layers, or a plain value as it is."""
    if not isinstance(value, dict):
        return value
    if "order" in value:
        distinct = [part_from_data(layer, custom_objects) for layer in value["distinct"]]
        return [distinct[i] for i in value["order"]]
    return keras.saving.deserialize_keras_object(value, custom_objects)


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
