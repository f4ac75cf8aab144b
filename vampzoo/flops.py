"""How many floating-point operations a model costs, counted from the shapes of its networks.

Counted are the multiplications and additions of matrix products and convolutions; everything else is of lower order.
Dimensions: B batch, K mixture components, M latents of the top layer.
"""

import math

import keras


def training_step(model, batch_size):
    """Operations of one training step: forward, gradients of the weights, gradients of what the layers took in.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        batch_size: B.
    """
    per_image = sum(3 * _forward(network) - _image_gradient(network, model) for network in _networks(model))
    return batch_size * per_image + _prior_step(model, batch_size)


def importance_sample(model):
    """Operations of one more importance sample of an image: what depends on the image alone is there already."""
    latent_networks = [n for n in _networks(model) if not _takes_only_image(n, model)]
    features = sum(_forward(network) - _feature_rows(network) for network in latent_networks)
    return features + _mixture_log_prob(model)


def _networks(model):
    return [layer for layer in model.layers if isinstance(layer, keras.Model)]


def _layer(layer):
    """Operations of a layer's forward pass for one example; a kernel serves every pixel of the output."""
    if not hasattr(layer, "kernel"):
        return 0
    positions = math.prod(layer.output.shape[1:-1])
    return 2 * positions * math.prod(layer.kernel.shape)


def _forward(network):
    return sum(map(_layer, network.layers))


def _takes_only_image(network, model):
    return len(network.inputs) == 1 and tuple(network.inputs[0].shape[1:]) == model.image_shape


def _first(network):
    """Operations of the layer that meets the image."""
    return next(filter(None, map(_layer, network.layers)))


def _image_gradient(network, model):
    """What the gradient with respect to the data would cost: nobody asks for it."""
    return _first(network) if _takes_only_image(network, model) else 0


def _feature_rows(network):
    """Operations on the rows of a joint layer's kernel that meet the features of the image."""
    features = [tensor for tensor in network.inputs if tensor.name == "features"]
    return sum(
        2 * part.shape[-1] * layer.kernel.shape[-1]
        for layer in network.layers
        if hasattr(layer, "kernel")
        for part in keras.tree.flatten(layer.input)
        if any(part is tensor for tensor in features)
    )


def _mixture_log_prob(model):
    """[2M] features of one z times [2M, K]."""
    num_components = getattr(model.prior_layer, "num_components", 0)
    return 2 * num_components * 2 * next(iter(model.latent_sizes.values()))


def _prior_step(model, batch_size):
    prior = model.prior_layer
    operations = 3 * batch_size * _mixture_log_prob(model)
    if hasattr(prior, "raw_pseudo_inputs"):
        per_component = 3 * _forward(model.prior_encoder)
        if not prior.raw_pseudo_inputs.trainable:
            per_component -= _first(model.prior_encoder)
        operations += prior.num_components * per_component
    return operations
