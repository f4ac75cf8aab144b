"""Splits that a file does not have."""

import numpy as np

from vampzoo.datasets.errors import DataError

SPLIT_SEED = 101


def split_off(splits, where):
    """Splits off train what is missing of validation and test: a tenth of train each, at random with `SPLIT_SEED`.

    Args:
      splits: dict with "train" and perhaps "validation" and "test": arrays [N, ...].
      where: what the error message calls the images.

    Returns:
      dict of "train", "validation" and "test".

    Raises:
      DataError: too few training images.
    """
    missing = [split for split in ("validation", "test") if split not in splits]
    train = splits["train"]
    if not missing:
        return splits
    if len(train) <= len(missing):
        raise DataError(f"{where} has {len(train)} training images, too few to split {' and '.join(missing)} off.")
    # RandomState: its streams never change between NumPy versions.
    order = np.random.RandomState(SPLIT_SEED).permutation(len(train))
    size = max(1, len(train) // 10)
    result = dict(splits)
    for split in missing:
        result[split], order = train[np.sort(order[:size])], order[size:]
    result["train"] = train[np.sort(order)]
    return result
