"""Stateless randomness: equal in every mode of execution, and distributed as it should be."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from vampzoo import random

SEED = random.key(7)
PROBABILITIES = np.array([0.05, 0.5, 0.15, 0.3])

DRAWS = {
    "bits": lambda seed: random.bits([1000], seed),
    "uniform": lambda seed: random.uniform([10, 100], seed),
    "normal": lambda seed: random.normal([10, 100], seed),
    "bernoulli": lambda seed: random.bernoulli(tf.tile(tf.constant(PROBABILITIES, tf.float32), [100]), seed),
    "categorical": lambda seed: random.categorical(tf.math.log(PROBABILITIES), 1000, seed),
    "permutation": lambda seed: random.permutation(1000, seed),
    "fold_in": lambda seed: random.fold_in(seed, 3, 2**31 - 1),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_eager_graph_and_xla_agree(draw):
    eager = draw(SEED).numpy()
    np.testing.assert_array_equal(eager, tf.function(draw)(SEED).numpy())
    compiled = tf.function(draw, jit_compile=True)(SEED).numpy()
    np.testing.assert_allclose(eager, compiled, rtol=2e-6, atol=2e-6 if eager.dtype == np.float32 else 0)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_the_seed_decides(draw):
    np.testing.assert_array_equal(draw(SEED).numpy(), draw(SEED).numpy())
    assert (draw(SEED).numpy() != draw(random.key(8)).numpy()).any()


def test_uniform_and_normal_have_their_distributions():
    u, z = random.uniform([50_000], SEED).numpy(), random.normal([50_000], SEED).numpy()
    assert u.min() > 0 and u.max() < 1
    assert scipy.stats.kstest(u, "uniform").pvalue > 0.01
    assert scipy.stats.kstest(z, "norm").pvalue > 0.01
    assert np.isfinite(tf.math.ndtri(tf.constant([2.0**-24, 1 - 2.0**-24]))).all()  # the two outermost uniforms


def test_categorical_and_bernoulli_have_their_distributions():
    n = 50_000
    k = random.categorical(tf.math.log(PROBABILITIES), n, SEED).numpy()
    assert scipy.stats.chisquare(np.bincount(k, minlength=4), n * PROBABILITIES).pvalue > 0.01
    x = random.bernoulli(tf.fill([n], 0.3), SEED).numpy()
    assert set(x) == {0.0, 1.0}
    assert scipy.stats.binomtest(int(x.sum()), n, 0.3).pvalue > 0.01
    assert random.bernoulli(tf.constant([0.0, 1.0] * 1000), SEED).numpy().tolist() == [0.0, 1.0] * 1000  # exact


def test_categorical_never_draws_an_impossible_index():
    k = random.categorical(tf.constant([-np.inf, 0.0, -np.inf, 1.0, -np.inf]), 10_000, SEED).numpy()
    assert set(k) == {1, 3}


def test_permutation_is_uniform_over_orders():
    assert sorted(random.permutation(1000, SEED).numpy()) == list(range(1000))
    orders = [tuple(random.permutation(3, random.key(1, i)).numpy()) for i in range(600)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 6 and scipy.stats.chisquare(counts).pvalue > 0.01


def test_draws_under_folded_seeds_are_uncorrelated():
    z = np.stack([random.normal([5000], random.fold_in(SEED, i)).numpy() for i in range(6)])
    correlations = np.corrcoef(z) - np.eye(6)
    assert np.abs(correlations).max() < 4.5 / np.sqrt(5000)


@pytest.mark.parametrize("seed", [0, 1, -1, 2**31, 2**62 - 1, tf.constant(3), tf.constant([3, -4]), np.int64(2**40)])
def test_every_integer_makes_a_non_negative_seed(seed):
    key = random.key(seed)
    assert key.dtype == tf.int32 and key.shape == [2] and (key.numpy() >= 0).all()
    assert (random.fold_in(key, -5).numpy() >= 0).all()


def test_different_integers_make_different_seeds():
    seeds = [0, 1, 2**31, 2**31 + 1, 2**33]
    assert len({tuple(random.key(seed).numpy()) for seed in seeds}) == len(seeds)


@pytest.mark.parametrize("seed", [[1, 2, 3], [[1, 2]]])
def test_another_shape_is_no_seed(seed):
    with pytest.raises(ValueError, match="seed must be an integer or an int32 pair"):
        random.key(seed)
