"""Likelihoods that can be had exactly: linear-Gaussian models with one, two and three layers."""

import numpy as np
import pytest
import tensorflow as tf
from linear_gaussian import IMAGES, exact_log_likelihood, one_layer, three_layers, two_layers

from vampzoo import config, distributions, models, objectives, random
from vampzoo.models.importance import importance_estimate

SEED = random.key(5)

layers = pytest.mark.parametrize("make", [one_layer, two_layers, three_layers])


@layers
def test_with_the_exact_posterior_every_sample_gives_the_exact_likelihood(make):
    model, *moments = make()
    exact = exact_log_likelihood(model, *moments)
    for seed in range(3):
        np.testing.assert_allclose(model.elbo(IMAGES, seed=seed), exact, atol=2e-5)
    for chunk in (2, 1000):  # so neither the number of samples nor the chunks can matter
        model.importance_chunk = chunk
        np.testing.assert_allclose(importance_estimate(model, IMAGES, 5, SEED).log_likelihood, exact, atol=2e-5)


@layers
@pytest.mark.parametrize("prior", ["standard", "mog", "vampprior"])
def test_importance_sampling_gives_the_exact_likelihood(make, prior):
    model, *moments = make(prior, widened=1.8, shifted=0.2)
    estimate = model.log_likelihood(IMAGES, num_samples=20_000, seed=1, jit_compile=False)
    np.testing.assert_allclose(estimate, exact_log_likelihood(model, *moments), atol=0.05)


@layers
def test_the_bound_grows_from_the_elbo_to_the_likelihood(make):
    model, *moments = make(widened=1.5, shifted=0.5)
    exact = exact_log_likelihood(model, *moments)[0]
    copies = np.repeat(IMAGES[:1], 100, axis=0)
    elbo = model.elbo(copies, seed=1).mean()
    bounds = [model.log_likelihood(copies, s, seed=2, jit_compile=False).mean() for s in (1, 5, 200)]
    assert bounds[0] == pytest.approx(elbo, abs=0.4)  # one sample is the ELBO, by other draws
    assert max(elbo, bounds[0]) < bounds[1] < bounds[2] < exact + 0.02


@layers
def test_chunks_are_summed_over_exactly_the_samples_asked_for(make):
    model, *_ = make(widened=1.5)
    model.importance_chunk = 8
    chunk_size, num_chunks, num_samples = 7, 3, 20  # three equal chunks hold 21: one draw too many
    for i, bound in enumerate(importance_estimate(model, IMAGES, num_samples, SEED).log_likelihood.numpy()):
        image_seed = random.fold_in(SEED, i)
        noise = [model.draw_noise(chunk_size, random.fold_in(image_seed, c)) for c in range(num_chunks)]
        log_weights = tf.concat([model.elbo_terms(IMAGES[i : i + 1], n).log_weight for n in noise], 0)
        assert bound == pytest.approx(float(objectives.importance_bound(log_weights[:num_samples])), abs=1e-5)


@layers
def test_an_image_does_not_notice_its_batch(make):
    model, *_ = make(widened=1.5)
    whole = importance_estimate(model, IMAGES, 10, SEED).log_likelihood.numpy()
    parts = [importance_estimate(model, IMAGES[a:b], 10, SEED, first_index=a) for a, b in ((0, 1), (1, 4))]
    np.testing.assert_allclose(whole, np.concatenate([part.log_likelihood for part in parts]), atol=1e-5)


def test_xla_changes_nothing_but_the_speed():
    model, *_ = two_layers("vampprior", widened=1.5)
    plain, compiled = (model.log_likelihood(IMAGES, 30, seed=3, jit_compile=jit) for jit in (False, True))
    assert plain.shape == (4,)
    np.testing.assert_allclose(plain, compiled, atol=1e-4)


def test_a_mixture_is_evaluated_around_the_posterior_in_the_bound(monkeypatch):
    """The way that costs a third must be the one that importance sampling takes, in a graph in which B is unknown."""
    counts = {"around": 0, "plain": 0}
    for name, method in (("around", "log_prob_around"), ("plain", "_log_prob")):
        original = getattr(distributions.DiagonalGaussianMixture, method)

        def counted(self, *args, name=name, original=original):
            counts[name] += 1
            return original(self, *args)

        monkeypatch.setattr(distributions.DiagonalGaussianMixture, method, counted)
    model = models.create(
        config.ModelConfig(image_shape=(4, 5, 1), num_components=6, hidden_units=8, z1_size=3, z2_size=2)
    )
    x = np.zeros([3, 4, 5, 1], np.float32)
    for jit_compile in (False, True):
        assert np.isfinite(model.log_likelihood(x, 7, jit_compile=jit_compile)).all()
    assert counts["around"] >= 2 and counts["plain"] == 0


def test_importance_bound_of_log_weights():
    log_weights = tf.constant([[0.0, -900.0], [np.log(3.0), -900.0]], tf.float32)
    np.testing.assert_allclose(objectives.importance_bound(log_weights), [np.log(2.0), -900.0], rtol=1e-6)


def test_equal_weights_count_all_and_one_that_towers_counts_once():
    model, *_ = one_layer()  # with the exact posterior all weights are p(x)
    estimate = importance_estimate(model, IMAGES, 50, SEED)
    np.testing.assert_allclose(estimate.effective_samples, 50, rtol=1e-3)

    def one_towers(x, noise, prior_parameters, proposal):
        return tf.concat([[1000.0], tf.zeros(len(noise["z"]) - 1)], axis=0)

    estimate = importance_estimate(model, IMAGES, 50, SEED, log_weights=one_towers)
    np.testing.assert_allclose(estimate.effective_samples, 1, rtol=1e-3)
    np.testing.assert_allclose(estimate.log_likelihood, 1000 - np.log(50), rtol=1e-6)


def test_effective_samples_are_those_of_the_weights_over_all_chunks():
    model, *_ = two_layers(widened=1.5)
    model.importance_chunk = 8
    estimate = importance_estimate(model, IMAGES[:1], 20, SEED)
    noise = [model.draw_noise(7, random.fold_in(random.fold_in(SEED, 0), c)) for c in range(3)]
    log_weights = np.concatenate([model.elbo_terms(IMAGES[:1], n).log_weight for n in noise])[:20]
    weights = np.exp(log_weights.astype(np.float64) - log_weights.max())
    assert float(estimate.effective_samples[0]) == pytest.approx(weights.sum() ** 2 / (weights**2).sum(), rel=1e-3)


@pytest.mark.parametrize(("level", "num_samples"), [(-3000.0, 500_000), (-147_000.0, 5000)])
def test_small_chunks_of_images_with_many_pixels_are_not_lost_in_the_sum(level, num_samples):
    """The weights are all alike, so that the estimate is exact: float32 would not see what a chunk adds."""
    model, *_ = one_layer()
    model.importance_chunk = num_samples // 400
    estimate = importance_estimate(
        model, IMAGES[:1], num_samples, SEED, log_weights=lambda x, noise, *_: tf.fill([len(noise["z"])], level)
    )
    np.testing.assert_allclose(estimate.log_likelihood, level, atol=0.02)
    np.testing.assert_allclose(estimate.effective_samples, num_samples, rtol=1e-3)
