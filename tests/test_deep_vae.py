"""The two-level VAE of Burda et al.: its factors, its bounds, and the priors that it takes."""

import numpy as np
import pytest
import tensorflow as tf

from vampzoo import objectives, random
from vampzoo.config import ModelConfig


@pytest.fixture
def model(tiny_model):
    return tiny_model(model="deep_vae", prior="standard")


def test_terms_are_the_factors(model, binary_images):
    noise = model.draw_noise(7, random.key(1))
    terms = model.elbo_terms(binary_images, noise)
    q_z1 = model.q_z1(binary_images)
    z1 = q_z1.loc + tf.exp(0.5 * q_z1.log_var) * noise["z1"]
    q_z2 = model.q_z2(z1)
    z2 = q_z2.loc + tf.exp(0.5 * q_z2.log_var) * noise["z2"]
    np.testing.assert_allclose(terms.distortion, -model.p_x(z1).log_prob(binary_images), rtol=1e-5)
    np.testing.assert_allclose(terms.rates["z1"], q_z1.log_prob(z1) - model.p_z1(z2).log_prob(z1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(terms.rates["z2"], q_z2.log_prob(z2) - model.p_z2().log_prob(z2), rtol=1e-4, atol=1e-4)


def test_z2_hears_of_x_through_z1_alone(model, binary_images):
    z1 = tf.zeros([2, 3])
    with tf.GradientTape() as tape:
        images = tf.constant(binary_images[:2])
        tape.watch(images)
        z2 = model.q_z2(z1).mean()
    assert tape.gradient(z2, images) is None


def test_bound_grows_with_samples_and_is_above_the_elbo(model, binary_images):
    elbo = np.mean([model.elbo(binary_images, seed=s) for s in range(100)])
    bounds = [np.mean(model.log_likelihood(binary_images, num_samples=s, jit_compile=False)) for s in (10, 3000)]
    assert elbo < bounds[0] < bounds[1]


def test_samples_reconstructs_and_encodes(model, binary_images):
    assert model.sample(5, seed=1).shape == (5, 4, 5, 1)
    assert model.reconstruct(binary_images).shape == (7, 4, 5, 1)
    assert {name: mean.shape for name, (mean, _) in model.encode(binary_images).items()} == {"z2": (7, 2), "z1": (7, 3)}
    np.testing.assert_array_equal(model.sample(5, seed=1), model.sample(5, seed=1))


def test_mixture_of_gaussians_is_a_prior_for_it(tiny_model, binary_images):
    model = tiny_model(model="deep_vae", prior="mog")
    noise = model.draw_noise(7, random.key(0))
    assert isinstance(model.elbo_terms(binary_images, noise), objectives.ElboTerms)
    assert model.sample(3, component=2).shape == (3, 4, 5, 1)


@pytest.mark.parametrize("prior", ["vampprior", "vampprior_data"])
def test_refuses_priors_that_need_an_encoder(prior):
    with pytest.raises(ValueError, match=r"deep_vae.*standard, mog"):
        ModelConfig(model="deep_vae", prior=prior)
