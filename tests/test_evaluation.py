"""Evaluation: what evaluation.json says follows from the model alone, not from how the data is cut."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tiny_run

from vampzoo import evaluation, random
from vampzoo.config import ModelConfig
from vampzoo.evaluation import report
from vampzoo.models import create

CONFIG = ModelConfig(num_components=5, image_shape=(4, 4, 1), hidden_units=8, z1_size=3, z2_size=2)


@pytest.fixture(scope="module")
def model():
    return create(CONFIG, seed=1)


@pytest.fixture(scope="module")
def images():
    return (np.random.default_rng(0).random((11, 4, 4, 1)) < 0.4).astype(np.float32)


def test_elbo_is_the_negative_sum_of_its_terms_for_every_image(model, images):
    terms = evaluation.DatasetElbo(model, images, batch_size=4, jit_compile=False)(random.key(0))
    assert terms["elbo"].shape == (11,)
    np.testing.assert_allclose(terms["elbo"], -(terms["distortion"] + terms["rate_z2"] + terms["rate_z1"]), rtol=1e-6)


def test_elbo_is_the_same_with_and_without_xla(model, images):
    plain, compiled = (
        evaluation.DatasetElbo(model, images, batch_size=4, jit_compile=jit)(random.key(0)) for jit in (False, True)
    )
    np.testing.assert_allclose(plain["elbo"], compiled["elbo"], rtol=1e-4)


def test_log_likelihood_does_not_depend_on_the_batches(model, images):
    whole = evaluation.log_likelihood(model, images, num_samples=30, seed=3, batch_size=11, jit_compile=False)
    cut = evaluation.log_likelihood(model, images, num_samples=30, seed=3, batch_size=4, jit_compile=False)
    np.testing.assert_allclose(whole, cut, rtol=1e-6)
    other = evaluation.log_likelihood(model, images, num_samples=30, seed=4, batch_size=11, jit_compile=False)
    assert not np.allclose(whole, other)


def test_progress_counts_every_image_once(model, images):
    done = []
    evaluation.log_likelihood(model, images, num_samples=2, batch_size=4, progress=done.append, jit_compile=False)
    assert sum(done) == len(images)


def test_units_that_ignore_the_data_are_not_active(model, images):
    """With the mean head of q(z2|x) at zero but for one unit that follows the image's ink, one unit is active."""
    altered = create(CONFIG, seed=1)
    kernel, bias = altered.q_z2_network.get_layer("mean").get_weights()
    silent = np.zeros_like(kernel)
    silent[:, 1] = 100 * kernel[:, 1]
    altered.q_z2_network.get_layer("mean").set_weights([silent, bias])
    units = evaluation.active_units(altered, images)
    assert units["z2"].tolist() == [False, True]
    assert units["z1"].shape == (3,)


@pytest.fixture
def noisy(images):
    """A model whose means of q(z1|x, z2) vary by 0.3 within one image, from the draws of z2."""
    altered = create(CONFIG, seed=1)
    head = altered.q_z1_network.get_layer("mean")
    kernel, _ = head.get_weights()
    same = tf.constant(np.repeat(images[:1], 2000, axis=0))
    means = altered.posterior(same, altered.draw_noise(2000, random.key(9)))["z1"].mean().numpy()
    head.set_weights([kernel * np.sqrt(0.3 / means.var(axis=0)), np.zeros(3, np.float32)])
    return altered


def test_units_that_follow_the_layer_above_alone_are_not_active(noisy, images):
    """All images alike: whatever the mean of q(z1|x, z2) varies by is the noise of z2, not the data."""
    same = np.repeat(images[:1], 2000, axis=0)
    draws = [noisy.posterior(tf.constant(same), noisy.draw_noise(2000, random.key(s)))["z1"].mean() for s in range(10)]
    assert (np.var(np.mean(draws, axis=0), axis=0) > 0.02).all()  # what is in the draws alone, twice the threshold
    assert not evaluation.active_units(noisy, same)["z1"].any()


def test_the_variance_of_means_is_unbiased(noisy, images):
    """Two draws, of each image again and again, say what thirty say. Uncorrected they would say 0.15 more."""
    exact = evaluation.variances_of_means(noisy, images, num_samples=30)["z1"] * (len(images) - 1) / len(images)
    few = evaluation.variances_of_means(noisy, np.repeat(images, 300, axis=0), num_samples=2)["z1"]
    np.testing.assert_allclose(few, exact, atol=0.05)


def test_mean_and_standard_error():
    mean, error = evaluation.mean_and_standard_error([1.0, 2.0, 3.0, 6.0])
    assert (mean, error) == pytest.approx((3.0, np.sqrt(14 / 3) / 2))
    assert evaluation.mean_and_standard_error([2.0]) == (2.0, None)  # null in JSON: undefined


def test_evaluate_reports_what_it_computed(model, images):
    result, log_likelihoods = evaluation.evaluate(model, images, num_samples=50, seed=2)
    assert result["log_likelihood"] == pytest.approx(log_likelihoods.mean(), rel=1e-6)
    assert result["elbo"] <= result["log_likelihood"]
    assert result["elbo"] == pytest.approx(-result["distortion"] - result["rate"], rel=1e-5)
    assert "bits_per_dimension" not in result


def test_grey_images_get_bits_per_dimension(images):
    grey = create(ModelConfig(**{**CONFIG.__dict__, "likelihood": "discretized_logistic"}), seed=1)
    result, _ = evaluation.evaluate(grey, (images + 0.5) / 256, num_samples=10, jit_compile=False)
    assert result["bits_per_dimension"] == pytest.approx(-result["log_likelihood"] / (16 * np.log(2)), rel=1e-5)


def test_the_evaluations_of_two_splits_stand_beside_each_other(tmp_path):
    tiny = create(tiny_run.model_config(), seed=1)
    kept = {}
    for split in ("test", "validation"):
        report.write(tmp_path, tiny, tiny_run.dataset(), split, num_samples=2, jit_compile=False)
        assert all(path.read_bytes() == data for path, data in kept.items())
        kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert json.loads((tmp_path / "evaluation.json").read_text())["split"] == "test"
    assert json.loads((tmp_path / "evaluation_validation.json").read_text())["split"] == "validation"
    assert np.load(tmp_path / "figures" / "log_likelihoods.npy").shape == (12,)
    assert np.load(tmp_path / "figures" / "validation" / "log_likelihoods.npy").shape == (10,)
    report.write(tmp_path, tiny, tiny_run.dataset(), "test", 3, out=tmp_path / "quick.json", jit_compile=False)
    assert all(path.read_bytes() == data for path, data in kept.items())
    assert np.load(tmp_path / "figures" / "quick" / "log_likelihoods.npy").shape == (12,)


def test_log_likelihoods_are_there_before_the_figures(tmp_path, monkeypatch):
    def killed(*arguments):
        raise SystemExit

    monkeypatch.setattr(report, "write_figures", killed)
    with pytest.raises(SystemExit):
        report.write(
            tmp_path, create(tiny_run.model_config(), seed=1), tiny_run.dataset(), "test", 2, jit_compile=False
        )
    assert (tmp_path / "evaluation.json").exists()
    assert np.load(tmp_path / "figures" / "log_likelihoods.npy").shape == (12,)
