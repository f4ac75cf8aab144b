"""What the networks compute in."""

import contextlib

import keras


@contextlib.contextmanager
def compute_dtype(mixed_precision):
    """A context in which new layers compute in bfloat16 or float16, with weights in float32.

    Args:
        mixed_precision: one of `vampzoo.config.MIXED_PRECISIONS`.
    """
    before = keras.config.dtype_policy()
    if mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{mixed_precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
