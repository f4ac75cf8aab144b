"""How far an importance-sampled log-likelihood is below the model's own, and estimates that come closer.

Each function here answers for a set of images with a dictionary of plain numbers, a part of `evaluation.json`; nats, and
differences of the same images, whose standard error is far below that of the means.

Dimensions: B batch, N images, S importance samples, C chains.
"""

import time

import numpy as np
import tensorflow as tf

from vampzoo import config, random
from vampzoo.errors import InvalidValue
from vampzoo.evaluation import measures
from vampzoo.evaluation.annealing import AnnealedImportanceSampling
from vampzoo.evaluation.refinement import Refiner
from vampzoo.models.importance import ImportanceEstimate, compiled_importance_estimate, samples_tensor
from vampzoo.models.proposals import NoiseProposal

SUBSET = 100  # images of a check
CHECK_FACTOR = 10  # a check's samples, in samples of what it checks
LOOSE = 0.5  # nats by which an estimate may move before it is called loose

# Folded into the seed, so that no estimate has the draws of another, nor of what it was fitted with.
CHECK_DRAWS, FIT_DRAWS, REFINED_DRAWS, ANNEALING_DRAWS = range(1, 5)


def subset(num_images):
    """Indices of the images of a check, int [min(100, N)]: every (N / 100)th, beginning with the first."""
    size = min(SUBSET, num_images)
    return np.arange(size) * num_images // size


def batches(num_images, batch_size):
    """Indices, int32 [batches, B], of equal batches: one compiled program serves them all. The last image fills the last."""
    num_batches = -(-num_images // batch_size)
    rows = -(-num_images // num_batches)
    return np.minimum(np.arange(num_batches * rows, dtype=np.int32), num_images - 1).reshape(num_batches, rows)


def check(model, images, log_likelihoods, num_samples, seed=0, progress=None, kept=None, jit_compile=True):
    """The estimate with ten times the samples on 100 images, and by how much it lies above the one that is reported.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        images: [N, H, W, C].
        log_likelihoods: [N], nats, with `num_samples` samples.
        num_samples: S.
        seed: integer.
        progress, kept, jit_compile: as for `vampzoo.evaluation.importance_estimates`.

    Returns:
        check_num_images, check_num_samples, check_log_likelihood and check_difference, each of the latter with _stderr.
    """
    chosen = subset(len(images))
    more = min(CHECK_FACTOR * num_samples, config.MAX_IMPORTANCE_SAMPLES)
    draws = random.key(seed, CHECK_DRAWS)
    estimates = measures.importance_estimates(
        model, images[chosen], more, draws, progress, kept=kept, jit_compile=jit_compile
    )
    return {
        "check_num_images": len(chosen),
        "check_num_samples": more,
        **_compared("check", estimates.log_likelihood, log_likelihoods[chosen]),
    }


def refined_estimates(
    model, images, num_samples=500, steps=200, seed=0, progress=None, kept=None, batch_size=25, jit_compile=True
):
    """Importance-sampled log p(x) of every image from a proposal that is fitted to it (`vampzoo.evaluation.refinement`).

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        images: [N, H, W, C].
        num_samples: S.
        steps: gradient steps of the fit.
        seed: integer.
        progress, kept: as for `vampzoo.evaluation.importance_estimates`.
        batch_size: images that are fitted at once, and between two calls of `progress`.
        jit_compile: whether to compile with XLA.

    Returns:
        `vampzoo.models.importance.ImportanceEstimate` of NumPy [N], and the proposals, `NoiseProposal` of [N, M].

    Raises:
        InvalidValue: as for `vampzoo.evaluation.importance_estimates`, and for steps < 1.
    """
    images, samples = model.as_data(images).numpy(), samples_tensor(num_samples)
    if steps < 1:
        raise InvalidValue(f"steps must be at least 1, got {steps}")
    index = batches(len(images), batch_size)
    refine = Refiner(model, index.shape[1], steps, jit_compile)
    estimate = compiled_importance_estimate(model, jit_compile)
    prior_parameters = model.prior_parameters()
    fit_seed, seed = random.key(seed, FIT_DRAWS), random.key(seed, REFINED_DRAWS)
    sizes = list(model.latent_sizes.values())
    # The columns: an estimate's two, and a proposal's shifts and log-scales, layer by layer.
    values = np.zeros([0, len(ImportanceEstimate._fields) + 2 * sum(sizes)], np.float32)
    if kept is not None and kept.values.shape[1:] == values.shape[1:]:
        values = kept.values[: len(kept.values) // index.shape[1] * index.shape[1]]  # whole batches
    report = progress or (lambda count: None)
    report(len(values))
    for first in index[len(values) // index.shape[1] :]:
        x = tf.constant(images[first])  # [B, H, W, C]
        proposal = refine(x, fit_seed, prior_parameters)
        of_batch = estimate(x, samples, seed, tf.constant(first[0]), prior_parameters, proposal)
        columns = [*(t[:, tf.newaxis] for t in of_batch), *proposal.shift.values(), *proposal.log_scale.values()]
        values = np.concatenate([values, tf.concat(columns, axis=1)])
        report(len(np.unique(first)))
        if kept is not None:
            kept.update(values)
    estimates, shifts, log_scales = np.split(values[: len(images)], [2, 2 + sum(sizes)], axis=1)

    def by_layer(t):
        return dict(zip(model.latent_sizes, np.split(t, np.cumsum(sizes)[:-1], axis=1), strict=True))  # [N, M] each

    return ImportanceEstimate(*estimates.T), NoiseProposal(by_layer(shifts), by_layer(log_scales))


def refined(
    model, images, log_likelihoods, num_samples=500, steps=200, seed=0, progress=None, kept=None, jit_compile=True
):
    """What `refined_estimates` says beside the log-likelihoods from q(z|x).

    Args:
        log_likelihoods: [N], nats, from q(z|x).
        model, images, num_samples, steps, seed, progress, kept, jit_compile: as for `refined_estimates`.

    Returns:
        A dictionary: refined_log_likelihood and refined_difference (from `log_likelihoods`), each with _stderr,
        refined_num_samples, refined_steps, refined_effective_samples_median and _below_10, for grey images
        refined_bits_per_dimension, refined_seconds. And the estimates and proposals of `refined_estimates`.
    """
    start, before = time.monotonic(), 0.0 if kept is None else kept.seconds
    estimates, proposals = refined_estimates(
        model, images, num_samples, steps, seed, progress, kept, jit_compile=jit_compile
    )
    more = measures.effective_samples(estimates) | measures.bits_per_dimension(model, estimates.log_likelihood)
    result = {
        **_compared("refined", estimates.log_likelihood, log_likelihoods),
        "refined_num_samples": num_samples,
        "refined_steps": steps,
        **{f"refined_{key}": value for key, value in more.items()},
        "refined_seconds": round(before + time.monotonic() - start, 1),
    }
    return result, estimates, proposals


def annealed_log_weights(
    model, images, steps=200, seed=0, proposals=None, progress=None, batch_size=20, jit_compile=True
):
    """Log-weights of annealed importance sampling (`vampzoo.evaluation.annealing`), NumPy [N, C], nats.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        images: [N, H, W, C].
        steps: T.
        seed: integer.
        proposals: where the walks begin, a `NoiseProposal` of [N, M]; None is q(z|x).
        progress: as for `vampzoo.evaluation.importance_estimates`.
        batch_size: images that are computed at once, and between two calls of `progress`.
        jit_compile: whether to compile with XLA.

    Raises:
        InvalidValue: for what are no images of this model, or none, and for steps < 1.
    """
    images = model.as_data(images).numpy()
    if steps < 1:
        raise InvalidValue(f"steps must be at least 1, got {steps}")
    sampler = AnnealedImportanceSampling(model, steps, jit_compile)
    prior_parameters = model.prior_parameters()
    parts = []
    for first in batches(len(images), batch_size):
        x, of_batch = tf.constant(images[first]), None
        if proposals is not None:
            of_batch = tf.nest.map_structure(lambda t, first=first: tf.constant(t[first]), proposals)
        parts.append(sampler(x, random.key(seed, ANNEALING_DRAWS, first[0]), prior_parameters, of_batch))
        if progress is not None:
            progress(len(np.unique(first)))
    return np.concatenate(parts)[: len(images)]


def annealed(model, images, log_likelihoods, steps=200, seed=0, proposals=None, progress=None, jit_compile=True):
    """The AIS estimate on 100 images, and by how much it lies above another estimate of theirs.

    Args:
        images: [N, H, W, C], of which `subset` takes 100.
        log_likelihoods: [N], nats: the estimates to confirm.
        proposals: `NoiseProposal` of [N, M], or None.
        model, steps, seed, progress, jit_compile: as for `annealed_log_weights`.

    Returns:
        A dictionary: ais_log_likelihood and ais_difference (from `log_likelihoods`), each with _stderr, ais_num_images,
        ais_num_chains, ais_steps, ais_seconds, and ais_spread, the mean over images of the standard deviation of an
        image's log-weights: well below 1 in a walk that is slow enough.
    """
    start = time.monotonic()
    chosen = subset(len(images))
    if proposals is not None:
        proposals = tf.nest.map_structure(lambda t: t[chosen], proposals)
    log_weights = annealed_log_weights(
        model, images[chosen], steps, seed, proposals, progress, jit_compile=jit_compile
    ).astype(np.float64)
    estimates = np.logaddexp.reduce(log_weights, axis=1) - np.log(log_weights.shape[1])  # [N]
    return {
        "ais_num_images": len(chosen),
        "ais_num_chains": log_weights.shape[1],
        "ais_steps": steps,
        **_compared("ais", estimates, log_likelihoods[chosen]),
        "ais_spread": float(log_weights.std(axis=1, ddof=1).mean()),
        "ais_seconds": round(time.monotonic() - start, 1),
    }


def _compared(name, values, others):
    """Mean and standard error of values [N], nats, and of their differences from others [N]."""
    result = {}
    for key, numbers in (("log_likelihood", values), ("difference", np.asarray(values, np.float64) - others)):
        mean, error = measures.mean_and_standard_error(numbers)
        result |= {f"{name}_{key}": mean, f"{name}_{key}_stderr": error}
    return result
