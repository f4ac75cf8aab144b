"""What a model takes for images, and the checks on them."""

import tensorflow as tf

from vampzoo.errors import InvalidValue


def as_images(x, image_shape):
    """Checks x and returns it as float32 [B, H, W, C].

    Args:
        x: array or tensor [B, H, W, C] (the channel axis may be missing if C = 1), values in [0, 1].
        image_shape: (H, W, C).

    Raises:
        InvalidValue: for another shape, values out of range or NaN.
    """
    x = tf.convert_to_tensor(x)
    if x.dtype.is_integer or x.dtype.is_bool:
        x = tf.cast(x, tf.float32)
        if tf.size(x) and tf.reduce_max(x) > 1:
            raise InvalidValue("integer images must be 0 or 1; scale grey values to [0, 1] first")
    x = tf.cast(x, tf.float32)
    if x.shape.rank == 3 and image_shape[-1] == 1:
        x = x[..., tf.newaxis]
    if x.shape.rank != 4 or tuple(x.shape[1:]) != tuple(image_shape):
        raise InvalidValue(f"images must have shape [B, {', '.join(map(str, image_shape))}], got {x.shape}")
    if not tf.reduce_all((x >= 0) & (x <= 1)):
        raise InvalidValue("images must lie in [0, 1] and hold no NaN")
    return x
