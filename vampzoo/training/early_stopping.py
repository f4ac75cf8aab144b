"""When to stop: the look-ahead rule of the paper's code."""

import math

import tensorflow as tf


class EarlyStopping(tf.Module):
    """Stops after more than `patience` epochs without a strictly better validation loss, counted from the last stage on.

    The state lives in variables, so that a checkpoint holds it.

    Args:
        patience: epochs that may pass without improvement.
        first_epochs: epochs during which the counter is held at 0: warm-up, and stages before the last one.
    """

    def __init__(self, patience, first_epochs):
        super().__init__(name="early_stopping")
        self.patience = patience
        self.first_epochs = first_epochs
        self.best_loss = tf.Variable(math.inf, dtype=tf.float64, trainable=False)
        self.best_epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.counter = tf.Variable(0, dtype=tf.int64, trainable=False)

    def update(self, epoch, loss):
        """Takes the validation loss of `epoch` (from 1); returns whether it is the best so far."""
        improved = loss < self.best_loss.numpy()
        if improved:
            self.best_loss.assign(loss)
            self.best_epoch.assign(epoch)
        if improved or epoch < self.first_epochs:
            self.counter.assign(0)
        else:
            self.counter.assign_add(1)
        return improved

    @property
    def should_stop(self):
        """Whether more than `patience` epochs have passed without improvement."""
        return self.counter.numpy() > self.patience
