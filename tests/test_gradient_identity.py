"""The paper's supplement: how a VampPrior enters the gradient of the ELBO (Eq. 19-21), by automatic differentiation.

For an encoder weight phi and one draw z = z_phi, with a prior p(z) = 1/K sum_k p_k(z),

    dL/dphi = 1/p(x|z) dp(x|z)/dz dz/dphi
            + 1/(q(z|x) p(z)) 1/K sum_k { [q(z|x) d_phi p_k(z) - p_k(z) d_phi q(z|x)]
                                        + [q(z|x) d_z p_k(z) - p_k(z) d_z q(z|x)] dz/dphi },

where d_phi holds z fixed. For the VampPrior p_k(z) = q(z|u_k) depends on phi as q(z|x) does, and where they agree the
braces vanish; for the standard prior, p(z) = N(0, I), d_phi p(z) = 0.
"""

import numpy as np
import pytest
import tensorflow as tf

from vampzoo.distributions import DiagonalGaussian

NOISE = tf.constant([[0.7, -1.2]])


def posterior_density(model, inputs, z):
    """q(z|input) itself, not its logarithm, [number of inputs]."""
    return tf.exp(DiagonalGaussian(*model.q_z_network(inputs)).log_prob(z))


def flat(gradients, variables):
    """One vector of all gradients; None is zero."""
    filled = [tf.zeros(v.shape) if g is None else g for g, v in zip(gradients, variables, strict=True)]
    return tf.concat([tf.reshape(g, [-1]) for g in filled], 0)


def gradient_by_the_formula(model, x, vampprior):
    phi = [v.value for v in model.q_z_network.trainable_variables]
    z = tf.constant(model.q_z(x).reparameterize(NOISE)[0])  # [1, M]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        components = (
            posterior_density(model, model.pseudo_inputs, z)
            if vampprior
            else tf.exp(DiagonalGaussian(tf.zeros([1, 2]), tf.zeros([1, 2])).log_prob(z))
        )
        p_k, q, p_x = tf.unstack(components), posterior_density(model, x, z)[0], tf.exp(model.p_x(z).log_prob(x))
        z_phi = tf.unstack(model.q_z(x).reparameterize(NOISE)[0][0])  # as a function of phi

    dz_dphi = tf.stack([flat(tape.gradient(z_m, phi), phi) for z_m in z_phi])  # [M, |phi|]
    d_phi, d_z = (lambda f: flat(tape.gradient(f, phi), phi)), (lambda f: tape.gradient(f, z))
    total = d_z(p_x) / p_x @ dz_dphi
    for p in p_k:
        braces = (q * d_phi(p) - p * d_phi(q)) + (q * d_z(p) - p * d_z(q)) @ dz_dphi
        total += braces / (q * tf.reduce_mean(components) * len(p_k))
    return total[0]


def gradient_of_the_objective(model, x, term=lambda terms: terms.log_weight):
    phi = [v.value for v in model.q_z_network.trainable_variables]
    with tf.GradientTape() as tape:
        value = term(model.elbo_terms(x, {"z": NOISE}))
    return flat(tape.gradient(value, phi), phi)


@pytest.mark.parametrize("prior", ["standard", "vampprior"])
def test_gradient_of_the_elbo(tiny_model, binary_images, prior):
    model, x = tiny_model(model="vae", prior=prior, num_components=3, hidden_units=4), binary_images[:1]
    expected = gradient_by_the_formula(model, x, vampprior=prior == "vampprior")
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(gradient_of_the_objective(model, x), expected, rtol=1e-3, atol=1e-4)


def test_a_pseudo_input_equal_to_the_image_cancels_the_rate(tiny_model, binary_images):
    model, x = tiny_model(model="vae", num_components=1), binary_images[:1]
    model.prior_layer.set_pseudo_inputs(x)
    assert model.elbo_terms(x, {"z": NOISE}).rate.numpy() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(
        gradient_of_the_objective(model, x),
        gradient_of_the_objective(model, x, lambda terms: -terms.distortion),
        atol=1e-5,
    )
    other = gradient_of_the_objective(model, 1 - x) - gradient_of_the_objective(model, 1 - x, lambda t: -t.distortion)
    assert np.abs(other).max() > 1e-3  # another image does feel the prior
