"""Adam on normalised gradients: what the paper's published code trains with.

Each tensor's gradient is divided by its own norm, g <- g / (||g||_2 + 1e-7), then Adam as usual. The step size of a
tensor so depends on the direction of its gradient alone.
"""

import keras
import tensorflow as tf


def normalize(gradient, num_tensors=1):
    """g / (||g|| + 1e-7), for each of `num_tensors` equal parts of the last axis by itself."""
    shape = gradient.shape
    rows = [shape[0], -1] if shape.rank > 1 and num_tensors == 1 else [-1, shape[-1] if shape.rank else 1]
    matrix = tf.reshape(gradient, rows)  # [I, O]
    # Sums over columns first: XLA vectorises those, where a sum over everything at once runs on one lane.
    squares = tf.reduce_sum(tf.square(matrix), axis=0)  # [O]
    norms = tf.sqrt(tf.reduce_sum(tf.reshape(squares, [num_tensors, -1]), axis=1))  # [num_tensors]
    scales = tf.repeat(1.0 / (norms + 1e-7), matrix.shape[-1] // num_tensors)  # [O]
    return tf.reshape(matrix * scales, shape)


@keras.saving.register_keras_serializable("vampzoo")
class NormalizedAdam(keras.optimizers.Adam):
    """Keras' Adam with each tensor's gradient normalised first.

    A variable that holds both halves of a gate counts as two tensors (`vampzoo.networks.layers.split_halves`). Normalisation
    comes after the gradients of all replicas are summed, where `clipnorm` and its kin would come before.
    """

    def __init__(self, learning_rate=5e-4, beta_1=0.9, beta_2=0.999, epsilon=1e-8, name="normalized_adam", **kwargs):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, name=name, **kwargs)

    def build(self, variables):
        super().build(variables)
        # Read here, since `update_step` gets the TensorFlow variables underneath, which do not carry the mark.
        self._num_tensors = tuple(getattr(variable, "num_tensors", 1) for variable in variables)

    def update_step(self, gradient, variable, learning_rate):
        gradient = tf.convert_to_tensor(gradient)  # of an embedding it is sparse
        num_tensors = self._num_tensors[self._get_variable_index(variable)]
        super().update_step(normalize(gradient, num_tensors), variable, learning_rate)
