"""Weights of one model as the start of another: what both have, and nothing of what they do not share."""

from vampzoo.errors import InvalidValue
from vampzoo.models.saving import distinct_networks


def start_from(model, other):
    """Gives the networks of a model, and its prior, the weights of those of another that are like them.

    Alike are networks of the same name in `networks()` whose weights have the same names and shapes, in order; of lists,
    those at the same place. All others keep the weights that they have. Optimiser and averages are not touched.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        other: another one.

    Returns:
        Two lists of names: of what has its weights from the other one, and of what has not.

    Raises:
        InvalidValue: if the two have nothing alike.
    """
    own, others = _parts(model), _parts(other)
    alike = [name for name, part in own.items() if name in others and _layout(part) == _layout(others[name])]
    if not alike:
        raise InvalidValue(
            f"no network of the model is like one of those to start from: it has {', '.join(own)}, and the other "
            f"{', '.join(others)}, or of other sizes"
        )
    for name in alike:
        for weight, value in zip(own[name].weights, others[name].weights, strict=True):
            weight.assign(value.numpy())
    if "prior" in alike and getattr(other.prior_layer, "began_as_data", False):
        model.prior_layer.began_as_data = True  # its pseudo-inputs may show somebody's images
    return alike, [name for name in own if name not in alike]


def _parts(model):
    """{name: network}, and the prior among them if it has weights."""
    prior = {"prior": model.prior_layer} if model.prior_layer.weights else {}
    return {**distinct_networks(model), **prior}


def _layout(part):
    return type(part), [(weight.name, tuple(weight.shape)) for weight in part.weights]
