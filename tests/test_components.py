"""Which component explains what, and what the ELBO consists of: against closed forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_run

from vampzoo import evaluation, models, priors, random, training
from vampzoo.errors import InvalidValue
from vampzoo.evaluation import components
from vampzoo.training.usage import ComponentUsage

SHAPE = (1, 1, 1)


@keras.saving.register_keras_serializable("tests")
class Affine(keras.layers.Layer):
    """x -> slope * x with a constant log-variance, [B, 1] each."""

    def __init__(self, slope, log_var, **kwargs):
        super().__init__(**kwargs)
        self.slope, self.log_var = slope, log_var

    def call(self, x):
        mean = tf.reshape(x, [-1, 1]) * self.slope
        return mean, tf.fill(tf.shape(mean), self.log_var)

    def compute_output_shape(self, shape):
        return ((shape[0], 1), (shape[0], 1))


def affine_model(slope, pseudo_inputs, log_var=-4.0, weighted=False):
    """A VAE of one pixel whose posterior at x is N(slope * x, exp(log_var))."""
    x, z = keras.Input(SHAPE), keras.Input((1,))
    encoder = keras.Model(x, list(Affine(slope, log_var)(x)))
    prior = priors.VampPrior(len(pseudo_inputs), SHAPE, weighted=weighted)
    prior.set_pseudo_inputs(np.reshape(pseudo_inputs, (-1, *SHAPE)))
    decoder = keras.Model(z, keras.layers.Reshape(SHAPE)(keras.layers.Dense(1)(z)))
    return models.VAE(q_z=encoder, p_x=decoder, prior=prior, likelihood="bernoulli")


def pixels(*values):
    return np.reshape(np.array(values, np.float32), (-1, *SHAPE))


def test_far_apart_components_explain_their_own_image():
    model = affine_model(100.0, [0.0, 1.0, 0.5])
    r = model.responsibilities(pixels(0, 1, 1, 0, 1), num_samples=4)
    np.testing.assert_allclose(r, np.eye(3)[[0, 1, 1, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(model.component_usage(pixels(0, 1, 1, 1)), [0.25, 0.75, 0], atol=1e-6)
    usage = components.mixture_usage(model, pixels(0, 1, 1, 0))
    assert usage["effective_components"] == pytest.approx(2) and usage["dead_components"] == 1


def test_equal_components_share_by_their_weights():
    model = affine_model(1.0, [0.5, 0.5], weighted=True)
    model.prior_layer.logits.assign(np.log([0.8, 0.2]))
    np.testing.assert_allclose(model.component_usage(pixels(0, 1)), [0.8, 0.2], atol=1e-6)


def test_the_mean_over_draws_is_the_integral():
    model = affine_model(1.0, [0.0, 1.0], log_var=0.0)
    z = np.random.default_rng(0).normal(0.3, 1.0, 200_000)
    expected = np.mean(1 / (1 + np.exp(-(z - 0.5))))  # of N(z; 1, 1) against N(z; 0, 1)
    actual = model.responsibilities(pixels(0.3), num_samples=4000)[0, 1]
    assert actual == pytest.approx(expected, abs=4 * 0.2 / np.sqrt(4000))


@pytest.mark.parametrize("k", [1, 7])
def test_uniform_usage(k):
    usage = components.usage_of(np.eye(k))
    assert usage["effective_components"] == pytest.approx(k) and usage["dead_components"] == 0


def test_a_prior_without_components(tiny_model, binary_images):
    model = tiny_model(prior="standard")
    with pytest.raises(InvalidValue, match="StandardNormal has no components"):
        model.responsibilities(binary_images)
    assert components.mixture_usage(model, binary_images) == {}
    with pytest.raises(InvalidValue, match="num_samples must be at least 1"):
        tiny_model().responsibilities(binary_images, num_samples=0)


def parts_of(model, images):
    terms = evaluation.DatasetElbo(model, images, jit_compile=False)(random.key(0))
    return components.decomposition(model, images, terms), terms


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "vae"},
        {"model": "hvae", "prior": "standard"},
        {"model": "deep_vae", "prior": "mog"},
        {"model": "topdown_hvae"},
    ],
)
def test_the_parts_sum_to_the_elbo(tiny_model, binary_images, fields):
    model = tiny_model(**fields)
    parts, terms = parts_of(model, binary_images)
    total = parts["reconstruction"] + parts["entropy"] - parts["cross_entropy"] - parts.get("rates_below", 0)
    assert total == pytest.approx(terms["elbo"].mean(), rel=1e-5)
    assert ("rates_below" in parts) == (fields["model"] != "vae")
    assert ("mutual_information" in parts) == (fields["model"] != "deep_vae")


def test_entropy_and_cross_entropy_in_closed_form():
    """One component at the images' own posterior: entropy and cross-entropy are the Gaussian's."""
    parts, _ = parts_of(affine_model(1.0, [1.0]), pixels(*[1] * 50))
    entropy = 0.5 * (np.log(2 * np.pi * np.e) - 4.0)
    assert parts["entropy"] == pytest.approx(entropy, abs=1e-5) and parts["entropy_stderr"] < 1e-6
    assert parts["cross_entropy"] == pytest.approx(entropy, abs=1e-4)
    assert parts["marginal_kl"] == pytest.approx(0, abs=1e-4)


def test_mutual_information_of_equal_and_of_disjoint_posteriors():
    same, _ = parts_of(affine_model(100.0, [0.0]), pixels(*[1] * 20))
    assert same["mutual_information"] == pytest.approx(0, abs=1e-5)
    disjoint, _ = parts_of(affine_model(1000.0, [0.0]), pixels(*np.linspace(0, 1, 20)))
    assert disjoint["mutual_information"] == pytest.approx(np.log(20), abs=1e-4)
    assert disjoint["mutual_information_limit"] == pytest.approx(np.log(20))
    assert disjoint["mutual_information_images"] == 20


def test_mutual_information_and_marginal_kl_are_the_rate(tiny_model, binary_images):
    model = tiny_model(model="hvae")
    images = np.repeat(binary_images, 40, axis=0)
    parts, terms = parts_of(model, images)
    rate = terms["rate_z2"]
    error = rate.std() / np.sqrt(len(rate))
    assert parts["mutual_information"] + parts["marginal_kl"] == pytest.approx(rate.mean(), abs=5 * error)


def test_evaluation_reports_them(tiny_model, binary_images):
    result, _ = evaluation.evaluate(tiny_model(), binary_images, num_samples=2, jit_compile=False)
    assert 1 <= result["effective_components"] <= 6 and 0 <= result["dead_components"] < 6
    parts = result["decomposition"]
    total = parts["reconstruction"] + parts["entropy"] - parts["cross_entropy"] - parts["rates_below"]
    assert total == pytest.approx(result["elbo"], rel=1e-5)


def test_pictures_show_the_most_used_first():
    usage = np.array([0.1, 0.0, 0.6, 0.3])
    shown = components.most_used(usage, 3)
    assert shown.tolist() == [2, 3, 0]
    title = components.usage_title(usage, shown)
    assert title.startswith("3 of 4 pseudo-inputs, the most used first: from 60.00% to 10.00% of the images")
    assert f"{components.effective_number(usage):.1f}" in title


def test_advice_is_for_priors_most_of_which_is_dead():
    def advice(dead, num_images, effective=9.3, prior=None):
        measures = {"dead_components": dead, "effective_components": effective}
        return components.advice(measures, prior or priors.VampPrior(500, (2,)), num_images)

    assert advice(250, 1000) is None
    assert advice(400, 200) is None  # 100 of 200 images have one of their own
    assert advice(499, 1000, effective=499.9) is None  # all are alike
    text = advice(483, 1000)
    assert "17 of the prior's 500 components" in text and "9.3" in text and "samples come from the others" in text
    assert all(flag in text for flag in ("--weighted", "--pseudo_inputs_from_data", "--num_components"))
    text = advice(483, 1000, prior=priors.MixtureOfGaussians(500, 2, weighted=True))
    assert "--num_components" in text
    assert not any(word in text for word in ("--weighted", "--pseudo_inputs_from_data", "samples come from"))


def test_training_measures_them_and_advises_once(tmp_path, capsys, monkeypatch):
    usage = {"effective_components": 1.5, "dead_components": 29}
    monkeypatch.setattr(components, "usage_of", lambda responsibilities: usage)
    data = tiny_run.dataset()
    model = tiny_run.model_config(num_components=30, pseudo_inputs_stddev=0.0, pseudo_inputs_mean=0.5)
    config = tiny_run.training_config(epochs=4, warmup_epochs=1, learning_rate=1e-9)  # all components stay alike
    trainer = tiny_run.trainer(tmp_path, model, config, data, image_epochs=1)
    trainer.fit()
    assert capsys.readouterr().err.count("1 of the prior's 30 components explain all of 10 validation images") == 1
    events = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").rglob("events*"))
    for name in ("effective_components", "dead_components", "mutual_information", "cross_entropy"):
        assert b"components/" + name.encode() in events
    assert b"10 of 30" not in events and b"30 of 30 pseudo-inputs, the most used first" in events


def test_averaged_weights_are_those_that_are_shown(tmp_path, monkeypatch):
    own, shown = [], []
    show, measure = training.Trainer._show, ComponentUsage.measure
    monkeypatch.setattr(
        training.Trainer,
        "_show",
        lambda trainer, *arguments: (own.extend(tiny_run.weights(trainer.model)), show(trainer, *arguments)),
    )
    monkeypatch.setattr(
        ComponentUsage, "measure", lambda usage: (shown.extend(tiny_run.weights(usage._model)), measure(usage))[1]
    )
    config = tiny_run.training_config(epochs=1, ema_momentum=0.9)
    trainer = tiny_run.trainer(tmp_path, config=config, image_epochs=1)
    trainer.fit()
    averages = trainer.optimizer._model_variables_moving_average
    assert len(shown) == len(averages)
    for weight, average, before in zip(shown, averages, own, strict=True):
        np.testing.assert_array_equal(weight, average)
        assert np.abs(weight - before).max() > 1e-6
