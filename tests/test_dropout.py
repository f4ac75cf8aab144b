"""Dropout of hidden units: what a thinned layer computes, where its gradients go, and what is left whole."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from vampzoo import models, priors, random
from vampzoo.training.dropout import UnitDropout


@pytest.fixture
def thinned(tiny_model, binary_images):
    """A model, its dropout and masks of which the first leaves out the first three units of the first layer."""
    model = tiny_model()
    dropout = UnitDropout(model, 0.5, 0.5)
    masks = [np.full((len(binary_images), layer.units), 2.0, np.float32) for layer in dropout.layers]
    masks[0][:, :3] = 0.0
    return model, dropout, masks


def test_every_gated_layer_is_thinned(thinned):
    model, dropout, _ = thinned
    kernels = {id(layer.kernel) for layer in dropout.layers}
    gates = {id(w) for w in model.weights if getattr(w, "num_tensors", 1) == 2 and w.ndim == 2}
    assert kernels == gates and len(gates) == 10


@pytest.mark.parametrize("samples", [1, 3])
def test_each_image_has_its_mask_in_all_its_samples(tiny_model, samples):
    dropout = UnitDropout(tiny_model(), 0.5, 0.5)
    layer, masks = dropout.layers[0], dropout.draw(5, random.key(0))
    x = np.random.default_rng(0).normal(size=(5 * samples, layer.kernel.shape[0])).astype(np.float32)
    before = layer(x).numpy()
    with dropout.thinned(masks):
        np.testing.assert_allclose(layer(x), before * np.repeat(masks[0], samples, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(layer(x), before)


def test_gradients_reach_the_whole_weights_but_for_what_is_left_out(thinned, binary_images):
    model, dropout, masks = thinned
    noise = model.draw_noise(len(binary_images), random.key(0))
    kernel = dropout.layers[0].kernel
    with tf.GradientTape() as tape:
        prior_parameters = [tf.stop_gradient(t) for t in model.prior_parameters()]
        with dropout.thinned(masks):
            loss = tf.reduce_mean(model.elbo_terms(tf.constant(binary_images), noise, prior_parameters).log_weight)
    gradient = tape.gradient(loss, kernel.value)
    columns = np.abs(gradient).max(0)  # [2 O]
    units = dropout.layers[0].units
    assert np.all(columns[[0, 1, 2, units, units + 1, units + 2]] == 0) and np.all(columns[3:units] > 0)


def test_a_failed_step_leaves_the_layers_whole(thinned):
    _, dropout, masks = thinned
    with pytest.raises(ZeroDivisionError), dropout.thinned(masks):
        assert dropout.layers[0].thin is not None
        raise ZeroDivisionError
    assert all(layer.thin is None for layer in dropout.layers)


def test_masks_come_from_the_seed_and_keep_the_mean(tiny_model):
    dropout = UnitDropout(tiny_model(hidden_units=300), 0.25, 0.25)
    masks, again = dropout.draw(20, random.key(3)), dropout.draw(20, random.key(3))
    for mask, same in zip(masks, again, strict=True):
        np.testing.assert_array_equal(mask, same)
        assert mask.shape[0] == 20 and set(np.unique(mask)) == {np.float32(0), np.float32(1 / 0.75)}
        if mask.shape[1] == 300:
            assert np.mean(mask) == pytest.approx(1.0, abs=0.05)  # standard error 0.0075
    assert not np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0][0], masks[0][1])
    assert not np.array_equal(masks[0], dropout.draw(20, random.key(4))[0])


def test_no_dropout_draws_nothing(tiny_model):
    assert UnitDropout(tiny_model()).draw(4, random.key(0)) == []


@pytest.mark.parametrize("field", ["q_dropout", "p_dropout"])
def test_networks_without_gated_layers_have_nothing_to_leave_out(field):
    x, z = keras.Input((2, 3, 1)), keras.Input((2,))
    q_z = keras.Model(x, [keras.layers.Dense(2)(keras.layers.Flatten()(x)) for _ in range(2)])
    p_x = keras.Model(z, keras.layers.Reshape((2, 3, 1))(keras.layers.Dense(6)(z)))
    model = models.VAE(q_z=q_z, p_x=p_x, prior=priors.StandardNormal(2), likelihood="bernoulli")
    assert UnitDropout(model).layers == []
    with pytest.raises(ValueError, match=f"{field}=0.1 would leave nothing out.*GatedDense"):
        UnitDropout(model, **{field[0] + "_rate": 0.1})


@pytest.mark.parametrize(
    "name", ["vae", "hvae", "conv_hvae", "pixel_hvae", "deep_vae", "topdown_hvae", "pixel_topdown", "block_topdown"]
)
def test_variational_and_generative_networks_have_their_own_rates(tiny_model, name):
    decoder, _, rest = name.partition("_topdown")
    fields = {"model": name} if rest or decoder == name else {"model": "topdown_hvae", "decoder": decoder}
    model = tiny_model(**fields, prior="standard", image_shape=(4, 4, 1))
    q, p = UnitDropout(model, q_rate=0.5).layers, UnitDropout(model, p_rate=0.5).layers
    both = UnitDropout(model, 0.25, 0.5)
    assert q and p and len(both.layers) == len(q) + len(p)
    assert all(rate == (0.5 if layer in p else 0.25) for layer, rate in zip(both.layers, both.rates, strict=True))
    if name.startswith(("pixel", "block")):  # its pixels are drawn, which has no gradient
        return
    noise = model.draw_noise(2, random.key(0))
    with tf.GradientTape() as tape:
        images = model.decode(tf.ones([2, model.prior_layer.latent_size]), noise)
    gradients = tape.gradient(images, [layer.kernel.value for layer in both.layers])
    assert [layer in p for layer in both.layers] == [gradient is not None for gradient in gradients]
