"""Models whose likelihood can be had exactly: linear-Gaussian, with one, two and three layers.

All networks are affine, so that p(x) is a Gaussian, or a mixture of Gaussians if the prior is one. With orthogonal
decoder rows the exact posterior is diagonal too: a variational posterior can be equal to it.

Row-vector notation: x = z1 B + z2 C + b + noise and z1 = z2 A + a + noise in two layers, x = z W + b + noise in one; three
are those of the top-down HVAE, each of which hears of all above it.
"""

import keras
import numpy as np
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from vampzoo import priors
from vampzoo.models import HVAE, VAE, TopDownHVAE

RNG = np.random.default_rng(0)
SHAPE, D, M = (2, 3, 1), 6, 2
NOISE = 0.4  # standard deviation of p(x|.)
ROWS = np.linalg.qr(RNG.normal(size=(D, D)))[0][:M]  # orthonormal [M, D]
BIAS = np.full(D, 0.5)
IMAGES = RNG.uniform(size=(4, *SHAPE)).astype(np.float32)


def gaussian_pixels(loc):
    return tfp.distributions.Independent(tfp.distributions.Normal(loc, NOISE), 3)


class LinearVAE(VAE):
    def p_x(self, z, training=False):
        return gaussian_pixels(self.p_x_network(z))


class LinearHVAE(HVAE):
    def p_x(self, z1, z2, x=None, training=False):
        return gaussian_pixels(self.p_x_network([z1, z2]))


class LinearTopDownHVAE(TopDownHVAE):
    def p_x(self, state, training=False):
        return gaussian_pixels(self.p_x_network(state))


def affine(inputs, weights, bias):
    """sum_i inputs_i @ weights_i + bias; a batch of one broadcasts."""
    total = 0.0
    for tensor, weight in zip(inputs, weights, strict=True):
        layer = keras.layers.Dense(len(weight[0]), use_bias=False)
        total = total + layer(tensor)
        layer.set_weights([np.asarray(weight)])
    return total + keras.ops.cast(bias, "float32")


def gaussian_network(inputs, weights, bias, variance, from_image=False):
    """inputs -> [mean, log-variance]: the mean affine, the variance fixed."""
    tensors = [keras.layers.Flatten()(i) for i in inputs] if from_image else inputs
    mean = affine(tensors, weights, bias)
    return keras.Model(
        inputs if len(inputs) > 1 else inputs[0], [mean, 0.0 * mean + np.log(variance).astype("float32")]
    )


def linear_network(weights):
    z = keras.Input((len(weights),))
    return keras.Model(z, affine([z], [weights], 0.0))


def image_network(sizes, weights):
    inputs = [keras.Input((size,)) for size in sizes]
    image = keras.layers.Reshape(SHAPE)(affine(inputs, weights, BIAS))
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], image)


def make_prior(name):
    return {
        "standard": lambda: priors.StandardNormal(M),
        "mog": lambda: priors.MixtureOfGaussians(3, M, seed=1),
        "vampprior": lambda: priors.VampPrior(3, SHAPE, weighted=True, stddev=0.4, seed=1),
    }[name]()


def conditioned(prior_variance, gain, noise_variance):
    """Of z ~ N(m, v), y ~ N(gain z, noise): posterior variance, and the weights of m and y in the posterior mean."""
    variance = 1 / (1 / prior_variance + gain**2 / noise_variance)
    return variance, variance / prior_variance, variance * gain / noise_variance


def one_layer(prior="standard", widened=1.0, shifted=0.0):
    """The model, its posterior exact for a standard prior unless widened and shifted; and the moments of p(x|z)."""
    gain = np.array([0.8, 0.3])
    variance, _, of_y = conditioned(1.0, gain, NOISE**2)
    weight = gain[:, None] * ROWS  # W
    to_z = ROWS.T * of_y
    q_z = gaussian_network([keras.Input(SHAPE)], [to_z], shifted - BIAS @ to_z, widened * variance, from_image=True)
    model = LinearVAE(q_z=q_z, p_x=image_network([M], [weight]), prior=make_prior(prior), likelihood="gaussian")
    return model, weight, BIAS, NOISE**2 * np.eye(D)


def two_layers(prior="standard", widened=1.0, shifted=0.0):
    """As `one_layer`; the moments are those of p(x|z2), with z1 integrated out."""
    a_gain, b_gain, c_gain = np.array([0.7, -0.5]), np.array([0.8, 0.6]), np.array([0.3, 0.4])
    a, z1_variance = np.array([0.2, -0.1]), np.array([0.5, 0.25])
    # y = ROWS (x - b): y = b_gain z1 + c_gain z2 + noise, dimension by dimension
    z2_gain = a_gain * b_gain + c_gain
    v2, _, of_y2 = conditioned(1.0, z2_gain, NOISE**2 + b_gain**2 * z1_variance)
    v1, of_m1, of_y1 = conditioned(z1_variance, b_gain, NOISE**2)
    to_z2, to_z1 = ROWS.T * of_y2, ROWS.T * of_y1
    x = keras.Input(SHAPE)
    model = LinearHVAE(
        q_z2=gaussian_network(
            [x], [to_z2], shifted - (BIAS @ ROWS.T + a * b_gain) * of_y2, widened * v2, from_image=True
        ),
        q_z1_features=keras.Model(x, keras.layers.Flatten()(x)),
        q_z1=gaussian_network(
            [keras.Input((D,)), keras.Input((M,))],
            [to_z1, np.diag(of_m1 * a_gain - of_y1 * c_gain)],
            shifted + of_m1 * a - BIAS @ to_z1,
            widened * v1,
        ),
        p_z1=gaussian_network([keras.Input((M,))], [np.diag(a_gain)], a, z1_variance),
        p_x=image_network([M, M], [b_gain[:, None] * ROWS, c_gain[:, None] * ROWS]),
        prior=make_prior(prior),
        likelihood="gaussian",
    )
    b_matrix = b_gain[:, None] * ROWS
    covariance = b_matrix.T @ np.diag(z1_variance) @ b_matrix + NOISE**2 * np.eye(D)
    return model, z2_gain[:, None] * ROWS, a @ b_matrix + BIAS, covariance


def three_layers(prior="standard", widened=1.0, shifted=0.0):
    """As `one_layer`, with y = ROWS (x - b) and, dimension by dimension,

    z2 = a z3 + a0 + noise, z1 = g2 z2 + g3 z3 + g0 + noise, y = b1 z1 + b2 z2 + b3 z3 + noise.
    """
    a, a0, z2_variance = np.array([0.7, -0.5]), np.array([0.2, -0.1]), np.array([0.5, 0.25])
    g2, g3, g0, z1_variance = np.array([0.6, 0.4]), np.array([-0.3, 0.5]), np.array([0.1, 0.3]), np.array([0.3, 0.6])
    b1, b2, b3 = np.array([0.8, 0.6]), np.array([0.3, 0.4]), np.array([-0.5, 0.2])
    # y = h2 z2 + h3 z3 + b1 g0 + noise without z1, and y = t z3 + t0 + noise without z2 either
    h2, h3, y2_variance = b1 * g2 + b2, b1 * g3 + b3, b1**2 * z1_variance + NOISE**2
    t, t0, y3_variance = h2 * a + h3, h2 * a0 + b1 * g0, h2**2 * z2_variance + y2_variance
    v3, _, of_y3 = conditioned(1.0, t, y3_variance)
    v2, of_m2, of_y2 = conditioned(z2_variance, h2, y2_variance)
    v1, of_m1, of_y1 = conditioned(z1_variance, b1, NOISE**2)
    # The state is a rotation of (z3, z2, z1): what reads it turns it back.
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3 * M, 3 * M)))[0]

    def of_state(*gains):  # of z3, z2 and z1, [M] each
        return rotation.T @ np.concatenate([np.diag(g) for g in gains])  # [S, M]

    def of_x(of_y):
        return ROWS.T * of_y  # [D, M]

    none = np.zeros(M)
    x = keras.Input(SHAPE)
    model = LinearTopDownHVAE(
        q_top=gaussian_network(
            [x], [of_x(of_y3)], shifted - BIAS @ of_x(of_y3) - of_y3 * t0, widened * v3, from_image=True
        ),
        q_features=keras.Model(x, keras.layers.Flatten()(x)),
        q_layers=[
            gaussian_network(
                [keras.Input((D,)), keras.Input((3 * M,))],
                [of_x(of_y2), of_state(of_m2 * a - of_y2 * h3, none, none)],
                shifted - BIAS @ of_x(of_y2) + of_m2 * a0 - of_y2 * b1 * g0,
                widened * v2,
            ),
            gaussian_network(
                [keras.Input((D,)), keras.Input((3 * M,))],
                [of_x(of_y1), of_state(of_m1 * g3 - of_y1 * b3, of_m1 * g2 - of_y1 * b2, none)],
                shifted - BIAS @ of_x(of_y1) + of_m1 * g0,
                widened * v1,
            ),
        ],
        p_layers=[
            gaussian_network([keras.Input((3 * M,))], [of_state(a, none, none)], a0, z2_variance),
            gaussian_network([keras.Input((3 * M,))], [of_state(g3, g2, none)], g0, z1_variance),
        ],
        state_maps=[linear_network(rows) for rows in np.split(rotation, 3)],
        p_x=image_network([3 * M], [of_state(b3, b2, b1) @ ROWS]),
        prior=make_prior(prior),
        likelihood="gaussian",
    )
    covariance = ROWS.T @ np.diag(h2**2 * z2_variance + b1**2 * z1_variance) @ ROWS + NOISE**2 * np.eye(D)
    return model, t[:, None] * ROWS, t0 @ ROWS + BIAS, covariance


def exact_log_likelihood(model, weight, bias, covariance):
    """log sum_k pi_k N(x; m_k W + b, W^T diag(v_k) W + covariance), [B]."""
    parameters = model.prior_parameters() or (tf.zeros([1]), tf.zeros([1, M]), tf.zeros([1, M]))
    logits, means, log_vars = (p.numpy().astype(np.float64) for p in parameters)
    x = IMAGES.reshape(len(IMAGES), D)
    by_component = [
        scipy.stats.multivariate_normal(m @ weight + bias, weight.T @ np.diag(np.exp(v)) @ weight + covariance).logpdf(
            x
        )
        for m, v in zip(means, log_vars, strict=True)
    ]
    return scipy.special.logsumexp(np.array(by_component) + scipy.special.log_softmax(logits)[:, None], axis=0)
