"""Callbacks for `fit`."""

import keras

from vampzoo import objectives
from vampzoo.errors import InvalidValue


class WarmUp(keras.callbacks.Callback):
    """Lets the weight of the rate rise to 1: beta = min(1, epoch / epochs) with epochs from 1 (section 5.1).

    Validation of vampzoo's models is at beta = 1 throughout, so that `val_elbo` is comparable between epochs; give
    `EarlyStopping` the end of the warm-up as `start_from_epoch`, and with `val_elbo` mode="max". After `fit` beta is 1
    again.

    Args:
        epochs: of the warm-up; 0: none.

    Raises:
        InvalidValue: for fewer than 0 epochs, or (in `fit`) a model without a variable `beta`.
    """

    def __init__(self, epochs):
        super().__init__()
        if epochs < 0:
            raise InvalidValue(f"epochs must be at least 0, got {epochs}")
        self.epochs = epochs

    def _assign(self, value):
        if not hasattr(getattr(self.model, "beta", None), "assign"):
            raise InvalidValue(
                "WarmUp needs a model with a variable `beta` that weighs the rate: one of vampzoo's, or your own with "
                "self.beta = keras.Variable(1.0, trainable=False)"
            )
        self.model.beta.assign(value)

    def on_epoch_begin(self, epoch, logs=None):
        """Sets beta for the epoch, which Keras counts from 0."""
        self._assign(objectives.beta(epoch + 1, self.epochs))

    def on_train_end(self, logs=None):
        """Sets beta to 1."""
        self._assign(1.0)
