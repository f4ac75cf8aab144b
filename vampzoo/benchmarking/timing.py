"""Timing on a machine that others use too: interleaved rounds, quartiles, and the machine's own rates beside them."""

import itertools
import time

import numpy as np
import scipy.stats
import tensorflow as tf


def interleave(runs, rounds, progress=None):
    """Times each of several things in turn, again and again, so that all meet the same disturbances.

    Args:
        runs: {name: (function, number of steps that one call makes)}. A function is called once before the clock starts.
        rounds: how many timed calls of each.
        progress: called with the number of finished rounds, or None.

    Returns:
        {name: NumPy [rounds]}, seconds a step.
    """
    for function, _ in runs.values():
        function()
    seconds = {name: np.zeros(rounds) for name in runs}
    for i in range(rounds):
        for name, (function, num_steps) in runs.items():
            start = time.perf_counter()
            function()
            seconds[name][i] = (time.perf_counter() - start) / num_steps
        if progress is not None:
            progress(i + 1)
    return seconds


def quartiles(seconds):
    """{"q1", "median", "q3"} in milliseconds."""
    values = np.percentile(1e3 * np.asarray(seconds), [25, 50, 75])
    return dict(zip(("q1", "median", "q3"), map(float, values), strict=True))


def matrix_product(size=1500):
    """A float32 matrix product to time, and its number of operations."""
    a = tf.random.stateless_uniform([size, size], [0, 0])
    return lambda: (a @ a).numpy(), 2 * size**3


def memory_pass(num_values):
    """Additions into float32 arrays of the size of an optimiser's state, to time, and the bytes that they move.

    Four arrays, as Adam has (gradient, weight and two moments), so that caches help as much as they help Adam.
    """
    arrays = [tf.Variable(tf.zeros([num_values])) for _ in range(4)]

    def run():
        for target, source in itertools.pairwise(arrays):
            target.assign_add(source)  # reads both, writes one

    return run, 3 * 3 * 4 * num_values


def line(x, y):
    """Least-squares line y = intercept + slope x, in units of y.

    Returns:
        {"intercept", "slope", "r_squared"}.
    """
    fit = scipy.stats.linregress(x, y)
    return {"intercept": float(fit.intercept), "slope": float(fit.slope), "r_squared": float(fit.rvalue**2)}
