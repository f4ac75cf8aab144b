"""A VampPrior whose encoder takes covariates beside x: components are q(z|u_k, c_k)."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from vampzoo import priors
from vampzoo.errors import InvalidValue

K, GENES, BATCHES, LABELS, M = 5, 7, 3, 2, 4


def encoder():
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((size,)) for size in (GENES, BATCHES, LABELS)]
    h = keras.layers.Dense(8, activation="tanh")(keras.layers.Concatenate()(inputs))
    return keras.Model(inputs, [keras.layers.Dense(M)(h), keras.layers.Dense(M)(h)])


def prior(**how):
    how = {"bounds": None, "mean": 0.0, "stddev": 1.0, "seed": 3, **how}
    return priors.VampPrior(K, (GENES,), covariates=(BATCHES, LABELS), **how)


def test_covariates_are_soft_one_hot_or_drawn():
    for learn in (True, False):
        cs = prior(learn_covariates=learn).pseudo_covariates
        assert [c.shape for c in cs] == [(K, BATCHES), (K, LABELS)]
        for c in cs:
            np.testing.assert_allclose(np.sum(c, axis=1), 1, rtol=1e-6)
            assert np.isin(c, (0, 1)).all() == (not learn) and len(np.unique(c, axis=0)) > 1
    assert [c.shape for c in prior().raw_covariates] == [c.shape for c in prior(learn_covariates=False).raw_covariates]


@pytest.mark.parametrize("learn", [True, False])
def test_log_prob_is_that_of_the_mixture(learn):
    p, q = prior(learn_covariates=learn), encoder()
    z = np.random.default_rng(0).normal(size=(6, M)).astype(np.float32)
    means, log_vars = q([p.pseudo_inputs, *p.pseudo_covariates])
    components = tfp.distributions.MultivariateNormalDiag(means, tf.exp(0.5 * log_vars))
    expected = tf.reduce_logsumexp(components.log_prob(z[:, np.newaxis]), axis=1) - np.log(K)
    np.testing.assert_allclose(p.distribution(q).log_prob(z), expected, rtol=1e-5)


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_gradients_reach_inputs_covariates_and_encoder(chunk_size):
    z = tf.ones([6, M])

    def gradients(chunk_size):
        p, q = prior(chunk_size=chunk_size), encoder()
        variables = [*p.trainable_variables, *q.trainable_variables]
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(p.distribution(q).log_prob(z))
        return tape.gradient(loss, [v.value for v in variables])

    actual = gradients(chunk_size)
    assert len(actual) == 3 + 6
    for a, b in zip(actual, gradients(None), strict=True):
        assert np.abs(a).max() > 0
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_drawn_covariates_are_not_trained_and_can_be_set():
    p = prior(learn_covariates=False)
    assert [v.name for v in p.trainable_variables] == ["pseudo_inputs"]
    c = np.eye(BATCHES)[[0, 1, 2, 2, 1, 0]], np.eye(LABELS)[[0, 1, 0, 1, 0, 1]]
    p.set_covariates(*c)
    np.testing.assert_array_equal(p.pseudo_covariates[0], c[0][:K])
    with pytest.raises(InvalidValue, match=r"must have the shapes \[\(5, 3\), \(5, 2\)\]"):
        p.set_covariates(c[1], c[0])
    with pytest.raises(InvalidValue, match="learn_covariates=False"):
        prior().set_covariates(*c)
    with pytest.raises(InvalidValue, match="positive numbers of categories"):
        priors.VampPrior(K, (GENES,), covariates=(0,))


@pytest.mark.parametrize("learn", [True, False])
def test_save_and_load(tmp_path, learn):
    @keras.saving.register_keras_serializable("tests")
    class Holder(keras.Model):
        def __init__(self, prior, encoder, **kwargs):
            super().__init__(**kwargs)
            self.prior, self.encoder = prior, encoder

        def call(self, z):
            return self.prior.distribution(self.encoder).log_prob(z)

        def get_config(self):
            parts = {"prior": self.prior, "encoder": self.encoder}
            return {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}

        @classmethod
        def from_config(cls, config):
            return cls(**{name: keras.saving.deserialize_keras_object(part) for name, part in config.items()})

    model = Holder(prior(learn_covariates=learn, weighted=True), encoder())
    for weight in model.prior.weights:
        weight.assign(weight + 0.1)
    z = np.ones((2, M), np.float32)
    expected = model(z)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(z), expected)
    assert loaded.prior.covariates == (BATCHES, LABELS) and loaded.prior.learn_covariates == learn


def test_keras_seed_decides_covariates_that_are_drawn():
    def drawn():
        keras.utils.set_random_seed(7)
        return np.concatenate(prior(learn_covariates=False, seed=None).pseudo_covariates, axis=1)

    np.testing.assert_array_equal(drawn(), drawn())


def test_examples_keep_their_own_covariates():
    x = np.zeros([20, GENES], np.float32)
    data = priors.VampPriorData(K, (GENES,), covariates=(BATCHES, LABELS), bounds=None)
    with pytest.raises(InvalidValue, match="rows in the same order"):
        data.start_at_examples(x, seed=0)
    with pytest.raises(InvalidValue, match="rows in the same order"):
        prior(learn_covariates=False).start_at_examples(x, seed=0, from_data=True)
    for bad in (7.0, -1.0, np.nan):
        with pytest.raises(InvalidValue, match="one-hot"):
            data.set_covariates(np.full([K, BATCHES], bad), np.eye(LABELS)[np.zeros(K, int)])
