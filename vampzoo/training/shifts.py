"""Training images moved by whole pixels: more positions than the data have, and grey values and binary pixels as they are.

For data of few images. It is no part of the paper, and no longer blind to the order of pixels, which dense networks are.
"""

import tensorflow as tf

from vampzoo import random


def shifted(images, pixels, seed):
    """Moves each image down and right by independent integers, uniform from -pixels to pixels.

    What moves in repeats the edge, which is right for any background; what moves out is lost.

    Args:
        images: [B, H, W, C].
        pixels: the largest move r, an integer, or a scalar int32 tensor (0: images stay as they are).
        seed: int32 [2].

    Returns:
        [B, H, W, C], in the dtype of the images.
    """
    images = tf.convert_to_tensor(images)
    count, height, width, _ = images.shape
    pixels = tf.convert_to_tensor(pixels, tf.int32)
    choices = 2 * pixels + 1
    drawn = tf.cast(random.uniform([count, 2], seed) * tf.cast(choices, tf.float32), tf.int32)  # [B, 2] in 0 ... 2 r
    moves = pixels - tf.minimum(drawn, choices - 1)  # where a pixel comes from, beside where it goes to
    rows = tf.clip_by_value(tf.range(height) + moves[:, :1], 0, height - 1)  # [B, H]
    columns = tf.clip_by_value(tf.range(width) + moves[:, 1:], 0, width - 1)  # [B, W]
    images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)
