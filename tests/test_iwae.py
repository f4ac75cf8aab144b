"""Several samples an image: their order, the importance-weighted objective, and selection on the bound."""

import numpy as np
import pytest
import tensorflow as tf

from vampzoo import evaluation, objectives, random
from vampzoo.config import TrainingConfig

MODELS = [
    ("vae", "vampprior"),
    ("hvae", "vampprior"),
    ("hvae", "standard"),
    ("deep_vae", "standard"),
    ("topdown_hvae", "vampprior"),
]


def terms_of(model, images, k, seed):
    """`ElboTerms` of [B, k]."""
    noise = model.draw_noise(len(images) * k, random.key(seed))
    terms = model.elbo_terms(images, noise, num_samples=k)
    return tf.nest.map_structure(lambda t: tf.reshape(t, [-1, k]), terms)


@pytest.mark.parametrize(("name", "prior"), MODELS)
def test_rows_of_an_image_are_neighbours(tiny_model, binary_images, name, prior):
    model, k = tiny_model(model=name, prior=prior), 3
    noise = model.draw_noise(7 * k, random.key(1))
    together = model.elbo_terms(binary_images, noise, num_samples=k).log_weight
    for s in range(k):
        alone = model.elbo_terms(binary_images, {layer: t[s::k] for layer, t in noise.items()}).log_weight
        np.testing.assert_allclose(together[s::k], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "prior"), MODELS)
@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_one_sample_of_iwae_is_the_elbo_with_its_gradient(tiny_model, binary_images, name, prior, beta):
    model = tiny_model(model=name, prior=prior)
    losses, gradients = [], []
    for objective in ("elbo", "iwae"):
        with tf.GradientTape() as tape:
            loss = objectives.training_loss(terms_of(model, binary_images, 1, 2), beta, objective)
        losses.append(loss)
        gradients.append(tape.gradient(loss, [v.value for v in model.trainable_variables]))
    np.testing.assert_allclose(*losses, rtol=1e-6)
    for elbo, iwae in zip(*gradients, strict=True):
        np.testing.assert_allclose(elbo, iwae, rtol=1e-4, atol=1e-6)


def test_gradient_is_the_weighted_mean_of_the_samples(tiny_model, binary_images):
    """d/dtheta log 1/k sum_s w_s = sum_s (w_s / sum w) d/dtheta log w_s (Burda et al., Eq. 13-14)."""
    model, k = tiny_model(), 4
    variables = [v.value for v in model.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        terms = terms_of(model, binary_images, k, 3)
        bound = -tf.reduce_sum(objectives.training_loss(terms, 1.0, "iwae"))
        shares = tf.stop_gradient(tf.nn.softmax(terms.log_weight, axis=1))  # [B, k]
        weighted = tf.reduce_sum(shares * terms.log_weight)
    for a, b in zip(tape.gradient(bound, variables), tape.gradient(weighted, variables), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_bound_grows_with_k_in_expectation(tiny_model, binary_images):
    model = tiny_model()
    means = [
        np.mean([objectives.training_loss(terms_of(model, binary_images, k, s), 1.0, "iwae") for s in range(30)])
        for k in (1, 4, 32)
    ]
    assert means[0] > means[1] > means[2]


def test_warm_up_scales_the_rate_in_each_log_weight():
    terms = objectives.ElboTerms(tf.constant([[1.0, 2.0]]), {"z": tf.constant([[4.0, 3.0]])})
    expected = -np.log(np.mean(np.exp([-(1.0 + 0.5 * 4.0), -(2.0 + 0.5 * 3.0)])))
    np.testing.assert_allclose(objectives.training_loss(terms, 0.5, "iwae"), [expected], rtol=1e-6)
    np.testing.assert_allclose(objectives.training_loss(terms, 0.5, "elbo"), [(3.0 + 3.5) / 2], rtol=1e-6)


@pytest.mark.parametrize("k", [1, 5])
def test_validation_gives_the_elbo_and_the_bound(tiny_model, binary_images, k):
    model = tiny_model()
    elbo = evaluation.DatasetElbo(model, binary_images, batch_size=6, jit_compile=False, num_samples=k)
    terms = elbo(random.key(1))
    assert terms["importance_bound"].shape == (7,)
    if k == 1:
        np.testing.assert_allclose(terms["elbo"], terms["importance_bound"], rtol=1e-6)
    else:
        assert (terms["importance_bound"] > terms["elbo"]).all()


def test_selection_on_a_bound_of_one_sample_is_refused():
    with pytest.raises(ValueError, match="selection_samples must be at least 2"):
        TrainingConfig(selection="importance_bound")
