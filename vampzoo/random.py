"""Stateless randomness: a seed goes in, the same numbers come out in eager, graph and XLA mode.

TensorFlow's stateless floats differ between the plain and the XLA kernels, its full-range integers do not, provided
that the seed words are not negative. So every draw here starts from integer bits (integers agree exactly, normals to
about 1e-6). A seed is an int32 tensor [2]; `key` makes one from Python integers and `fold_in` derives further ones.
"""

import tensorflow as tf

_NON_NEGATIVE = 0x7FFFFFFF
# Draws want their seed in the memory of the host. On a GPU the few operations that derive one would each fetch it from
# there, and so wait in every step for all that the GPU still has to do.
SEEDS = "CPU:0"


def key(seed, *data):
    """Returns the int32 [2] seed for a Python or tensor integer, with `data` folded in.

    Args:
        seed: an integer, or an int32 seed [2] (which passes through).
        *data: integers, as for `fold_in`.

    Raises:
        ValueError: if `seed` is neither a scalar nor a pair.
    """
    if isinstance(seed, int):
        seed = [seed & _NON_NEGATIVE, (seed >> 31) & _NON_NEGATIVE]
    with tf.device(SEEDS):
        seed = tf.cast(tf.convert_to_tensor(seed), tf.int32)
        if seed.shape.rank == 0:
            seed = tf.stack([seed, 0])
    if seed.shape.rank != 1 or seed.shape[0] not in (None, 2):
        raise ValueError(f"seed must be an integer or an int32 pair, got shape {seed.shape}")
    return fold_in(seed, *data)


def fold_in(seed, *data):
    """Derives a new seed [2] from `seed` [2] and each integer of `data` in turn."""
    with tf.device(SEEDS):
        for item in data:
            seed = tf.random.fold_in(seed & _NON_NEGATIVE, tf.cast(item, tf.int32))
        return seed & _NON_NEGATIVE


def bits(shape, seed):
    """Uniform uint32 bits of the given shape."""
    with tf.device(SEEDS):
        seed = seed & _NON_NEGATIVE
    return tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint32)


def uniform(shape, seed):
    """Uniform float32 in the open interval (0, 1): the centres of 2^23 equal cells."""
    return (
        tf.cast(tf.bitwise.right_shift(bits(shape, seed), tf.constant(9, tf.uint32)), tf.float32) * 2.0**-23 + 2.0**-24
    )


def normal(shape, seed):
    """Standard normal float32, by the inverse of the normal distribution function."""
    return tf.math.ndtri(uniform(shape, seed))


def bernoulli(probabilities, seed):
    """Draws 0.0 or 1.0 with the given probabilities, in their shape."""
    return tf.cast(uniform(tf.shape(probabilities), seed) < tf.cast(probabilities, tf.float32), tf.float32)


def categorical(logits, n, seed):
    """Draws `n` int32 indices with probabilities softmax(logits), logits [K], by inversion of the cumulative sum."""
    cumulative = tf.cumsum(tf.nn.softmax(tf.cast(logits, tf.float64)))  # [K]
    drawn = tf.searchsorted(cumulative, tf.cast(uniform([n], seed), tf.float64) * cumulative[-1], side="right")  # [n]
    return tf.minimum(drawn, tf.shape(logits)[0] - 1)


def permutation(n, seed):
    """A random order of 0 ... n - 1, int32 [n]."""
    return tf.argsort(bits([n], seed), stable=True)
