"""The networks: shapes, clips, initial weights, and the parameter counts of the paper's code."""

import keras
import numpy as np
import pytest

from vampzoo import models, networks
from vampzoo.config import ModelConfig
from vampzoo.errors import InvalidValue

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("model", "prior", "count"),
    [
        ("vae", "standard", 1_116_864),
        ("vae", "vampprior", 1_508_864),
        ("hvae", "standard", 2_431_024),
        ("hvae", "vampprior", 2_823_024),
    ],
)
def test_number_of_parameters(model, prior, count):
    created = models.create(ModelConfig(model=model, prior=prior))
    assert created.count_params() == count
    assert sum(np.prod(v.shape) for v in created.trainable_variables) == count


def test_log_variances_are_clipped_hard():
    encoder = networks.mlp_image_encoder((4, 5, 1), 8, 2, seed=0, name="q_z")
    mean, log_var = encoder(1e4 * RNG.normal(size=(50, 4, 5, 1)).astype(np.float32))
    assert mean.shape == log_var.shape == (50, 2)
    assert np.min(log_var) == -6 and np.max(log_var) == 2
    assert np.abs(mean).max() > 100  # means are affine


@pytest.mark.parametrize("likelihood", ["bernoulli", "discretized_logistic"])
def test_decoders_give_the_parameters_of_the_likelihood(likelihood):
    z1, z2 = np.ones((5, 3), np.float32), np.ones((5, 2), np.float32)
    for output in (
        networks.mlp_decoder(2, (4, 5, 1), likelihood, 8, seed=0)(z2),
        networks.mlp_joint_decoder(3, 2, (4, 5, 1), likelihood, 8, seed=0)([z1, z2]),
    ):
        shapes = [tuple(o.shape) for o in (output if isinstance(output, list | tuple) else [output])]
        assert shapes == [(5, 4, 5, 1)] * (1 if likelihood == "bernoulli" else 2)


@pytest.mark.parametrize("likelihood", ["bernoulli", "discretized_logistic"])
def test_a_place_of_the_maps_is_a_patch_of_the_image(likelihood):
    """Moving the maps by a place moves the image by a patch, as far from the border as the convolutions reach."""
    decoder = networks.conv_state_decoder(3, (48, 48, 2), likelihood, 5, seed=0)
    start = next(layer for layer in decoder.layers if layer.output.shape[1:] == (12, 12, 5))
    rest = keras.Model(start.output, decoder.outputs)
    maps = np.zeros((2, 12, 12, 5), np.float32)
    maps[0, 5, 5] = RNG.normal(size=5)
    maps[1, 6, 4] = maps[0, 5, 5]  # down and to the left
    images, empty = (output if isinstance(output, list) else [output] for output in (rest(maps), rest(0 * maps)))
    assert len(images) == (1 if likelihood == "bernoulli" else 2)
    for image, without in zip(images, empty, strict=True):
        assert image.shape == (2, 48, 48, 2)
        away = (image - without).numpy()
        inside = slice(16, 32), slice(16, 32)  # what the border's zeros do not reach
        moved = np.roll(away[1], (-4, 4), axis=(0, 1))
        np.testing.assert_allclose(away[0][inside], moved[inside], rtol=1e-4, atol=1e-5)
        touched = np.abs(away[0]).max(axis=-1) > 1e-7
        assert touched.any(axis=1).nonzero()[0].tolist() == list(range(8, 36))  # three convolutions reach three places


def test_a_convolutional_decoder_starts_at_the_scale_of_a_dense_one():
    state = RNG.normal(size=(500, 40)).astype(np.float32)
    conv = networks.conv_state_decoder(40, (28, 28, 1), "bernoulli", 32, seed=0)(state).numpy()
    dense = networks.state_decoder(40, (28, 28, 1), "bernoulli", [300], seed=0)(state).numpy()
    assert 0.3 < conv.std() / dense.std() < 10


def test_a_convolutional_decoder_refuses_images_that_patches_do_not_divide():
    with pytest.raises(InvalidValue, match=r"must be divisible by 4, got 28x30"):
        networks.conv_state_decoder(3, (28, 30, 1), "bernoulli", 5, seed=0)


def test_networks_take_one_image_with_many_latents():
    joint = networks.joint_encoder(7, 2, 8, 8, 3, seed=0)
    features, z2 = RNG.normal(size=(1, 7)).astype(np.float32), RNG.normal(size=(6, 2)).astype(np.float32)
    for one, repeated in zip(joint([features, z2]), joint([np.repeat(features, 6, 0), z2]), strict=True):
        np.testing.assert_allclose(one, repeated, rtol=1e-5, atol=1e-6)


def test_the_seed_alone_decides_the_initial_weights(tiny_model):
    first, again, other = tiny_model(seed=3), tiny_model(seed=3), tiny_model(seed=4)
    for a, b, c in zip(first.weights, again.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a.numpy() != c.numpy()).any()


def test_no_two_weights_start_alike(tiny_model):
    starts = [v.numpy().ravel() for v in tiny_model(prior="mog").weights if v.path != "prior/log_vars"]
    sorted_starts = [tuple(np.sort(np.round(v / np.abs(v).max(), 5))) for v in starts]  # up to scale
    assert len(set(sorted_starts)) == len(sorted_starts)
