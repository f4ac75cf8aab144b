"""Means with their errors."""

import numpy as np


def mean_and_standard_error(values):
    """The mean of [N] values and its standard error, sd / sqrt(N); None for a single value, which has none."""
    values = np.asarray(values, np.float64)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
