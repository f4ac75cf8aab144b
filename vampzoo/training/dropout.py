"""Dropout of hidden units (Srivastava et al., 2014): others for each image of a batch.

The prior's components are not thinned: they are the whole encoder's posteriors in training as in evaluation. One mask
for all images of a step would be cheaper, but its noise does not average out over the batch.
"""

import contextlib

import tensorflow as tf

from vampzoo import random
from vampzoo.errors import InvalidValue
from vampzoo.networks.layers import GatedDense, every_layer


class UnitDropout:
    """Leaves units of the gated dense layers out and scales the others by 1 / (1 - rate).

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        q_rate: probability with which a unit of the variational networks is left out; 0 for none.
        p_rate: the same of the generative networks.

    Raises:
        InvalidValue: for a rate of networks that have no gated dense layer.
    """

    def __init__(self, model, q_rate=0.0, p_rate=0.0):
        self.layers, self.rates = [], []
        if not (q_rate or p_rate):
            return
        generative = {id(layer) for network in model.generative_networks() for layer in every_layer(network)}
        for layer in every_layer(model):
            rate = p_rate if id(layer) in generative else q_rate
            if isinstance(layer, GatedDense) and rate:
                self.layers.append(layer)
                self.rates.append(rate)
        for name, rate, thinned in (
            ("q_dropout", q_rate, any(id(layer) not in generative for layer in self.layers)),
            ("p_dropout", p_rate, any(id(layer) in generative for layer in self.layers)),
        ):
            if rate and not thinned:
                raise InvalidValue(
                    f"{name}={rate} would leave nothing out: those networks of the model have no `GatedDense` layer, and "
                    "its units are what dropout is of"
                )

    def draw(self, num_images, seed):
        """A mask [B, O] for each layer: 0, or 1 / (1 - rate)."""
        return [
            random.bernoulli(tf.fill([num_images, layer.units], 1.0 - rate), random.fold_in(seed, i)) / (1.0 - rate)
            for i, (layer, rate) in enumerate(zip(self.layers, self.rates, strict=True))
        ]

    @contextlib.contextmanager
    def thinned(self, masks):
        """A context in which the layers leave units out: those of B rows by their masks, those of B k by their image's.

        Args:
            masks: as `draw` gives them, [B, O] each.
        """
        try:
            for layer, mask in zip(self.layers, masks, strict=True):
                layer.thin = _by(mask)
            yield
        finally:
            for layer in self.layers:
                layer.thin = None


def _by(mask):
    """Multiplies units by a mask, in the dtype of the units: bfloat16 or float16 with mixed precision."""
    return lambda units: (
        units * tf.repeat(tf.cast(mask, units.dtype), units.shape[0] // mask.shape[0], axis=0)
    )  # [B k, O]
