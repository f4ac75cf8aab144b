"""What numbers are computed in where a likelihood is measured."""

import contextlib

import tensorflow as tf


@contextlib.contextmanager
def float32_products():
    """A context in which products of matrices have float32's 24 bits, on GPUs too, where TensorFlow's default is TF32's 11.

    Those move the log-likelihood of a single image by some hundredths of a nat.
    """
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
