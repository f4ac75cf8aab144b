"""Dropout of hidden units: the same ones for all images of a step, pseudo-inputs included.

Srivastava et al. (2014) leave units out for each example by itself. Here a step trains one thinned network, so that
q(z|u_k) is the encoder's own posterior in every step, and a mask costs a draw a unit instead of one a unit and image.
"""

import contextlib

import keras
import tensorflow as tf

from vampzoo import random
from vampzoo.layers import GatedDense


class UnitDropout:
    """Leaves units of the gated dense layers out and scales the others by 1 / (1 - rate).

    Args:
        model: a Keras model.
        rate: probability with which a unit is left out; 0 for none.

    Raises:
        ValueError: if the model has layers whose statistics are updated by calling them.
    """

    def __init__(self, model, rate):
        self.rate = rate
        self.layers = []
        if rate:
            layers = list(model._flatten_layers())
            if any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers):
                raise ValueError(f"dropout={rate} does not go with batch normalisation, which {model.name} has; use 0")
            self.layers = [layer for layer in layers if isinstance(layer, GatedDense)]

    def draw(self, seed):
        """A mask [O] for each layer: 0, or 1 / (1 - rate)."""
        keep = 1.0 - self.rate
        return [
            random.bernoulli(tf.fill([layer.units], keep), random.fold_in(seed, i)) / keep
            for i, layer in enumerate(self.layers)
        ]

    def thinned(self, masks):
        """A context in which the layers compute with their masks; gradients reach the whole weights all the same."""
        if not self.layers:
            return contextlib.nullcontext()
        state = []
        for layer, mask in zip(self.layers, masks, strict=True):
            # The gate is (xA + a) * sigmoid(xB + b): a unit without its linear half is 0.
            halves = tf.concat([mask, tf.ones_like(mask)], 0)  # [2 O]
            state += [(weight, weight.value * halves) for weight in (layer.kernel, layer.bias)]
        return keras.StatelessScope(state_mapping=state)
