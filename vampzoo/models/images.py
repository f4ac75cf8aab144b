"""What a model takes for images, and the checks on them."""

import tensorflow as tf

from vampzoo.config import LIKELIHOODS
from vampzoo.errors import InvalidValue


def as_images(x, image_shape, likelihood="bernoulli"):
    """Checks x and returns it as float32 [B, H, W, C].

    Args:
        x: array or tensor [B, H, W, C] (the channel axis may be missing if C = 1), values in [0, 1].
        image_shape: (H, W, C), or another shape for a likelihood of a subclass's own.
        likelihood: one of `vampzoo.config.LIKELIHOODS`; of others the values are not known, and only NaN and infinities
            are refused.

    Raises:
        InvalidValue: for another shape, values out of range or NaN.
    """
    x = tf.convert_to_tensor(x)
    known = likelihood in LIKELIHOODS
    if known and (x.dtype.is_integer or x.dtype.is_bool):
        x = tf.cast(x, tf.float32)
        if tf.size(x) and tf.reduce_max(x) > 1:
            raise InvalidValue("integer images must be 0 or 1; scale grey values to [0, 1] first")
    x = tf.cast(x, tf.float32)
    if x.shape.rank == len(image_shape) and image_shape[-1] == 1:
        x = x[..., tf.newaxis]
    if x.shape.rank != len(image_shape) + 1 or tuple(x.shape[1:]) != tuple(image_shape):
        raise InvalidValue(f"images must have shape [B, {', '.join(map(str, image_shape))}], got {x.shape}")
    if known and not tf.reduce_all((x >= 0) & (x <= 1)):
        raise InvalidValue("images must lie in [0, 1] and hold no NaN")
    if not tf.reduce_all(tf.math.is_finite(x)):
        raise InvalidValue("the data hold NaN or infinities")
    return x


def some_images(x, image_shape, likelihood):
    """`as_images` of at least one.

    Raises:
        InvalidValue: as `as_images`, and for none.
    """
    x = as_images(x, image_shape, likelihood)
    if not len(x):
        raise InvalidValue("at least one image is needed, got none")
    return x


def as_data(x, image_shape, likelihood):
    """`some_images` of which the likelihood is one: a Bernoulli's are 0 and 1.

    Args:
        x, image_shape, likelihood: as for `as_images`.

    Raises:
        InvalidValue: as `some_images`, and for grey values under a Bernoulli.
    """
    x = some_images(x, image_shape, likelihood)
    if likelihood == "bernoulli" and not tf.reduce_all((x == 0) | (x == 1)):
        raise InvalidValue(
            "grey values have no likelihood under a Bernoulli: binarise them first, as x > 0.5 or at random with these "
            "probabilities"
        )
    return x
