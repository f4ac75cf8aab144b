"""Adam on normalised gradients, with which the paper trains (section 5.1, its reference [43]; the form is its code's).

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
    norms = tf.sqrt(tf.reduce_sum(tf.reshape(squares, [num_tensors, -1]), axis=1, keepdims=True))  # [num_tensors, 1]
    parts = tf.reshape(matrix, [-1, num_tensors, matrix.shape[-1] // num_tensors])  # [I, num_tensors, O of each]
    return tf.reshape(parts * (1.0 / (norms + 1e-7)), shape)


@keras.saving.register_keras_serializable("vampzoo")
class NormalizedAdam(keras.optimizers.Adam):
    """Keras' Adam with each tensor's gradient normalised first.

    A variable that holds both halves of a gate counts as two tensors (`vampzoo.networks.layers.split_halves`). Normalisation
    comes after the gradients of all replicas are summed, where `clipnorm` and its kin would come before.

    Attributes:
        compile_replicas: whether each of several replicas updates its copy of the weights in one call that XLA compiles.
            Else that takes some forty small operations for each weight, started one by one, on every device.
    """

    compile_replicas = False

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

    def _backend_update_step(
        self, grads, trainable_variables, learning_rate
    ):  # Keras' place for what distribution needs
        context = tf.distribute.get_replica_context()
        if not self.compile_replicas or context is None or context.num_replicas_in_sync == 1:
            return super()._backend_update_step(grads, trainable_variables, learning_rate)
        pairs = [(g, v) for g, v in zip(grads, trainable_variables, strict=True) if g is not None]
        summed = context.all_reduce(tf.distribute.ReduceOp.SUM, [g for g, _ in pairs])

        @tf.function(jit_compile=True, autograph=False)
        def update(gradients, learning_rate):
            for gradient, (_, variable) in zip(gradients, pairs, strict=True):
                self.update_step(gradient, getattr(variable, "value", variable), learning_rate)

        update(list(summed), tf.convert_to_tensor(learning_rate))


def sharing_overflow(optimizer, gradients):
    """This replica's gradients, for `optimizer.apply`: where one of float16 overflowed in any replica, infinite in all.

    Keras' scaling of the loss asks the first replica alone whether to leave a step out, and the sum over the replicas would
    then bring what another one overflowed to into all weights.

    Args:
        optimizer: the one that will apply them.
        gradients: a list of tensors, or None where a weight has no gradient.
    """
    context = tf.distribute.get_replica_context()
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or context.num_replicas_in_sync == 1:
        return gradients
    finite = tf.cast(optimizer.check_finite(gradients), tf.float32)
    replicas = context.all_reduce(tf.distribute.ReduceOp.SUM, finite)  # with finite gradients
    infinite = replicas < context.num_replicas_in_sync
    return [g if g is None else tf.where(infinite, tf.cast(float("inf"), g.dtype), g) for g in gradients]


def create(config, variables, steps_per_epoch):
    """The Keras optimiser that a `TrainingConfig` describes; for float16 within one that scales the loss.

    Args:
        config: a `vampzoo.config.TrainingConfig`.
        variables: the weights that it will update.
        steps_per_epoch: for the decay of the learning rate.
    """
    cls = NormalizedAdam if config.optimizer == "normalized_adam" else keras.optimizers.Adam
    learning_rate = config.learning_rate
    if config.learning_rate_decay_epochs:
        learning_rate = keras.optimizers.schedules.CosineDecay(
            learning_rate, config.learning_rate_decay_epochs * steps_per_epoch
        )
    optimizer = cls(
        learning_rate=learning_rate,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        weight_decay=config.weight_decay or None,
        use_ema=config.ema_momentum > 0,
        ema_momentum=config.ema_momentum or 0.99,
        ema_overwrite_frequency=None,
    )
    if config.weight_decay:
        # Neither biases nor what belongs to the prior. By variable: Keras' `var_names` are searched for in whole paths.
        optimizer.exclude_from_weight_decay(var_list=[v for v in variables if "kernel" not in v.name])
    return keras.optimizers.LossScaleOptimizer(optimizer) if config.mixed_precision == "float16" else optimizer
