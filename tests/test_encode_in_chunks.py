"""Micro-batching of the pseudo-inputs: the same prior and the same gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from vampzoo import priors, random

RNG = np.random.default_rng(0)


def value_and_gradients(model, x, noise):
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(model.elbo_terms(x, noise, training=True).log_weight)
    return loss, tape.gradient(loss, [v.value for v in model.trainable_variables])


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("chunk_size", [2, 4])  # 4 does not divide K = 6
def test_gradients_are_the_same(tiny_model, binary_images, chunk_size, jit_compile):
    model = tiny_model()
    noise = model.draw_noise(len(binary_images), random.key(1))
    loss, gradients = value_and_gradients(model, binary_images, noise)
    model.prior_layer.chunk_size = chunk_size
    step = tf.function(value_and_gradients, jit_compile=jit_compile, autograph=False)
    chunked_loss, chunked = step(model, tf.constant(binary_images), noise)
    np.testing.assert_allclose(chunked_loss, loss, rtol=1e-6)
    for a, b in zip(chunked, gradients, strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


def test_gradients_are_the_same_through_convolutions(tiny_model):
    model = tiny_model(model="conv_hvae", image_shape=(4, 8, 1))
    x, noise = RNG.integers(0, 2, (3, 4, 8, 1)).astype(np.float32), model.draw_noise(3, random.key(1))
    _, gradients = value_and_gradients(model, x, noise)
    model.prior_layer.chunk_size = 4
    for a, b in zip(value_and_gradients(model, x, noise)[1], gradients, strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


@pytest.mark.parametrize("chunk_size", [2, 3])
def test_an_encoder_without_a_derivative_at_zero(chunk_size):
    """Gene counts, say, are divided by their sum: what fills up the last of several chunks must not be all zeros."""
    x = keras.Input([4])
    h = keras.layers.Lambda(lambda t: t / tf.reduce_sum(t, axis=-1, keepdims=True))(x)
    encoder = keras.Model(x, [keras.layers.Dense(2)(h), keras.layers.Dense(2)(h)])
    prior = priors.VampPrior(5, (4,), seed=0)
    z = RNG.normal(size=[3, 2]).astype(np.float32)

    def gradients(size):
        prior.chunk_size = size
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(prior.distribution(encoder).log_prob(z))
        return tape.gradient(loss, [v.value for v in prior.trainable_variables + encoder.trainable_variables])

    for a, b in zip(gradients(chunk_size), gradients(None), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", [keras.layers.Dropout(0.5), keras.layers.BatchNormalization()])
def test_chunks_are_encoded_at_inference(layer):
    """Whatever the model around does: the backward pass must draw what the forward pass drew, and a chunk is not all."""

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            x = keras.Input((4,))
            h = layer(x)
            self.encoder = keras.Model(x, [keras.layers.Dense(2)(h), keras.layers.Dense(2)(h)])
            self.prior = priors.VampPrior(6, (4,), chunk_size=2, bounds=None, mean=3.0, stddev=2.0, seed=1)

        def call(self, x, training=None):
            return self.prior.parameters(self.encoder)[1]

    model = Model()
    means = model(tf.zeros([1, 4]), training=True)
    at_inference = model.encoder(model.prior.pseudo_inputs, training=False)[0]
    np.testing.assert_allclose(means, at_inference, rtol=1e-5, atol=1e-6)


def test_chunks_of_nothing_are_refused(tiny_model):
    model = tiny_model()
    model.prior_layer.chunk_size = 0
    with pytest.raises(ValueError, match="chunk_size must be at least 1, or None"):
        model.prior()


def test_the_encoder_sees_one_chunk_at_a_time(tiny_model, binary_images, monkeypatch):
    model, rows_seen = tiny_model(), []
    model.prior_layer.chunk_size = 4
    encoder = model.q_z2_network
    stateless_call = encoder.stateless_call

    def recorded(weights, state, rows, training):
        rows_seen.append(rows.shape[0])
        return stateless_call(weights, state, rows, training=training)

    monkeypatch.setattr(encoder, "stateless_call", recorded)
    value_and_gradients(model, binary_images, model.draw_noise(len(binary_images), random.key(1)))
    assert rows_seen == [4, 4, 4, 4]  # two chunks forward and two backward
