"""Evaluation: what evaluation.json says follows from the model alone, not from how the data is cut."""

import functools
import json

import numpy as np
import pytest
import tensorflow as tf
import tiny_run

from vampzoo import datasets, evaluation, random
from vampzoo.config import ModelConfig
from vampzoo.errors import InvalidValue
from vampzoo.evaluation import report, tightness
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
    result, log_likelihoods = evaluation.evaluate(model, images, num_samples=50, seed=2, jit_compile=False)
    assert result["log_likelihood"] == pytest.approx(log_likelihoods.mean(), rel=1e-6)
    assert result["elbo"] <= result["log_likelihood"]
    assert result["elbo"] == pytest.approx(-result["distortion"] - result["rate"], rel=1e-5)
    assert "bits_per_dimension" not in result


@pytest.mark.parametrize(
    "how", [lambda x: 255 * x, lambda x: 2 * x - 1, lambda x: np.where(x > 0, np.nan, x), lambda x: x[:, :3]]
)
def test_what_are_no_images_of_the_model_is_refused_at_once(model, images, how, monkeypatch):
    monkeypatch.setattr(model, "elbo_terms", lambda *a, **k: pytest.fail("something was computed"))
    for function in (evaluation.evaluate, evaluation.log_likelihood):
        with pytest.raises(InvalidValue, match="images must"):
            function(model, how(images), num_samples=2)


@pytest.mark.parametrize("num_samples", [1, 300, 5000])
def test_every_image_is_computed_once_however_many_samples(model, images, num_samples):
    rows = []

    def counted(function, x, noise):
        x = tf.ensure_shape(tf.py_function(lambda x: (x, rows.append(len(x)))[0], [x], x.dtype), x.shape)
        return function(x, noise)

    many = np.tile(images, [10, 1, 1, 1])[:100]
    elbo = evaluation.DatasetElbo(model, many, jit_compile=False, map_rows=counted, num_samples=num_samples)
    assert elbo(random.key(0))["elbo"].shape == (100,) and sum(rows) == 100


def test_of_one_image_there_are_no_active_units(model, images):
    result, _ = evaluation.evaluate(model, images[:1], num_samples=2, jit_compile=False)
    assert "active_units" not in result and result["elbo_stderr"] is None
    with pytest.raises(InvalidValue, match="at least 2 images, got 1"):
        evaluation.active_units(model, images[:1])
    with pytest.raises(InvalidValue, match="at least 2 num_samples, got 1"):
        evaluation.active_units(model, images, num_samples=1)


def test_training_images_that_are_intensities_are_drawn_once(tmp_path, without_figures):
    model = create(tiny_run.model_config(), 0)
    data = tiny_run.dataset(dynamic=True)
    results = [report.write(tmp_path / name, model, data, "train", 2, jit_compile=False) for name in "ab"]
    bits = datasets.draw_bits(data.train, "train")
    assert set(np.unique(bits)) == {0, 1} and abs(bits.mean() - data.train.mean()) < 0.1
    expected, _ = evaluation.evaluate(model, bits, 2, jit_compile=False)
    for result in results:
        assert result["drawn_bits"] is True and result["elbo"] == expected["elbo"]


def test_no_images_have_no_likelihood(model, images):
    of_model = (model.elbo, model.log_likelihood, model.responsibilities, model.component_usage)
    functions = (evaluation.evaluate, evaluation.importance_estimates, tightness.refined_estimates)
    for call in (*of_model, *(functools.partial(function, model) for function in functions)):
        with pytest.raises(InvalidValue, match="at least one image is needed"):
            call(images[:0])


def test_grey_images_have_no_likelihood_under_a_bernoulli(model, images):
    grey = 0.3 + 0.4 * images
    functions = (evaluation.evaluate, evaluation.importance_estimates, tightness.refined_estimates)
    for call in (model.elbo, model.log_likelihood, *(functools.partial(function, model) for function in functions)):
        with pytest.raises(InvalidValue, match="grey values have no likelihood under a Bernoulli"):
            call(grey)
    assert model.reconstruct(grey).shape == grey.shape  # which needs no likelihood
    with pytest.raises(InvalidValue, match="images must lie in"):
        evaluation.active_units(model, 255 * images)


@pytest.mark.parametrize("num_samples", [0, -3, 2**31, 1.5, np.inf])
def test_numbers_of_samples(model, images, num_samples):
    for function in (evaluation.evaluate, evaluation.importance_estimates, tightness.refined_estimates):
        with pytest.raises(InvalidValue, match="num_samples m"):
            function(model, images, num_samples=num_samples)
    with pytest.raises(InvalidValue, match="steps must be at least 1"):
        tightness.refined_estimates(model, images, steps=0)
    values = [model.log_likelihood(images, number, jit_compile=False) for number in (np.int64(3), 3)]
    np.testing.assert_array_equal(*values)


def test_the_importance_chunk_may_be_changed_between_calls(images):
    model = create(CONFIG, seed=1)
    values = []
    for chunk in (5, 1000, 5):
        model.importance_chunk = chunk
        values.append(model.log_likelihood(images, num_samples=20, jit_compile=False))
    fresh = create(CONFIG, seed=1)
    np.testing.assert_array_equal(values[1], fresh.log_likelihood(images, num_samples=20, jit_compile=False))
    np.testing.assert_array_equal(values[0], values[2])
    assert not np.array_equal(values[0], values[1])


def test_grey_images_get_bits_per_dimension(images):
    grey = create(ModelConfig(**{**CONFIG.__dict__, "likelihood": "discretized_logistic"}), seed=1)
    result, _ = evaluation.evaluate(grey, (images + 0.5) / 256, num_samples=10, jit_compile=False)
    assert result["bits_per_dimension"] == pytest.approx(-result["log_likelihood"] / (16 * np.log(2)), rel=1e-5)


def test_the_evaluations_of_two_splits_stand_beside_each_other(tmp_path, without_figures):
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
