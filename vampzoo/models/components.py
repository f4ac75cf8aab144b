"""Which component of a mixture prior explains what: p(k|z) = pi_k p_k(z) / p(z), averaged over q(z|x).

Dimensions: B images, K components, M latents of the top layer.
"""

import numpy as np
import tensorflow as tf

from vampzoo import random
from vampzoo.errors import InvalidValue


def top_layer(model, x, noise):
    """The posterior of the top layer given x [B, H, W, C], and the draw z [B, M] of it that `noise` makes.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        x: [B, H, W, C].
        noise: as `model.draw_noise` gives it.

    Returns:
        A `DiagonalGaussian` of batch shape [B], and z [B, M].
    """
    name = next(iter(model.latent_sizes))
    posterior = model.posterior(x, noise)[name]
    return posterior, posterior.reparameterize(noise[name])[0]


def check_mixture(prior):
    """Refuses a prior without components."""
    if not prior.has_components:
        raise InvalidValue(f"the prior {type(prior).__name__} has no components: it is no mixture")


def responsibilities(model, x, num_samples, seed, batch_size=500):
    """E_q(z|x)[p(k|z)] of each image, the mean over draws of the top layer.

    Args:
        model: a `vampzoo.models.LatentVariableModel` whose prior is a mixture.
        x: [B, H, W, C].
        num_samples: draws an image.
        seed: integer.
        batch_size: images at once; of fewer images as many draws at once as make up that number.

    Returns:
        NumPy float64 [B, K]; each row sums to 1.

    Raises:
        InvalidValue: if the prior has no components, or num_samples < 1.
    """
    if num_samples < 1:
        raise InvalidValue(f"num_samples must be at least 1, got {num_samples}")
    check_mixture(model.prior_layer)
    prior = model.prior()
    rows = []
    for first in range(0, len(x), batch_size):
        batch = tf.convert_to_tensor(x[first : first + batch_size])
        num_at_once = max(1, batch_size // len(batch))
        total = 0.0
        for start in range(0, num_samples, num_at_once):
            keys = [random.key(seed, first, s) for s in range(start, min(start + num_at_once, num_samples))]
            draws = [model.draw_noise(len(batch), key) for key in keys]
            noise = tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *draws)  # [n B, M]
            _, z = top_layer(model, tf.tile(batch, [len(keys), *[1] * (batch.shape.rank - 1)]), noise)
            shares = tf.nn.softmax(prior.component_log_probs(z)).numpy()  # [n B, K]
            total += shares.reshape(len(keys), len(batch), -1).sum(axis=0)  # [B, K]
        rows.append(total / num_samples)
    return np.concatenate(rows)
