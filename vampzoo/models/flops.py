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
    per_image = sum(3 * _forward(network, model) - _on_image(network, model) for network in _networks(model))
    return batch_size * per_image + _prior_step(model, batch_size)


def importance_sample(model):
    """Operations of one more importance sample of an image: what depends on the image alone is there already."""
    latent_networks = [n for n in _networks(model) if not _takes_only_image(n, model)]
    operations = sum(_forward(n, model) - _on_image(n, model) - _feature_rows(n, model) for n in latent_networks)
    return operations + _mixture_log_prob(model)


def _networks(model):
    return [layer for layer in model.layers if isinstance(layer, keras.Model) or _is_autoregressive(layer)]


def _is_autoregressive(network):
    """Whether it is a decoder that takes the image, too, and counts its operations itself."""
    return hasattr(network, "operations_of")


def _layers(network, model):
    """Operations of each layer's forward pass for one example, in order; a kernel serves every pixel of the output."""
    if _is_autoregressive(network):
        return network.operations_of(model.image_shape)
    return [
        2 * math.prod(layer.output.shape[1:-1]) * math.prod(layer.kernel.shape)
        for layer in network.layers
        if hasattr(layer, "kernel")
    ]


def _forward(network, model):
    return model.times_applied(network) * sum(_layers(network, model))


def _takes_only_image(network, model):
    if _is_autoregressive(network):
        return False
    return len(network.inputs) == 1 and tuple(network.inputs[0].shape[1:]) == model.image_shape


def _on_image(network, model):
    """Operations of the layer that meets the image, 0 if there is none.

    They are also what the gradient with respect to the data would cost, for which nobody asks, and what is computed once
    however many samples an image has.
    """
    meets_image = _is_autoregressive(network) or _takes_only_image(network, model)
    return _layers(network, model)[0] if meets_image else 0


def _feature_rows(network, model):
    """Operations on the rows of a joint layer's kernel that meet the features of the image."""
    if _is_autoregressive(network):
        return 0
    features = [tensor for tensor in network.inputs if tensor.name == "features"]
    return model.times_applied(network) * sum(
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
    if prior.has_pseudo_inputs:
        per_component = 3 * _forward(model.prior_encoder, model)
        if not prior.raw_pseudo_inputs.trainable:
            per_component -= _on_image(model.prior_encoder, model)
        operations += prior.num_components * per_component
    return operations
