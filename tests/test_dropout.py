"""Dropout of hidden units: what a thinned layer computes, where its gradients go, and what it refuses."""

import numpy as np
import pytest
import tensorflow as tf

from vampzoo import random
from vampzoo.training.dropout import UnitDropout


@pytest.fixture
def thinned(tiny_model):
    """A model, its dropout and masks of which the first leaves out the first three units of the first layer."""
    model = tiny_model()
    dropout = UnitDropout(model, 0.5)
    masks = [np.full(layer.units, 2.0, np.float32) for layer in dropout.layers]
    masks[0][:3] = 0.0
    return model, dropout, masks


def test_every_gated_layer_is_thinned(thinned):
    model, dropout, _ = thinned
    kernels = {id(layer.kernel) for layer in dropout.layers}
    gates = {id(w) for w in model.weights if getattr(w, "num_tensors", 1) == 2 and w.ndim == 2}
    assert kernels == gates and len(gates) == 10


def test_left_out_units_are_zero_and_others_scaled(thinned):
    _, dropout, masks = thinned
    layer = dropout.layers[0]
    x = np.random.default_rng(0).normal(size=(5, layer.kernel.shape[0])).astype(np.float32)
    before = layer(x).numpy()
    with dropout.thinned(masks):
        np.testing.assert_allclose(layer(x).numpy(), before * masks[0], rtol=1e-5)
    np.testing.assert_array_equal(layer(x).numpy(), before)


def test_gradients_reach_the_whole_weights_but_for_what_is_left_out(thinned, binary_images):
    model, dropout, masks = thinned
    noise = model.draw_noise(len(binary_images), random.key(0))
    kernel = dropout.layers[0].kernel
    with tf.GradientTape() as tape, dropout.thinned(masks):
        loss = tf.reduce_mean(model.elbo_terms(tf.constant(binary_images), noise, training=True).log_weight)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert all(g is not None for g in gradients)
    gradient = next(g for v, g in zip(model.trainable_variables, gradients, strict=True) if v is kernel)
    columns = np.abs(gradient).max(0)  # [2 O]
    units = dropout.layers[0].units
    assert np.all(columns[[0, 1, 2, units, units + 1, units + 2]] == 0) and np.all(columns[3:units] > 0)


def test_masks_come_from_the_seed_and_keep_the_mean(tiny_model):
    dropout = UnitDropout(tiny_model(hidden_units=2000), 0.25)
    masks, again = dropout.draw(random.key(3)), dropout.draw(random.key(3))
    for mask, same in zip(masks, again, strict=True):
        np.testing.assert_array_equal(mask, same)
        assert set(np.unique(mask)) == {np.float32(0), np.float32(1 / 0.75)}
        assert np.mean(mask) == pytest.approx(1.0, abs=0.06)  # standard error 0.013
    assert not np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0], dropout.draw(random.key(4))[0])


def test_batch_normalisation_is_refused(tiny_model):
    model = tiny_model(model="pixel_hvae", image_shape=(4, 4, 1))
    with pytest.raises(ValueError, match=r"dropout=0\.1 does not go with batch normalisation, which pixel_hvae has"):
        UnitDropout(model, 0.1)
    assert UnitDropout(model, 0.0).draw(random.key(0)) == []
