"""The importance-sampled log-likelihood (section 5.2; Burda et al., 2016): one driver for methods, evaluation and serving.

Dimensions: B images, S importance samples, M latents of a layer, (H, W, C) image. Log-densities in nats.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from vampzoo import random
from vampzoo.config import check_num_samples


class ImportanceEstimate(NamedTuple):
    """What S importance samples say of each image."""

    log_likelihood: tf.Tensor  # [B], nats: log 1/S sum_s w_s
    effective_samples: tf.Tensor  # [B]: (sum_s w_s)^2 / sum_s w_s^2, 1 if one sample carries all, S if all are equal


def on_one_device(function, *batches):
    """The simplest way to map over the rows of a batch (`vampzoo.training.map_rows_over_replicas` gives others)."""
    return function(*batches)


def importance_estimate(
    model, x, num_samples, seed, first_index=0, prior_parameters=None, log_weights=None, proposal=None
):
    """log 1/S sum_s p(x|z1,z2) p(z1|z2) p(z2) / (q(z1|x,z2) q(z2|x)), per image and in graph mode.

    One image at a time: all its samples share the work that depends on x alone. The draws are made out here
    and handed to `log_weights`, as XLA is slow at random numbers on a CPU.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        x: [B, H, W, C].
        num_samples: S, scalar int32.
        seed: int32 [2].
        first_index: index of the first image in the whole dataset: an image's draws depend on its own index, not on
            how the dataset is cut into batches.
        prior_parameters: result of `model.prior_parameters`, to encode the pseudo-inputs once for many calls.
        log_weights: `model.log_weights`, or that function compiled.
        proposal: what to draw from in place of q(z1,z2|x), a `vampzoo.models.proposals.NoiseProposal` of B rows.

    Returns:
        An `ImportanceEstimate`.
    """
    parameters = model.prior_parameters() if prior_parameters is None else prior_parameters
    log_weights = log_weights or model.log_weights
    chunk = tf.minimum(model.importance_chunk, num_samples)
    num_chunks = -(-num_samples // chunk)
    # Equal chunks, so that one compiled program serves them all; the few draws beyond S get weight 0.
    chunk = -(-num_samples // num_chunks)

    def one_image(i):
        # That it is one must be known when the graph is made: see `distributions.log_prob_of_draws`.
        x_i = tf.ensure_shape(x[i : i + 1], [1, *model.image_shape])  # [1, H, W, C]
        of_image = None if proposal is None else proposal.rows(i, i + 1)
        image_seed = random.fold_in(seed, first_index + i)

        def with_chunk(c, totals):
            """`totals`: log sum_s w_s and log sum_s w_s^2 of the samples before, [2].

            In float64: of images of many pixels, what a chunk adds is less than float32 resolves of such a sum.
            """
            noise = model.draw_noise(chunk, random.fold_in(image_seed, c))  # {layer: [chunk, M]}
            log_w = log_weights(x_i, noise, parameters, of_image)  # [chunk]
            log_w = tf.where(c * chunk + tf.range(chunk) < num_samples, tf.cast(log_w, tf.float64), -np.inf)
            of_chunk = tf.reduce_logsumexp(tf.stack([log_w, 2 * log_w]), axis=1)  # [2]
            return c + 1, tf.reduce_logsumexp(tf.stack([totals, of_chunk]), axis=0)  # [2]

        return tf.while_loop(lambda c, _: c < num_chunks, with_chunk, (tf.constant(0), nothing))[1]

    nothing = tf.fill([2], tf.constant(-np.inf, tf.float64))
    totals = tf.map_fn(one_image, tf.range(tf.shape(x)[0]), fn_output_signature=tf.float64, parallel_iterations=1)
    log_sum, log_sum_of_squares = totals[:, 0], totals[:, 1]  # [B] each
    return ImportanceEstimate(
        log_likelihood=tf.cast(log_sum - tf.math.log(tf.cast(num_samples, tf.float64)), tf.float32),
        effective_samples=tf.cast(tf.exp(2 * log_sum - log_sum_of_squares), tf.float32),
    )


def samples_tensor(num_samples):
    """S as a scalar int32 tensor.

    Raises:
        InvalidValue: for S < 1 or more than 2^31 - 1.
    """
    check_num_samples(num_samples)
    return tf.constant(int(num_samples), tf.int32)


def compiled_importance_estimate(model, jit_compile=True, map_rows=on_one_device):
    """`importance_estimate` of a model, compiled at its first call.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        jit_compile: whether XLA compiles the arithmetic, which takes seconds once and repays them after a few images.
        map_rows: called as `map_rows(function, *batches)`, splits the rows of a batch over several devices.

    Returns:
        A function (x [B, H, W, C], num_samples, seed [2], first_index, prior_parameters, proposal=None) ->
        `ImportanceEstimate`.
    """
    log_weights = tf.function(model.log_weights, jit_compile=jit_compile, autograph=False)

    @tf.function(reduce_retracing=True, autograph=False)  # of batches that differ in size
    def estimate(x, num_samples, seed, first_index, prior_parameters, proposal=None):
        def rows(x, index, proposal=None):
            estimate = importance_estimate(
                model, x, num_samples, seed, index[0], prior_parameters, log_weights, proposal
            )
            return tf.stack(estimate, axis=1)  # [B, 2]

        index = first_index + tf.range(tf.shape(x)[0])
        columns = map_rows(rows, x, index, *([] if proposal is None else [proposal]))  # [B, 2]
        return ImportanceEstimate(*tf.unstack(columns, num=len(ImportanceEstimate._fields), axis=1))

    return estimate
