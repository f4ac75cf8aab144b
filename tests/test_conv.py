"""ConvHVAE: the gated convolution against its definition, the paper's sizes, and the model's contract."""

import numpy as np
import pytest
import tensorflow as tf

from vampzoo import models, networks, optimizers, random
from vampzoo.config import ModelConfig
from vampzoo.networks import layers

RNG = np.random.default_rng(0)


def convolve(x, kernel, bias, stride, padding):
    """Cross-correlation by its definition, in loops: x [B, H, W, I], kernel [k, k, I, O]."""
    size = kernel.shape[0]
    x = np.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    rows, columns = ((n - size) // stride + 1 for n in x.shape[1:3])
    y = np.empty((len(x), rows, columns, kernel.shape[-1]))
    for r in range(rows):
        for c in range(columns):
            patch = x[:, r * stride : r * stride + size, c * stride : c * stride + size]
            y[:, r, c] = np.einsum("bhwi,hwio->bo", patch, kernel) + bias
    return y


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"), [(8, 3, 2, 1), (7, 3, 2, 1), (6, 5, 1, 2), (6, 7, 1, 3)]
)
def test_gated_convolution_is_its_definition(size, kernel, stride, padding):
    x = RNG.normal(size=(2, size, size + 2, 3)).astype(np.float32)
    layer = layers.GatedConv2D(4, kernel, stride, padding, seed=1)
    y = layer(x)
    assert tuple(y.shape) == layer.compute_output_shape(x.shape)
    weights, bias = (w.numpy().astype(np.float64) for w in (layer.kernel, layer.bias))
    linear = convolve(x, weights[..., :4], bias[:4], stride, padding)
    gate = convolve(x, weights[..., 4:], bias[4:], stride, padding)
    np.testing.assert_allclose(y, linear / (1 + np.exp(-gate)), rtol=1e-4, atol=1e-5)


def test_weights_start_uniform_within_one_over_the_root_of_the_fan_in():
    layer = layers.GatedConv2D(32, 5, 1, 2, seed=1)
    layer.build((None, 8, 8, 16))
    limit = (5 * 5 * 16) ** -0.5
    kernel, bias = layer.kernel.numpy(), layer.bias.numpy()
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    assert abs(kernel.std() - limit / 3**0.5) < 0.02 * limit
    assert 0.8 * limit < np.abs(bias).max() <= limit


def test_the_optimiser_sees_the_halves_of_a_gate_as_two_tensors():
    layer = layers.GatedConv2D(4, 3, 1, 1, seed=1)
    layer.build((None, 6, 6, 2))
    gradient = RNG.normal(size=layer.kernel.shape).astype(np.float32)
    start = [w.numpy() for w in (layer.kernel, layer.bias)]
    optimizer = optimizers.NormalizedAdam(0.1, epsilon=1.0)  # a large epsilon makes the step depend on the norm
    optimizer.apply([tf.constant(gradient), tf.ones(8)], [layer.kernel, layer.bias])
    root = 0.001**0.5  # Adam's first step on g: rate * root * g / (root * |g| + epsilon)
    for half in (slice(4), slice(4, None)):
        g = gradient[..., half] / np.linalg.norm(gradient[..., half])
        step = start[0][..., half] - layer.kernel.numpy()[..., half]
        np.testing.assert_allclose(step, 0.1 * root * g / (root * np.abs(g) + 1.0), rtol=1e-2, atol=1e-6)
        bias_step = start[1][half] - layer.bias.numpy()[half]
        np.testing.assert_allclose(bias_step, 0.1 * root * 0.5 / (root * 0.5 + 1.0), rtol=1e-3)


@pytest.mark.parametrize(("prior", "count"), [("standard", 2_210_861), ("vampprior", 2_602_861)])
def test_number_of_parameters(prior, count):
    assert models.create(ModelConfig(model="conv_hvae", prior=prior)).count_params() == count


@pytest.mark.parametrize(("height", "width"), [(28, 28), (28, 20)])
def test_feature_sizes_are_the_papers(height, width):
    encoder = networks.conv_image_encoder((height, width, 1), 40, seed=0)
    maps = [tuple(layer.output.shape[1:3]) for layer in encoder.layers if isinstance(layer, layers.GatedConv2D)]
    full, half, quarter = (height, width), (height // 2, width // 2), (height // 4, width // 4)
    assert maps == [full, half, half, quarter, quarter]
    assert networks.conv_image_features((height, width, 1), seed=0).output.shape[-1] == 6 * height * width // 16


def test_a_size_that_does_not_fit_is_an_error_that_names_it(tiny_config):
    with pytest.raises(ValueError, match="divisible by 4, got 30x28"):
        models.create(tiny_config(model="conv_hvae", image_shape=(30, 28, 1)))


@pytest.mark.parametrize("likelihood", ["bernoulli", "discretized_logistic"])
def test_colour_images_with_each_likelihood(tiny_model, likelihood):
    model = tiny_model(model="conv_hvae", image_shape=(4, 8, 3), likelihood=likelihood)
    assert model.describe().startswith(f"conv_hvae, prior VampPrior, likelihood {likelihood}, ")
    x = RNG.integers(0, 2, (3, 4, 8, 3)).astype(np.float32)
    elbo = model.elbo(x)
    assert elbo.shape == (3,) and np.isfinite(elbo).all()
    assert model.sample(2).shape == (2, 4, 8, 3)
    assert model.reconstruct(x).shape == x.shape


def test_many_draws_for_one_image_equal_repeats_of_it(tiny_model):
    model = tiny_model(model="conv_hvae", image_shape=(8, 4, 1))
    x, noise = RNG.integers(0, 2, (1, 8, 4, 1)).astype(np.float32), model.draw_noise(5, random.key(1))
    one, repeated = model.elbo_terms(x, noise), model.elbo_terms(np.repeat(x, 5, 0), noise)
    np.testing.assert_allclose(one.log_weight, repeated.log_weight, rtol=1e-5)


def test_every_weight_gets_a_gradient(tiny_model):
    model = tiny_model(model="conv_hvae", image_shape=(8, 4, 1))
    x, noise = RNG.integers(0, 2, (6, 8, 4, 1)).astype(np.float32), model.draw_noise(6, random.key(1))
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(model.elbo_terms(x, noise, training=True).log_weight)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert np.abs(gradient).max() > 0, variable.path


@pytest.mark.parametrize("prior", ["standard", "vampprior"])
@pytest.mark.parametrize("model", ["conv_hvae", "pixel_hvae"])
def test_the_torch_twin_computes_our_loss(tiny_model, tiny_config, model, prior):
    torch = pytest.importorskip("torch")
    from vampzoo.benchmarking.peers import torch_mlp, torch_twins

    fields = {"model": model, "prior": prior, "image_shape": (8, 12, 1)}
    ours, twin = tiny_model(**fields), torch_twins.create(tiny_config(**fields))
    torch_mlp.copy_weights(twin, ours)
    x, noise = RNG.integers(0, 2, (5, 8, 12, 1)).astype(np.float32), ours.draw_noise(5, random.key(1))
    terms = ours.elbo_terms(x, noise, training=True)  # batch normalisation by the batch's statistics, as in the twin
    loss = twin.loss(torch.from_numpy(x).flatten(1), [torch.from_numpy(n.numpy()) for n in noise.values()], 0.3)
    assert loss.item() == pytest.approx(float(tf.reduce_mean(terms.distortion + 0.3 * terms.rate)), rel=1e-5)
