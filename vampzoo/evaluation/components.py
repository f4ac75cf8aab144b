"""Which components of the prior are in use, and what the ELBO consists of.

The ELBO, averaged over images, is (Eq. 4-6 of the paper, and for a hierarchy the rates of the layers below)

    E_x E_q[ln p(x|z)]  +  E_x H[q(z|x)]  -  E_q(z)[-ln p(z)]  -  rates below
    reconstruction         entropy           cross-entropy of prior and aggregated posterior, q(z) = 1/N sum_n q(z|x_n)

and the rate of z, its cross-entropy minus its entropy, is I(x; z) + KL(q(z) || p(z)) (Hoffman and Johnson, 2016). z is
the top layer throughout, the one that the prior is over.

Dimensions: N images, S draws an image, K components, M latents of the top layer. Everything in nats.
"""

import numpy as np
import tensorflow as tf

from vampzoo import random
from vampzoo.distributions import DiagonalGaussianMixture
from vampzoo.evaluation.averages import mean_and_standard_error
from vampzoo.models.components import top_layer

AGGREGATED_IMAGES = 1000  # that make up the aggregated posterior: the cost grows with their square
AGGREGATED_SAMPLES = 10  # draws of each
PARTS = ("reconstruction", "entropy", "cross_entropy", "rates_below", "mutual_information", "marginal_kl")


def usage_of(responsibilities):
    """How many components are in use.

    The effective number is the exponential of the entropy of the mean responsibility: K if all are used alike, 1 if one
    explains everything. A component is dead if it has the largest responsibility for none of the images; of N < K images
    at least K - N are.

    Args:
        responsibilities: NumPy [N, K], rows that sum to 1.

    Returns:
        {"effective_components": float, "dead_components": int}.
    """
    used = np.unique(responsibilities.argmax(axis=1))
    return {
        "effective_components": effective_number(responsibilities.mean(axis=0)),
        "dead_components": int(responsibilities.shape[1] - len(used)),
    }


def effective_number(usage):
    """The exponential of the entropy of shares [K] that sum to 1."""
    return float(np.exp(-np.sum(usage * np.log(np.maximum(usage, np.finfo(np.float64).tiny)))))


def most_used(usage, num):
    """Indices of the `num` most used components, these first, of shares [K]."""
    return np.argsort(-usage, kind="stable")[:num]


def usage_title(usage, shown):
    """What a picture of pseudo-inputs says of them: how many are shown, in which order, how much of the data they explain.

    Args:
        usage: NumPy [K], as `component_usage` gives it.
        shown: indices of the components in the picture, as `most_used` gives them.
    """
    return (
        f"{len(shown)} of {len(usage)} pseudo-inputs, the most used first: from {usage[shown[0]]:.2%} to "
        f"{usage[shown[-1]]:.2%} of the images; effective number of components {effective_number(usage):.1f}"
    )


def advice(measures, prior, num_images):
    """What to do about dead components; None if at least half of those that could explain an image do.

    Components that share the images evenly are alike, not dead, whichever of them has the largest responsibility: the
    effective number counts, too.

    Args:
        measures: as `usage_of` gives them.
        prior: a `vampzoo.priors.MixturePrior` of K components.
        num_images: N: no more components than that can have the largest responsibility for one.
    """
    used, effective = prior.num_components - measures["dead_components"], measures["effective_components"]
    if 2 * max(used, effective) >= min(prior.num_components, num_images):
        return None
    remedies = ["a smaller --num_components costs less"]
    if prior.has_pseudo_inputs and not prior.began_as_data:
        remedies.insert(0, "--pseudo_inputs_from_data starts pseudo-inputs at training images")
    if not prior.weighted:
        remedies.insert(0, "--weighted draws each as often as it is used (Eq. 16)")
    return (
        f"{used} of the prior's {prior.num_components} components explain all of {num_images} validation images (effective "
        f"number {effective:.1f}){'' if prior.weighted else ', but samples come from the others, too'}: "
        + ", ".join(remedies)
    )


def mixture_usage(model, images, num_samples=10, seed=0):
    """`usage_of` a model on images [N, H, W, C]; {} if its prior is no mixture. Arguments as for `responsibilities`."""
    if not model.prior_layer.has_components:
        return {}
    return usage_of(model.responsibilities(images, num_samples, seed))


def decomposition(model, images, terms, seed=0):
    """The parts of the ELBO, with standard errors over images.

    Entropies are exact (of the two-level VAE that of q(z2|z1) is at a draw of z1); the cross-entropy is estimated as rate +
    entropy, so that the parts sum to the ELBO of `terms`:

        elbo = reconstruction + entropy - cross_entropy - rates_below

    The mutual information is estimated on `AGGREGATED_IMAGES` images, evenly spaced among these, whose own mixture of
    posteriors stands for q(z); it cannot exceed the logarithm of their number (`mutual_information_limit`). With
    `marginal_kl`, KL(q(z) || p(z)), it adds up to those images' rate. Neither exists for a model without q(z|x) in closed
    form (`deep_vae`).

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        images: [N, H, W, C] float32.
        terms: of these images, as `vampzoo.evaluation.DatasetElbo` gives them.
        seed: integer that decides the draws for the mutual information.

    Returns:
        A dictionary of plain numbers; each estimate NAME comes with NAME_stderr.
    """
    top, *below = model.latent_sizes
    entropy = np.concatenate(
        [
            _entropies(model, images[first : first + 500], random.key(seed, first))
            for first in range(0, len(images), 500)
        ]
    )  # [N]
    parts = {
        "reconstruction": -terms["distortion"],
        "entropy": entropy,
        "cross_entropy": terms[f"rate_{top}"] + entropy,
        **({"rates_below": sum(terms[f"rate_{name}"] for name in below)} if below else {}),
    }
    result = _with_errors(parts)
    if model.prior_encoder is not None:
        result |= _mutual_information(model, images, seed)
    return result


def _with_errors(parts):
    """{name: mean, name_stderr: standard error} of {name: [N]}."""
    result = {}
    for name, values in parts.items():
        result[name], result[f"{name}_stderr"] = mean_and_standard_error(values)
    return result


def _entropies(model, x, seed):
    """H[q(z|x)] of the top layer, NumPy [N]."""
    posterior, _ = top_layer(model, x, model.draw_noise(len(x), seed))
    return posterior.entropy().numpy()


def _mutual_information(model, images, seed):
    chosen = np.linspace(0, len(images) - 1, min(len(images), AGGREGATED_IMAGES)).round().astype(int)
    x = images[chosen]
    prior = model.prior()
    seed = random.key(seed, AGGREGATED_IMAGES)
    log_ratios = np.zeros((2, len(x)))  # ln q(z|x) - ln q(z), and ln q(z) - ln p(z)
    for s in range(AGGREGATED_SAMPLES):
        q_z_x, z = top_layer(model, x, model.draw_noise(len(x), random.fold_in(seed, s)))
        aggregated = DiagonalGaussianMixture(tf.zeros([len(x)]), q_z_x.loc, q_z_x.log_var)
        log_conditional, log_aggregated, log_prior = (
            p.log_prob(z).numpy().astype(np.float64) for p in (q_z_x, aggregated, prior)
        )
        log_ratios += np.stack([log_conditional - log_aggregated, log_aggregated - log_prior]) / AGGREGATED_SAMPLES
    return {
        **_with_errors({"mutual_information": log_ratios[0], "marginal_kl": log_ratios[1]}),
        "mutual_information_limit": float(np.log(len(x))),
        "mutual_information_images": len(x),
        "mutual_information_samples": AGGREGATED_SAMPLES,
    }
