"""What a trained model is worth: ELBO, importance-sampled log-likelihood, active units (section 5.2).

Dimensions: B batch, N images, S importance samples. Everything in nats, and bits per dimension for grey images.
"""

import time

import numpy as np
import tensorflow as tf

from vampzoo import objectives, random
from vampzoo.errors import InvalidValue
from vampzoo.evaluation import components
from vampzoo.evaluation.averages import mean_and_standard_error
from vampzoo.models.importance import ImportanceEstimate, compiled_importance_estimate, on_one_device, samples_tensor

BATCH_SECONDS = 2.0  # a batch of images whose results are kept should not take longer
ACTIVE_UNIT_THRESHOLD = 0.01  # variance over the data of the posterior mean (Burda et al., 2016)


class DatasetElbo:
    """The ELBO terms of every image of a dataset, compiled once for many calls.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        images: [N, H, W, C] float32.
        batch_size: how many samples are computed at once: B images with k each.
        num_samples: k, how many samples of the latents are drawn for each image.
        jit_compile: whether to compile with XLA.
        map_rows: called as `map_rows(function, *batches)`, splits the rows of a batch over several devices.
    """

    def __init__(self, model, images, batch_size=500, jit_compile=True, map_rows=on_one_device, num_samples=1):
        self.names = ["distortion", *(f"rate_{name}" for name in model.latent_sizes), "importance_bound"]
        self.num_images = len(images)
        num_batches = max(1, -(-self.num_images * num_samples // batch_size))
        rows = -(-self.num_images // num_batches)  # equal batches: one compiled program serves them all
        num_batches = max(1, -(-self.num_images // rows))  # fewer may do, where a batch is an image or two
        images = tf.constant(images)

        @tf.function(jit_compile=jit_compile, autograph=False)
        def batch_terms(x, noise, prior_parameters):
            terms = model.elbo_terms(x, noise, prior_parameters, num_samples=num_samples)  # of [B k]
            terms = tf.nest.map_structure(lambda t: tf.reshape(t, [-1, num_samples]), terms)  # [B, k]
            means = [tf.reduce_mean(t, axis=1) for t in (terms.distortion, *terms.rates.values())]
            return tf.stack([*means, objectives.importance_bound(terms.log_weight, axis=1)], axis=1)  # [B, 1 + L + 1]

        @tf.function(autograph=False)
        def all_terms(seed):
            prior_parameters = tf.function(model.prior_parameters, jit_compile=jit_compile, autograph=False)()

            def of_batch(i):
                x = tf.gather(images, tf.minimum(i * rows + tf.range(rows), self.num_images - 1))  # [B, H, W, C]
                noise = model.draw_noise(rows * num_samples, random.fold_in(seed, i))  # [B k, M] a layer
                terms = map_rows(lambda x, noise: batch_terms(x, noise, prior_parameters), x, noise)
                return tf.ensure_shape(terms, [rows, len(self.names)])

            signature = tf.TensorSpec([rows, len(self.names)], tf.float32)
            batches = tf.map_fn(of_batch, tf.range(num_batches), fn_output_signature=signature, parallel_iterations=1)
            return tf.reshape(batches, [-1, len(self.names)])[: self.num_images]  # [N, 1 + L + 1]

        self._all_terms = all_terms

    def __call__(self, seed):
        """Returns {"distortion": [N], "rate_z2": [N], ..., "elbo": [N], "importance_bound": [N]}, NumPy.

        Args:
            seed: int32 [2].
        """
        values = self._all_terms(seed).numpy()
        terms = dict(zip(self.names, values.T, strict=True))
        return {**terms, "elbo": -values[:, :-1].sum(axis=1)}


def importance_estimates(
    model,
    images,
    num_samples=5000,
    seed=0,
    progress=None,
    batch_size=20,
    map_rows=on_one_device,
    kept=None,
    jit_compile=True,
):
    """Importance-sampled log p(x) of every image, and how many of its samples count.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        images: [N, H, W, C].
        num_samples: S.
        seed: integer.
        progress: called with the number of further images done: first of those that were kept, then of each batch; or None.
        batch_size: the most images between two calls of `progress`.
        map_rows: as for `DatasetElbo`.
        kept: a `vampzoo.evaluation.PartialResults` to go on from and to keep results in; None: none.
        jit_compile: whether to compile with XLA.

    Returns:
        `vampzoo.models.importance.ImportanceEstimate` of NumPy [N].

    Raises:
        InvalidValue: for what are no images of this model: another shape, values out of [0, 1], NaN, grey values under a
            Bernoulli; for none; for num_samples < 1 or more than 2^31 - 1.
    """
    images, samples, key = model.as_data(images).numpy(), samples_tensor(num_samples), random.key(seed)
    estimate = compiled_importance_estimate(model, jit_compile, map_rows)
    prior_parameters = model.prior_parameters()
    num_columns = len(ImportanceEstimate._fields)
    values = np.zeros([0, num_columns], np.float32)  # [n, columns]
    if kept is not None and kept.values.shape[1:] == (num_columns,):
        values = kept.values[: len(images)]
    report = progress or (lambda count: None)
    report(len(values))
    # With results to keep, no more images at once than a few seconds need: what is under way is lost with an interruption.
    rows = batch_size if kept is None else 1
    while (first := len(values)) < len(images):
        begin = time.monotonic()
        x = tf.constant(images[first : first + rows])
        columns = [t.numpy() for t in estimate(x, samples, key, tf.constant(first), prior_parameters)]
        values = np.concatenate([values, np.stack(columns, axis=1)])
        report(len(x))
        if kept is not None:
            kept.update(values)
            rows = min(batch_size, 2 * rows) if time.monotonic() - begin < BATCH_SECONDS else max(1, rows // 2)
    return ImportanceEstimate(*values.T)


def log_likelihood(model, images, **how):
    """Importance-sampled log p(x) of every image, NumPy [N], nats; arguments as for `importance_estimates`."""
    return importance_estimates(model, images, **how).log_likelihood


def active_units(model, images, num_samples=10, seed=0, batch_size=500):
    """Active units of each layer: the variance over the data of the posterior mean exceeds 0.01 (section 5.2).

    The mean of z1 is that of q(z1|x, z2) averaged over q(z2|x), which `num_samples` draws of z2 only estimate: what the
    draws vary by within an image, divided by their number, is in the variance over images, too, and is subtracted. So
    the estimate of the variance is unbiased, and a unit that follows z2 alone does not count as active.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        images: [N, H, W, C].
        num_samples: draws of the layers above, at least 2.
        seed: integer.
        batch_size: images at once.

    Returns:
        {layer: NumPy bool [M]}.

    Raises:
        InvalidValue: for fewer than two images or draws, which have no variance, and for what are no images of the model.
    """
    variances = variances_of_means(model, images, num_samples, seed, batch_size)
    return {name: variance > ACTIVE_UNIT_THRESHOLD for name, variance in variances.items()}


def variances_of_means(model, images, num_samples=10, seed=0, batch_size=500):
    """The unbiased variance over images of each latent's posterior mean: {layer: NumPy [M]}. As for `active_units`."""
    images = model.as_images(images).numpy()
    for what, number in (("images", len(images)), ("num_samples", num_samples)):
        if number < 2:
            raise InvalidValue(f"active units need at least 2 {what}, got {number}: one has no variance")

    @tf.function(autograph=False)
    def batch_moments(x, seed):
        draws = []
        for s in range(num_samples):
            noise = model.draw_noise(tf.shape(x)[0], random.fold_in(seed, s))
            draws.append({name: q.mean() for name, q in model.posterior(x, noise).items()})
        stacked = tf.nest.map_structure(lambda *t: tf.cast(tf.stack(t), tf.float64), *draws)  # {layer: [S, B, M]}
        return {
            name: (tf.reduce_mean(t, axis=0), tf.math.reduce_variance(t, axis=0) * num_samples / (num_samples - 1))
            for name, t in stacked.items()
        }  # {layer: ([B, M], [B, M])}, mean and unbiased variance over the draws

    parts = [
        batch_moments(tf.constant(images[first : first + batch_size]), random.key(seed, first))
        for first in range(0, len(images), batch_size)
    ]
    variances = {}
    for name in model.latent_sizes:
        means, within = (np.concatenate([part[name][i] for part in parts]) for i in (0, 1))  # [N, M]
        variances[name] = means.var(axis=0, ddof=1) - within.mean(axis=0) / num_samples
    return variances


FEW_SAMPLES = 10  # effective samples of an image below which its estimate hangs on a handful of draws


def effective_samples(estimates):
    """What evaluation.json says of the effective samples of an `ImportanceEstimate` of N images: median, share below 10."""
    return {
        "effective_samples_median": float(np.median(estimates.effective_samples)),
        "effective_samples_below_10": float(np.mean(estimates.effective_samples < FEW_SAMPLES)),
    }


def bits_per_dimension(model, log_likelihoods):
    """What evaluation.json says of log-likelihoods [N] in bits per dimension: mean and _stderr; {} for binary images."""
    if model.likelihood == "bernoulli":
        return {}
    bits = objectives.bits_per_dimension(log_likelihoods.astype(np.float64), int(np.prod(model.image_shape)))
    mean, error = mean_and_standard_error(bits)
    return {"bits_per_dimension": mean, "bits_per_dimension_stderr": error}


def evaluate(
    model, images, num_samples=5000, seed=0, progress=None, map_rows=on_one_device, kept=None, jit_compile=True
):
    """Everything that `evaluation.json` says about a model on a set of images.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        images: [N, H, W, C] float32.
        num_samples: S of the importance-sampled log-likelihood.
        seed: integer; the same seed gives the same numbers.
        progress, kept, jit_compile: as for `importance_estimates`.
        map_rows: as for `DatasetElbo`.

    Returns:
        A dictionary of plain numbers (nats), and the log-likelihoods [N]. Its `seconds` are those of all sessions of an
        evaluation that was interrupted. Of one image there are no active units.

    Raises:
        InvalidValue: as for `importance_estimates`, before anything is computed.
    """
    images = model.as_data(images).numpy()
    samples_tensor(num_samples)  # for its checks
    start, before = time.monotonic(), 0.0 if kept is None else kept.seconds
    terms = DatasetElbo(model, images, jit_compile=jit_compile, map_rows=map_rows)(random.key(seed))
    estimates = importance_estimates(
        model, images, num_samples, seed, progress, map_rows=map_rows, kept=kept, jit_compile=jit_compile
    )
    log_likelihoods = estimates.log_likelihood
    result = {"num_images": len(images), "num_samples": num_samples, "seed": seed}
    result["elbo"], result["elbo_stderr"] = mean_and_standard_error(terms["elbo"])
    result["distortion"] = float(terms["distortion"].mean())
    result["rates"] = {name: float(terms[f"rate_{name}"].mean()) for name in model.latent_sizes}
    result["rate"] = sum(result["rates"].values())
    result["log_likelihood"], result["log_likelihood_stderr"] = mean_and_standard_error(log_likelihoods)
    result |= effective_samples(estimates)
    result |= bits_per_dimension(model, log_likelihoods)
    if len(images) > 1:
        units = active_units(model, images, seed=seed)
        result["active_units"] = {name: int(active.sum()) for name, active in units.items()}
    result["latents"] = dict(model.latent_sizes)
    result |= components.mixture_usage(model, images, seed=seed)
    result["decomposition"] = components.decomposition(model, images, terms, seed)
    result["seconds"] = round(before + time.monotonic() - start, 1)
    return result, log_likelihoods
