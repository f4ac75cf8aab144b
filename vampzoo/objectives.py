"""The objective: the ELBO (Eq. 1-2), estimated from samples (Eq. 3) and with warm-up, and the importance-weighted bound.

    E_x[ln p(x)] >= E_x[E_q(z|x)[ln p(x|z) + ln p(z) - ln q(z|x)]]                       (Eq. 1, 2)
                 ~  mean over x of 1/k sum_k [ln p(x|z_k) + ln p(z_k) - ln q(z_k|x)]     (Eq. 3)

Everything in nats.

Dimensions: B batch, k samples for each image in training, S importance samples in evaluation.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from vampzoo.config import OBJECTIVES
from vampzoo.errors import InvalidValue


class ElboTerms(NamedTuple):
    """The per-example terms of the ELBO, from one sample of each latent."""

    distortion: tf.Tensor  # [B]  -log p(x|z1, z2)
    rates: dict  # {"z2": [B], "z1": [B]}  log q - log p of each stochastic layer

    @property
    def rate(self):
        """log q(z|x) - log p(z) of the sample, [B]: an estimate of the KL divergence from the prior (Eq. 3)."""
        return tf.add_n(list(self.rates.values()))

    @property
    def log_weight(self):
        """log p(x, z) - log q(z|x), [B]: the summand of Eq. 3 and the log importance weight alike."""
        return -self.distortion - self.rate


def beta(epoch, warmup_epochs):
    """Weight of the rate: min(1, epoch / warmup_epochs), epochs counted from 1; 1 without warm-up."""
    return min(1.0, epoch / warmup_epochs) if warmup_epochs > 0 else 1.0


def samples_in(epoch, one_sample_epochs, num_samples):
    """k of an epoch, counted from 1: 1 in the first `one_sample_epochs`, then `num_samples`.

    With one sample both objectives are the ELBO, whose steps cost least. A bound of several is worth its cost when q is near
    the posterior, so late in training.
    """
    return 1 if epoch <= one_sample_epochs else num_samples


def beta_elbo_loss(terms, beta):
    """distortion + beta * rate per example, [B]: the negative of Eq. 3's summand, with warm-up (section 5.1)."""
    return terms.distortion + beta * terms.rate


def training_loss(terms, beta, objective="elbo"):
    """What training minimises, [B], from the terms of k samples for each image, gradient and all.

    "elbo" is the mean of the k estimates of Eq. 3. "iwae" is the importance-weighted bound of Burda et al. (2016, Eq. 8)
    with warm-up of the rate in each log-weight; its gradient is the total derivative of the bound. For k = 1 they agree.

    Args:
        terms: `ElboTerms` of [B, k].
        beta: weight of the rate.
        objective: one of `vampzoo.config.OBJECTIVES` but "dreg", a gradient that the terms do not have in them
            (`vampzoo.models.dreg`).

    Raises:
        InvalidValue: for another objective.
    """
    valid = [name for name in OBJECTIVES if name != "dreg"]
    if objective not in valid:
        raise InvalidValue(f"objective={objective!r} is unknown; the valid values are: {', '.join(valid)}")
    losses = beta_elbo_loss(terms, beta)  # [B, k]
    return tf.reduce_mean(losses, axis=1) if objective == "elbo" else -importance_bound(-losses, axis=1)


def importance_bound(log_weights, axis=0):
    """log 1/S sum_s w_s: a lower bound on log p(x) that grows with S (Burda et al., 2016).

    Args:
        log_weights: log p(x, z_s) - log q(z_s|x), nats, for S samples along an axis.
        axis: that axis.

    Returns:
        `log_weights` without the axis, nats.
    """
    num_samples = tf.cast(tf.shape(log_weights)[axis], log_weights.dtype)
    return tf.reduce_logsumexp(log_weights, axis=axis) - tf.math.log(num_samples)


def bits_per_dimension(log_likelihood, num_dimensions):
    """-log_likelihood / (D ln 2), for log-likelihoods in nats."""
    return -log_likelihood / (num_dimensions * math.log(2.0))
