"""The factors of the models, as TensorFlow Probability distributions.

Dimensions: B batch, N draws, K mixture components, M latents, D pixels. Log-probabilities are in nats and float32,
whatever the precision of the network that produced the parameters.
"""

import math

import tensorflow as tf
import tensorflow_probability as tfp

from vampzoo import random
from vampzoo.config import LIKELIHOODS
from vampzoo.errors import InvalidValue

tfd = tfp.distributions

LOG_VAR_RANGE = (-6.0, 2.0)  # of every Gaussian head; hard clip, zero gradient outside
LOGIT_LIMIT = math.log((1 - 1e-5) / 1e-5)  # 11.5129: probabilities clipped to [1e-5, 1 - 1e-5]
LOG_SCALE_RANGE = (-4.5, 0.0)  # of the discretised logistic
NUM_BINS = 256


def _key(seed):
    """The zoo's seed for a seed given to `sample`: TFP would make an integer depend on the calls before it."""
    return random.key(tfp.random.sanitize_seed(None) if seed is None else seed)


class DiagonalGaussian(tfd.Independent):
    """N(mean, diag(exp(log_var))) over the last axis.

    Args:
        loc: [..., M], the mean.
        log_var: [..., M], logarithm of the variance.
    """

    def __init__(self, loc, log_var, name="DiagonalGaussian"):
        parameters = dict(locals())
        loc, log_var = tf.cast(loc, tf.float32), tf.cast(log_var, tf.float32)
        super().__init__(tfd.Normal(loc, tf.exp(0.5 * log_var)), reinterpreted_batch_ndims=1, name=name)
        self._parameters = parameters
        self.loc = loc
        self.log_var = log_var

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return dict.fromkeys(("loc", "log_var"), tfp.util.ParameterProperties(event_ndims=1))

    def _covariance(self):
        return tf.linalg.diag(tf.exp(self.log_var) + tf.zeros_like(self.loc))  # [..., M, M]

    def _sample_n(self, n, seed):
        shape = tf.broadcast_dynamic_shape(tf.shape(self.loc), tf.shape(self.log_var))
        shape = tf.concat([[n], shape], axis=0)  # [n, ..., M]
        return self.reparameterize(random.normal(shape, _key(seed)))[0]

    def reparameterize(self, noise):
        """The draw z = mean + sigma * noise and its log-density, from standard normal noise.

        The density is written in terms of the noise, since (z - mean) / sigma is what one started from: no
        cancellation, and the gradient of log q(z) with respect to mean and sigma comes out in closed form.

        Args:
            noise: broadcasts against [..., M]; or an object that says with a method `draw_from(q)` what is returned.

        Returns:
            z [..., M] and log q(z) [...], the same as `log_prob(z)`.
        """
        if hasattr(noise, "draw_from"):
            return noise.draw_from(self)
        z = self.loc + self.distribution.scale * noise  # [..., M]
        terms = math.log(2 * math.pi) + self.log_var + tf.square(noise)
        return z, -0.5 * tf.reduce_sum(terms + tf.zeros_like(z), axis=-1)  # over M, where neither has it whole


class DiagonalGaussianMixture(tfd.MixtureSameFamily):
    """sum_k pi_k N(z; mean_k, diag(exp(log_var_k))): the form of the MoG and of every VampPrior (Eq. 9).

    Differs from its parent only in cost. `sample` is ancestral (draw k, then z), where the parent draws every component
    and masks. `log_prob` expands the square, so that the [N, K] exponents are one matrix product and no [N, K, M] tensor
    exists; in float64, since the expansion cancels (means near 10 with a variance of exp(-6) would lose half a nat
    in float32).

    Args:
        logits: [K], unnormalised log-weights.
        means: [K, M].
        log_vars: [K, M].
    """

    def __init__(self, logits, means, log_vars, name="DiagonalGaussianMixture"):
        parameters = dict(locals())
        logits = tf.cast(logits, tf.float32)
        super().__init__(
            mixture_distribution=tfd.Categorical(logits=logits),
            components_distribution=DiagonalGaussian(means, log_vars),
            name=name,
        )
        self._parameters = parameters
        self._log_weights = tf.nn.log_softmax(logits)  # [K]
        self._means = tf.cast(means, tf.float32)  # [K, M]
        self._log_vars = tf.cast(log_vars, tf.float32)  # [K, M]

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        matrix = tfp.util.ParameterProperties(event_ndims=2)
        return {"logits": tfp.util.ParameterProperties(event_ndims=1), "means": matrix, "log_vars": matrix}

    def component_log_probs(self, z):
        """log pi_k + log N(z; mean_k, exp(log_var_k)), float64 [N, K], for z [N, M]."""
        return self._exponents(tf.cast(z, tf.float64), tf.zeros([], tf.float64))

    def log_prob_around(self, center, offsets):
        """log p(center + offset): what `log_prob` gives, in float32 and so in less time.

        With its origin at the centre the expanded square cancels no more than offsets and components are far from there. The
        error is below 1e-6 (1 + |log p| + c) nats (the worst of 1,000 random mixtures: 0.4 of it), where

            c = sum_k r_k sum_m (|offset| + |center - mean_k|)^2 / (2 sigma_k^2)

        is what cancels, weighted by responsibilities r_k: some hundred nats for draws of a posterior around its mean, but
        10^4 where draws of a wide posterior meet a narrow component (sigma 0.05) five units off its mean.

        Args:
            center: [M].
            offsets: [N, M].

        Returns:
            [N], nats.
        """
        exponents = self._exponents(offsets, tf.cast(center, tf.float64))  # [N, K]
        return tf.reduce_logsumexp(exponents, axis=-1)

    def _exponents(self, z, origin):
        """`component_log_probs` of origin + z, [N, K] in the precision of z [N, M]; `origin` is float64, [M] or a scalar."""
        means, log_vars = tf.cast(self._means, tf.float64) - origin, tf.cast(self._log_vars, tf.float64)
        precisions = tf.exp(-log_vars)  # [K, M]
        # -1/2 (z - m)^2 / s^2 = z^2 (-1/2 s^-2) + z (m s^-2) - 1/2 m^2 s^-2
        features = tf.concat([tf.square(z), z], axis=-1)  # [N, 2M]
        coefficients = tf.concat([-0.5 * precisions, means * precisions], axis=-1)  # [K, 2M]
        constants = tf.cast(self._log_weights, tf.float64) - 0.5 * tf.reduce_sum(
            math.log(2 * math.pi) + log_vars + tf.square(means) * precisions, axis=-1
        )  # [K]
        return tf.matmul(features, tf.cast(coefficients, z.dtype), transpose_b=True) + tf.cast(constants, z.dtype)

    def _log_prob(self, z):
        rows = tf.reshape(z, [-1, tf.shape(z)[-1]])  # [N, M]
        exponents = self.component_log_probs(rows)  # [N, K]
        peaks = tf.stop_gradient(tf.reduce_max(exponents, axis=-1, keepdims=True))  # [N, 1]
        # What is left after the peak is subtracted lies in (-inf, 0] and loses nothing in float32.
        log_sums = tf.math.log(tf.reduce_sum(tf.exp(tf.cast(exponents - peaks, tf.float32)), axis=-1))  # [N]
        return tf.reshape(tf.cast(peaks[:, 0], tf.float32) + log_sums, tf.shape(z)[:-1])

    def _sample_n(self, n, seed):
        seed = _key(seed)
        k = random.categorical(self._log_weights, n, random.fold_in(seed, 0))  # [n]
        return self.sample_component(k, random.fold_in(seed, 1))  # [n, M]

    def sample_component(self, k, seed):
        """Draws z ~ N(mean_k, exp(log_var_k)), float32 [n, M], for component indices k, int32 [n]."""
        noise = random.normal([tf.shape(k)[0], tf.shape(self._means)[1]], seed)
        return tf.gather(self._means, k) + tf.exp(0.5 * tf.gather(self._log_vars, k)) * noise


def log_prob_of_draws(p_z, q_z, z):
    """p_z.log_prob(z), [N], for draws z [N, M] of `q_z`, a `DiagonalGaussian`.

    All samples of one image (q_z of [1, M]) lie around one mean, where a mixture costs less.
    """
    if q_z.loc.shape[0] == 1 and isinstance(p_z, DiagonalGaussianMixture):
        return p_z.log_prob_around(q_z.loc[0], z - q_z.loc)
    return p_z.log_prob(z)


@tf.custom_gradient
def _softplus(logits):
    """log(1 + exp(logits)), right to 1e-7 absolute: half the time of `tf.nn.softplus`, whose relative error is small."""
    value = tf.maximum(logits, 0.0) + tf.math.log(1.0 + tf.exp(-tf.abs(logits)))
    return value, lambda upstream: upstream * tf.sigmoid(logits)


class PixelBernoulli(tfd.Bernoulli):
    """Bernoulli with probabilities clipped to [1e-5, 1 - 1e-5], that is logits to +-11.5129.

    Exact for x in {0, 1}; for x in between `log_prob` is minus the cross-entropy.
    """

    def __init__(self, logits, name="PixelBernoulli"):
        parameters = dict(locals())
        super().__init__(
            logits=tf.clip_by_value(tf.cast(logits, tf.float32), -LOGIT_LIMIT, LOGIT_LIMIT), dtype=tf.float32, name=name
        )
        self._parameters = parameters

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {"logits": tfp.util.ParameterProperties()}

    def _log_prob(self, x):
        return tf.cast(x, tf.float32) * self.logits - _softplus(self.logits)

    def _sample_n(self, n, seed):
        probabilities = tf.broadcast_to(tf.sigmoid(self.logits), tf.concat([[n], tf.shape(self.logits)], axis=0))
        return random.bernoulli(probabilities, _key(seed))


class DiscretizedLogistic(tfd.Distribution):
    """A logistic distribution collected into 256 bins of width 1/256 on [0, 1).

    With s = exp(log_scale), b(x) = floor(256 x)/256 the bin's left edge, F the logistic distribution function:
    log p(x) = log[F((b + 1/256 - loc)/s) - F((b - loc)/s)].

    The first and last bin are open to -inf and +inf, so that the 256 probabilities sum to 1. The paper's published code
    leaves them closed and adds 1e-7 under the logarithm: mass outside [0, 1) is lost, so likelihoods near black and
    white come out lower, while no bin can fall below log 1e-7 = -16.1. `open_edges=False` gives that form.

    Args:
        loc: [...], in [0, 1], clipped to the outermost centres of bins.
        log_scale: [...], logarithm of s, clipped to [-4.5, 0].
        open_edges: whether the outer bins are open.
    """

    def __init__(self, loc, log_scale, open_edges=True, name="DiscretizedLogistic"):
        parameters = dict(locals())
        half_bin = 0.5 / NUM_BINS
        self.loc = tf.clip_by_value(tf.cast(loc, tf.float32), half_bin, 1.0 - half_bin)
        self.log_scale = tf.clip_by_value(tf.cast(log_scale, tf.float32), *LOG_SCALE_RANGE)
        self.open_edges = open_edges
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return dict.fromkeys(("loc", "log_scale"), tfp.util.ParameterProperties())

    def _event_shape_tensor(self):
        return tf.constant([], tf.int32)

    def _event_shape(self):
        return tf.TensorShape([])

    def _log_prob(self, x):
        bin_index = tf.clip_by_value(tf.floor(x * NUM_BINS), 0.0, NUM_BINS - 1.0)
        inverse_scale = tf.exp(-self.log_scale)
        lower = (bin_index / NUM_BINS - self.loc) * inverse_scale
        width = inverse_scale / NUM_BINS
        upper = lower + width
        # F(b) - F(a) = F(b) F(-a) (1 - exp(a - b)), which has no cancellation.
        log_f_upper, log_f_not_lower = -tf.nn.softplus(-upper), -tf.nn.softplus(lower)
        inside = log_f_upper + log_f_not_lower + tf.math.log(-tf.math.expm1(-width))
        if not self.open_edges:
            return tf.math.log(tf.exp(inside) + 1e-7)
        return tf.where(bin_index <= 0, log_f_upper, tf.where(bin_index >= NUM_BINS - 1, log_f_not_lower, inside))

    def _mean(self):
        """The mean over the 256 bins, each at its centre, [...]. Needs 256 times the memory of the location."""
        centers = (tf.range(NUM_BINS, dtype=tf.float32) + 0.5) / NUM_BINS
        rank = max(self.loc.shape.rank, self.log_scale.shape.rank)
        centers = tf.reshape(centers, [NUM_BINS] + [1] * rank)
        probabilities = tf.exp(self._log_prob(centers))  # [256, ...]
        return tf.reduce_sum(probabilities * centers, axis=0) / tf.reduce_sum(probabilities, axis=0)

    def _sample_n(self, n, seed):
        shape = tf.broadcast_dynamic_shape(tf.shape(self.loc), tf.shape(self.log_scale))
        shape = tf.concat([[n], shape], axis=0)
        u = random.uniform(shape, _key(seed))
        if not self.open_edges:  # without what lies outside [0, 1)
            below, above = (tf.sigmoid((edge - self.loc) * tf.exp(-self.log_scale)) for edge in (0.0, 1.0))
            u = below + u * (above - below)
        x = self.loc + tf.exp(self.log_scale) * (tf.math.log(u) - tf.math.log1p(-u))
        return (tf.clip_by_value(tf.floor(x * NUM_BINS), 0.0, NUM_BINS - 1.0) + 0.5) / NUM_BINS  # centres of bins


def picture(p_x):
    """What figures show of p(x|z), [..., H, W, C]: its own `picture`, or the mean of a distribution that has none."""
    return p_x.picture() if hasattr(p_x, "picture") else p_x.mean()


class IndependentPixels(tfd.Independent):
    """The product of a distribution over each pixel, [..., H, W, C] -> batch shape [...].

    Differs from its parent only in cost: the pixels are summed by a product with ones, as XLA on CPUs adds the numbers of a
    row one after the other.

    Args:
        pixels: a tfd distribution with batch shape [..., H, W, C].
    """

    def __init__(self, pixels, name="IndependentPixels"):
        parameters = dict(locals())
        super().__init__(pixels, reinterpreted_batch_ndims=3, name=name)
        self._parameters = parameters

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {"pixels": tfp.util.BatchedComponentProperties(event_ndims=3)}

    def picture(self):
        """What the paper's figures show of p(x|z), [..., H, W, C]: a Bernoulli's mean, a logistic's location."""
        pixels = self.distribution
        return pixels.loc if isinstance(pixels, DiscretizedLogistic) else pixels.mean()

    def _log_prob(self, x):
        log_probs = self.distribution.log_prob(x)  # [..., H, W, C]
        num_dimensions = math.prod(log_probs.shape[-3:])
        rows = tf.reshape(log_probs, [-1, num_dimensions])  # [N, D]
        return tf.reshape(tf.linalg.matvec(rows, tf.ones([num_dimensions])), tf.shape(log_probs)[:-3])  # [...]


def image_likelihood(likelihood, parameters):
    """The distribution p(x|.) over images that a decoder's output describes.

    Args:
        likelihood: one of `LIKELIHOODS`.
        parameters: [B, H, W, C] logits for "bernoulli"; a pair (affine mean before the sigmoid, log-scale), each
            [B, H, W, C], for the discretised logistics.

    Returns:
        A tfd distribution with batch shape [B] and event shape [H, W, C].

    Raises:
        InvalidValue: if `likelihood` is unknown.
    """
    if likelihood == "bernoulli":
        pixels = PixelBernoulli(parameters)
    elif likelihood in LIKELIHOODS:
        mean, log_scale = parameters
        pixels = DiscretizedLogistic(
            tf.sigmoid(tf.cast(mean, tf.float32)), log_scale, open_edges=likelihood == "discretized_logistic"
        )
    else:
        raise InvalidValue(f"unknown likelihood {likelihood!r}; the valid ones are: {', '.join(LIKELIHOODS)}")
    return IndependentPixels(pixels)
