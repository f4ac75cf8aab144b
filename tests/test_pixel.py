"""PixelHVAE: causality, the likelihood as a product of conditionals, and sampling one pixel at a time."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from vampzoo import models, random
from vampzoo.config import ModelConfig
from vampzoo.networks import pixel_cnn

RNG = np.random.default_rng(0)
LIKELIHOODS = ["bernoulli", "discretized_logistic"]


@pytest.fixture
def pixel_model(tiny_model):
    """A function: fields of a ModelConfig -> a small PixelHVAE whose batch normalisation is not trivial."""

    def create(**fields):
        model = tiny_model(**{"model": "pixel_hvae", "image_shape": (4, 4, 1), **fields})
        for norm in model.p_x_network.norms:
            size = norm.gamma.shape
            norm.set_weights([RNG.uniform(0.5, 2, size), *RNG.normal(0, 0.3, (2, *size)), RNG.uniform(0.1, 1, size)])
        return model

    return create


def as_list(parameters):
    return list(parameters) if isinstance(parameters, list | tuple) else [parameters]


def images(n, shape, likelihood):
    x = RNG.random((n, *shape)) if likelihood != "bernoulli" else RNG.integers(0, 2, (n, *shape))
    return x.astype(np.float32)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_no_pixel_depends_on_itself_or_a_later_one_in_any_channel(pixel_model, likelihood):
    model = pixel_model(image_shape=(4, 4, 2), likelihood=likelihood)
    x = tf.constant(images(1, (4, 4, 2), likelihood))
    features = model.p_x_features([tf.random.normal([1, 3]), tf.random.normal([1, 2])])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        parameters = [tf.reshape(p, [16, 2]) for p in as_list(model.p_x_network([x, features]))]
    for p in parameters:
        jacobian = np.abs(tape.jacobian(p, x)).reshape(16, 2, 16, 2)  # [pixel, channel, input pixel, input channel]
        for i in range(16):
            assert jacobian[i, :, i:].max() == 0
            if i % 4:  # and each does depend on the one to its left, in every channel of both
                assert jacobian[i, :, i - 1].min() > 0


def test_the_features_of_training_are_those_of_training(pixel_model, monkeypatch):
    model, calls = pixel_model(), []
    features = type(model.p_x_features).__call__

    def record(network, inputs, **how):
        if network is model.p_x_features:
            calls.append(how.get("training", False))
        return features(network, inputs, **how)

    monkeypatch.setattr(type(model.p_x_features), "__call__", record)
    x = images(2, (4, 4, 1), "bernoulli")
    for training in (False, True):
        model.elbo_terms(x, model.draw_noise(2, random.key(0)), training=training)
    assert calls == [False, True]


def test_weights_in_double_precision_draw(pixel_model):
    keras.config.set_floatx("float64")
    try:
        sample = pixel_model().sample(2)
    finally:
        keras.config.set_floatx("float32")
    assert set(np.unique(sample)) <= {0.0, 1.0}


def test_every_pixel_depends_on_all_of_both_latents(pixel_model):
    model = pixel_model()
    z1, z2 = tf.random.normal([1, 3]), tf.random.normal([1, 2])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([z1, z2])
        logits = tf.reshape(model.p_x_network([tf.zeros([1, 4, 4, 1]), model.p_x_features([z1, z2])]), [16])
    for z in (z1, z2):
        assert np.abs(tape.jacobian(logits, z)).min() > 0


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_likelihood_is_the_product_of_the_sequential_conditionals(pixel_model, likelihood):
    model = pixel_model(likelihood=likelihood)
    x = images(2, (4, 4, 1), likelihood)
    z1, z2 = tf.random.normal([2, 3]), tf.random.normal([2, 2])
    total = np.zeros(2)
    for i in range(16):
        # Nothing of pixel i or later is known to the network, and a [B, 1, H, W] batch of one pixel is scored.
        known = np.where(np.arange(16).reshape(1, 4, 4, 1) < i, x, RNG.random(x.shape)).astype(np.float32)
        pixels = model.p_x(z1, z2, known).distribution
        total += pixels.log_prob(x).numpy().reshape(2, 16)[:, i]
    np.testing.assert_allclose(model.p_x(z1, z2, x).log_prob(x), total, rtol=1e-5)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_loop_over_pixels_computes_what_one_pass_does(pixel_model, likelihood):
    model = pixel_model(image_shape=(8, 4, 2), likelihood=likelihood)
    x = tf.constant(images(3, (8, 4, 2), likelihood))
    features = model.p_x_features([tf.random.normal([3, 3]), tf.random.normal([3, 2])])
    seen = []

    def draw(parameters, i):  # in eager mode the loop is Python's
        seen.append([p.numpy()[:, 0, 0] for p in as_list(parameters)])
        return tf.reshape(x, [3, 32, 1, 1, 2])[:, int(i)]

    np.testing.assert_array_equal(model.p_x_network.generate(features, draw), x)
    assert len(seen) == 32  # each pixel once
    for j, expected in enumerate(as_list(model.p_x_network([x, features]))):
        sequential = np.stack([step[j] for step in seen], axis=1).reshape(x.shape)
        np.testing.assert_allclose(sequential, expected, rtol=1e-4, atol=1e-5)


def test_samples_have_the_decoders_probabilities(pixel_model):
    model = pixel_model()
    head = model.p_x_network.heads[0]
    head.set_weights([np.zeros(head.kernel.shape), np.array([1.0])])  # every pixel: Bernoulli(sigmoid(1))
    drawn = model.sample(500, seed=3)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    expected = 1 / (1 + np.exp(-1.0))
    deviation = (expected * (1 - expected) / 500) ** 0.5
    assert np.abs(drawn.mean(axis=0) - expected).max() < 4.5 * deviation
    assert abs(drawn.mean() - expected) < 4.5 * deviation / 4


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_samples_depend_on_the_seed_alone(pixel_model, likelihood):
    model = pixel_model(likelihood=likelihood)
    latents = {"z1": tf.random.normal([5, 3]), "z2": tf.random.normal([5, 2])}
    compiled = model.decode_posterior(latents, seed=3).numpy()
    in_a_graph = tf.function(lambda: model.decode_posterior(latents, seed=3), autograph=False)().numpy()
    np.testing.assert_allclose(in_a_graph, compiled, atol=1e-6)
    assert (model.decode_posterior(latents, seed=4).numpy() != compiled).any()
    assert model.reconstruct(compiled, seed=1).shape == (5, 4, 4, 1)


def test_batch_normalisation_uses_the_batch_in_training_and_moving_statistics_afterwards(pixel_model):
    model = pixel_model()
    norm = model.p_x_network.norms[0]
    x, noise = images(6, (4, 4, 1), "bernoulli"), model.draw_noise(6, random.key(1))
    before = [norm.moving_mean.numpy(), norm.moving_variance.numpy()]
    model.elbo_terms(x, noise)
    np.testing.assert_array_equal(norm.moving_mean, before[0])

    z2 = model.q_z2(x).reparameterize(noise["z2"])[0]
    z1 = model.q_z1(x, z2).reparameterize(noise["z1"])[0]
    h = (model.p_x_features([z1, z2]) + model.p_x_network.convolutions[0](x)).numpy()
    model.elbo_terms(x, noise, training=True)
    np.testing.assert_allclose(norm.moving_mean, 0.9 * before[0] + 0.1 * h.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, 0.9 * before[1] + 0.1 * h.var((0, 1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("centre", "taps"), [(False, 4), (True, 5)])
def test_causal_convolution_is_a_masked_one(centre, taps):
    x = RNG.normal(size=(2, 5, 6, 3)).astype(np.float32)
    layer = pixel_cnn.CausalConv2D(4, centre, seed=1)
    y = layer(x)
    masked = np.zeros((9, 3, 4), np.float32)
    masked[:taps] = layer.kernel.numpy()
    np.testing.assert_allclose(y, tf.nn.conv2d(x, masked.reshape(3, 3, 3, 4), 1, "SAME"), rtol=1e-4, atol=1e-5)
    assert np.abs(layer.kernel.numpy()).max() <= (9 * 3) ** -0.5


@pytest.mark.parametrize(("prior", "papers_count"), [("standard", 1_385_821), ("vampprior", 1_777_821)])
def test_number_of_parameters_is_the_papers_less_the_masked_taps(prior, papers_count):
    model = models.create(ModelConfig(model="pixel_hvae", prior=prior))
    count = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    # The paper's code counts whole 3x3 kernels: 5 taps are masked on x in mask A, 4 in each of seven mask B layers.
    assert count + 5 * 1 * 64 + 7 * 4 * 64 * 64 == papers_count
    assert model.count_params() == count + 8 * 2 * 64  # moving statistics are weights, though not trained


def test_many_draws_for_one_image_equal_repeats_of_it(pixel_model):
    model = pixel_model()
    x, noise = images(1, (4, 4, 1), "bernoulli"), model.draw_noise(5, random.key(1))
    one, repeated = model.elbo_terms(x, noise), model.elbo_terms(np.repeat(x, 5, 0), noise)
    np.testing.assert_allclose(one.log_weight, repeated.log_weight, rtol=1e-5)
    assert np.isfinite(model.log_likelihood(x, num_samples=7, jit_compile=False)).all()


def test_weights_round_trip_with_the_moving_statistics(pixel_model, tiny_model, tmp_path):
    model = pixel_model()
    model.save_weights(tmp_path / "model.weights.h5")
    other = tiny_model(model="pixel_hvae", image_shape=(4, 4, 1), seed=5)
    other.load_weights(tmp_path / "model.weights.h5")
    x = images(3, (4, 4, 1), "bernoulli")
    np.testing.assert_array_equal(other.elbo(x), model.elbo(x))


def test_an_image_that_is_needed_and_missing_is_an_error(pixel_model):
    with pytest.raises(ValueError, match="needs x"):
        pixel_model().p_x(tf.zeros([1, 3]), tf.zeros([1, 2]))
