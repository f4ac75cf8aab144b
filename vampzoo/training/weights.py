"""Weights that are kept beside a model's own: those of its best epoch, and its own while it wears others."""

import contextlib

import tensorflow as tf


class BestWeights(tf.Module):
    """A copy of all of a model's weights, in variables, so that a checkpoint holds it.

    Args:
        model: a Keras model, made in the scope of the strategy in which this is made.
    """

    def __init__(self, model):
        super().__init__(name="best")
        self.values = [tf.Variable(w.value, trainable=False) for w in model.weights]

    def copy_from(self, model):
        """Keeps the weights that the model has now."""
        for best, weight in zip(self.values, model.weights, strict=True):
            best.assign(weight.value)

    def copy_to(self, model):
        """Gives the kept weights to a model of the same configuration."""
        for weight, best in zip(model.weights, self.values, strict=True):
            weight.assign(best)


@contextlib.contextmanager
def own_weights_kept(model):
    """A context after which the model has the weights again that it has now."""
    current = [tf.identity(w.value) for w in model.weights]
    try:
        yield
    finally:
        for weight, value in zip(model.weights, current, strict=True):
            weight.assign(value)
