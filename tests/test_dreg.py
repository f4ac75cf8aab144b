"""Doubly reparameterised gradients: the mean of the usual ones, and none for q where q is the posterior."""

import linear_gaussian
import numpy as np
import pytest
import tensorflow as tf

from vampzoo import random
from vampzoo.errors import InvalidValue
from vampzoo.models import VAE
from vampzoo.models.base import repeat_rows
from vampzoo.models.fitting import losses_and_terms
from vampzoo.objectives import ElboTerms

K = 3


def gradients(model, x, seed, objective, beta=1.0, k=K):
    """{name of a network or "prior": its gradient as one vector}, and the losses [B]."""
    noise = model.draw_noise(len(x) * k, random.key(seed))
    parts = {name: tf.nest.flatten(networks) for name, networks in model.networks().items()} | {
        "prior": [model.prior_layer]
    }
    variables = {name: [v for layer in layers for v in layer.trainable_variables] for name, layers in parts.items()}
    with tf.GradientTape() as tape:
        losses, _ = losses_and_terms(
            model, x, noise, model.prior_parameters(), beta, objective=objective, num_samples=k, training=True
        )
        loss = tf.reduce_mean(losses)
    values = {name: [v.value for v in vs] for name, vs in variables.items() if vs}
    found = tape.gradient(loss, values, unconnected_gradients="zero")
    return {name: tf.concat([tf.reshape(t, [-1]) for t in ts], 0) for name, ts in found.items()}, losses


@pytest.mark.parametrize(
    "layers", [linear_gaussian.one_layer, linear_gaussian.two_layers, linear_gaussian.three_layers]
)
def test_where_q_is_the_posterior_its_gradient_vanishes_for_every_draw(layers):
    model = layers()[0]
    x = tf.constant(linear_gaussian.IMAGES)
    doubly, usual = (gradients(model, x, 1, objective)[0] for objective in ("dreg", "iwae"))
    of_q = [name for name in doubly if name.startswith("q_")]
    assert of_q and max(np.abs(doubly[name]).max() for name in of_q) < 1e-4
    assert max(np.abs(usual[name]).max() for name in of_q) > 0.05


@pytest.mark.parametrize(
    ("fields", "beta"),
    [
        ({"model": "vae", "prior": "mog"}, 0.3),
        ({"model": "vae", "prior": "vampprior"}, 1.0),
        ({"model": "hvae", "prior": "vampprior", "weighted": True}, 0.3),
        ({"model": "deep_vae", "prior": "standard"}, 1.0),
        ({"model": "topdown_hvae", "prior": "vampprior", "shared_layers": True, "layer_head_scale": 1.0}, 0.6),
    ],
    ids=lambda value: value["model"] if isinstance(value, dict) else str(value),
)
def test_means_are_those_of_the_usual_gradient(tiny_model, binary_images, fields, beta):
    model, x = tiny_model(**fields), tf.repeat(tf.constant(binary_images[:4]), 50, axis=0)  # many draws in a batch

    @tf.function(autograph=False, jit_compile=True)
    def difference(seed):
        doubly, usual = (gradients(model, x, seed, objective, beta)[0] for objective in ("dreg", "iwae"))
        return tf.concat([doubly[name] - usual[name] for name in doubly], 0), tf.concat(list(usual.values()), 0)

    pairs = [difference(tf.constant(seed)) for seed in range(60)]
    differences, usual = np.array([a for a, _ in pairs], np.float64), np.array([b for _, b in pairs], np.float64)
    errors = differences.std(axis=0, ddof=1) / np.sqrt(len(pairs))
    assert np.all(np.abs(differences.mean(axis=0)) < 5 * errors + 1e-6)
    # The test can tell: the errors are small beside the gradient.
    assert np.linalg.norm(errors) < 0.15 * np.linalg.norm(usual.mean(axis=0))


def test_the_gradient_of_p_is_the_usual_one(tiny_model, binary_images):
    model = tiny_model(model="hvae", prior="mog")
    doubly, usual = (gradients(model, binary_images, 1, objective, 0.7)[0] for objective in ("dreg", "iwae"))
    for name in ("p_z1", "p_x", "prior"):
        np.testing.assert_allclose(doubly[name], usual[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("k", "other"), [(1, "elbo"), (4, "iwae")])
def test_the_loss_is_minus_the_bound(tiny_model, binary_images, k, other):
    model = tiny_model(model="topdown_hvae", prior="vampprior")
    losses = [gradients(model, binary_images, 1, objective, 0.5, k)[1] for objective in ("dreg", other)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_less_variance_than_the_usual_gradient():
    model = linear_gaussian.two_layers(widened=1.2, shifted=0.1)[0]
    x = tf.constant(linear_gaussian.IMAGES)
    variance = {}
    for objective in ("dreg", "iwae"):

        @tf.function(autograph=False)
        def of_q(seed, objective=objective):
            found = gradients(model, x, seed, objective, k=16)[0]
            return tf.concat([found["q_z2"], found["q_z1"]], 0)

        variance[objective] = np.var([of_q(tf.constant(seed)) for seed in range(40)], axis=0).sum()
    assert variance["dreg"] < 0.2 * variance["iwae"]


def test_a_model_that_draws_in_its_own_way_is_refused(tiny_model, binary_images):
    class Own(VAE):
        def elbo_terms(self, x, noise, prior_parameters=None, training=False, num_samples=1):
            q_z = self.q_z(x, num_samples)
            return self.p_x(q_z.loc + noise["z"] * q_z.stddev())

    vae = tiny_model(model="vae")
    model = Own(q_z=vae.q_z_network, p_x=vae.p_x_network, prior=vae.prior_layer, likelihood="bernoulli")
    with pytest.raises(InvalidValue, match="draws all come from DiagonalGaussian"):
        gradients(model, binary_images, 1, "dreg")


def test_a_model_whose_density_is_not_that_of_the_draw_is_refused(tiny_model, binary_images):
    class Own(VAE):
        def elbo_terms(self, x, noise, prior_parameters=None, training=False, num_samples=1):
            q_z = self.q_z(repeat_rows(x, num_samples))
            z, _ = q_z.reparameterize(noise["z"])
            return ElboTerms(
                distortion=-self.p_x(z).log_prob(repeat_rows(x, num_samples)),
                rates={"z": q_z.log_prob(z) - self.prior(prior_parameters).log_prob(z)},
            )

    vae = tiny_model(model="vae")
    model = Own(q_z=vae.q_z_network, p_x=vae.p_x_network, prior=vae.prior_layer, likelihood="bernoulli")
    gradients(model, binary_images, 1, "iwae")
    with pytest.raises(InvalidValue, match=r"needs ln q\(z\) as DiagonalGaussian.reparameterize gives it"):
        gradients(model, binary_images, 1, "dreg")
