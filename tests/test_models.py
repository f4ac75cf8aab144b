"""The models as their users meet them: configuration, shapes, sampling from the right prior, errors."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from vampzoo import config, distributions, models, priors
from vampzoo.config import ModelConfig, TrainingConfig
from vampzoo.errors import InvalidValue
from vampzoo.models import base, build
from vampzoo.models import weights as model_weights
from vampzoo.zoo import card

KINDS = pytest.mark.parametrize(
    "fields",
    [
        {"model": "vae"},
        {"model": "hvae"},
        {"model": "hvae", "prior": "standard"},
        {"model": "hvae", "prior": "mog", "weighted": True},
        {"model": "vae", "prior": "vampprior_data", "likelihood": "discretized_logistic"},
        {"model": "hvae", "likelihood": "discretized_logistic_closed"},
        {"model": "topdown_hvae"},
        {"model": "topdown_hvae", "layers": 2, "decoder": "gated", "likelihood": "discretized_logistic"},
    ],
    ids=lambda fields: "-".join(map(str, fields.values())),
)

# === Configuration ===


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "vaee"}, "model='vaee' is unknown; the valid values are: vae, hvae, conv_hvae, pixel_hvae"),
        ({"prior": "vamp"}, "prior='vamp' is unknown; the valid values are: standard, mog, vampprior, vampprior_data"),
        ({"likelihood": "normal"}, "likelihood='normal' is unknown; the valid values are: bernoulli, discretized_log"),
        ({"num_components": 0}, "num_components must be a positive integer, got 0"),
        ({"num_components": 5.0}, "num_components must be a positive integer, got 5.0"),
        ({"hidden_units": -1}, "hidden_units must be a positive integer, got -1"),
        ({"z1_size": 0}, "z1_size must be a positive integer"),
        ({"z2_size": "40"}, "z2_size must be a positive integer"),
        ({"image_shape": (28, 28)}, "image_shape must be (height, width, channels), got (28, 28)"),
        ({"image_shape": (28, 0, 1)}, "image_shape must be (height, width, channels)"),
        ({"prior": "standard", "weighted": True}, "weighted=True needs a mixture prior"),
        ({"pseudo_inputs_stddev": -0.1}, "pseudo_inputs_stddev must be"),
        ({"pseudo_inputs_mean": float("nan")}, "pseudo_inputs_mean must be"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bad_configuration_names_the_field(fields, message):
    with pytest.raises(ValueError) as error:
        ModelConfig(**fields)
    assert message in str(error.value)


def test_numpy_scalars_are_numbers():
    sizes = np.array([20, 30])
    config = ModelConfig(num_components=sizes[0], pseudo_inputs_stddev=np.float32(0.5), weighted=np.bool_(True))
    assert config == ModelConfig(num_components=20, pseudo_inputs_stddev=0.5, weighted=True)
    training = TrainingConfig(batch_size=sizes[1], learning_rate=np.float32(0.25))
    assert training == TrainingConfig(batch_size=30, learning_rate=0.25)
    json.dumps([dataclasses.asdict(config), dataclasses.asdict(training)])  # which refuses NumPy's
    with pytest.raises(ValueError, match=r"num_components must be a positive integer, got 5\.0"):
        ModelConfig(num_components=np.float64(5.0))


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "vae", "prior": "vampprior"},
        {"model": "hvae", "prior": "mog"},
        {"model": "deep_vae", "prior": "standard"},
        {"model": "topdown_hvae", "prior": "vampprior_data", "decoder": "gated"},
        {"model": "topdown_hvae", "prior": "vampprior", "layers": 1},
        {"model": "topdown_hvae", "prior": "vampprior", "decoder": "pixel", "image_shape": (4, 4, 1)},
        {"model": "topdown_hvae", "prior": "vampprior", "decoder": "conv", "image_shape": (4, 4, 1)},
        {"model": "topdown_hvae", "prior": "vampprior", "decoder": "block", "image_shape": (4, 4, 1)},
    ],
    ids=lambda fields: "-".join(map(str, fields.values())),
)
def test_what_is_unused_makes_no_difference_and_the_rest_does(tiny_config, fields):
    def start(**changes):
        model = models.create(tiny_config(**{**fields, **changes}))
        model.prior_layer.start_at_examples(np.random.default_rng(0).random((9, *model.image_shape)), 0)
        return [np.array(weight.value) for weight in model.weights]

    def differ(weights, others):
        return len(weights) != len(others) or any(
            not np.array_equal(*pair) for pair in zip(weights, others, strict=True)
        )

    base, before = tiny_config(**fields), start()
    others = {"decoder": "deep", "state_maps": "gated", "shared_layers": True}
    made_otherwise = set()
    for field, value in dataclasses.asdict(base).items():
        if field not in ("model", "prior", "weighted", "likelihood", "image_shape"):
            if differ(before, start(**{field: others[field] if field in others else value + 1})):
                made_otherwise.add(field)
            else:
                assert field in base.unused(), field
    assert made_otherwise.isdisjoint(base.unused())


def test_configuration_round_trip(tiny_config):
    config = tiny_config(weighted=True)
    values = dataclasses.asdict(config)
    assert ModelConfig.from_dict({**values, "image_shape": list(config.image_shape)}) == config  # JSON has lists
    with pytest.raises(ValueError, match=r"unknown model settings \['depth'\]; the valid ones are: .*z2_size"):
        ModelConfig.from_dict({**values, "depth": 3})


# === Shapes and determinism ===


@KINDS
def test_shapes(tiny_model, binary_images, fields):
    model = tiny_model(**fields)
    latents = {
        "vae": {"z": 2},
        "hvae": {"z2": 2, "z1": 3},
        "topdown_hvae": {f"z{i}": 2 for i in range(fields.get("layers", 3), 0, -1)},
    }[fields["model"]]
    elbo = model.elbo(binary_images, seed=1)
    assert isinstance(elbo, np.ndarray) and elbo.shape == (7,) and np.isfinite(elbo).all()
    assert {name: mean.shape for name, (mean, _) in model.encode(binary_images).items()} == {
        name: (7, size) for name, size in latents.items()
    }
    assert all((scale > 0).all() for _, scale in model.encode(binary_images).values())
    for images in (model.sample(7, seed=1), model.reconstruct(binary_images)):
        assert isinstance(images, np.ndarray) and images.shape == (7, 4, 5, 1)
        assert images.min() >= 0 and images.max() <= 1
    terms = model.elbo_terms(binary_images, model.draw_noise(7, tf.constant([1, 2])))
    assert terms.distortion.shape == [7] and set(terms.rates) == set(latents)
    assert all(rate.shape == [7] for rate in terms.rates.values())
    assert f"{model.count_params():,} parameters" in model.describe()


def test_one_image_is_shared_by_all_draws(tiny_model, binary_images):
    for kind in ("vae", "hvae", "topdown_hvae"):
        model = tiny_model(model=kind)
        noise = model.draw_noise(6, tf.constant([1, 2]))
        shared = model.elbo_terms(binary_images[:1], noise).log_weight
        np.testing.assert_allclose(
            shared, model.elbo_terms(binary_images[[0] * 6], noise).log_weight, rtol=1e-6, atol=1e-4
        )


@pytest.mark.parametrize(("kind", "factor"), [("hvae", "q_z1"), ("topdown_hvae", "q_layers")])
def test_networks_of_ones_own_may_concatenate_features_and_latents(tiny_model, binary_images, kind, factor):
    def concatenating(network):
        inputs = [keras.Input(t.shape[1:]) for t in network.inputs]
        h = keras.layers.Dense(5, "tanh")(keras.layers.Concatenate()(inputs))
        return keras.Model(inputs, [keras.layers.Dense(t.shape[-1])(h) for t in network.outputs])

    model = tiny_model(model=kind)
    parts = model.networks()
    given = parts[factor] if isinstance(parts[factor], list) else [parts[factor]]
    assert all(base.joined_by_gates(network) for network in given)  # the zoo's do the work of equal rows once
    own = [concatenating(network) for network in given]
    parts[factor] = own if isinstance(parts[factor], list) else own[0]
    model = type(model)(**parts, prior=model.prior_layer, likelihood="bernoulli")
    noise = model.draw_noise(14, tf.constant([1, 2]))
    twice = model.elbo_terms(binary_images, noise, num_samples=2).log_weight
    repeated = model.elbo_terms(np.repeat(binary_images, 2, axis=0), noise).log_weight
    np.testing.assert_allclose(twice, repeated, rtol=1e-6, atol=1e-4)
    shared = model.elbo_terms(binary_images[:1], noise).log_weight
    repeated = model.elbo_terms(binary_images[[0] * 14], noise).log_weight
    np.testing.assert_allclose(shared, repeated, rtol=1e-6, atol=1e-4)
    assert np.isfinite(model.log_likelihood(binary_images[:2], 3, jit_compile=False)).all()


def test_the_seed_decides_what_is_random(tiny_model, binary_images):
    model = tiny_model()
    for draw in (
        lambda seed: model.elbo(binary_images, seed=seed),
        lambda seed: model.sample(4, seed=seed),
        lambda seed: model.sample(4, seed=seed, component=2),
        lambda seed: model.log_likelihood(binary_images[:2], 3, seed=seed, jit_compile=False),
    ):
        np.testing.assert_array_equal(draw(1), draw(1))
        assert (draw(1) != draw(2)).any()


def test_batches_of_samples_differ_and_full_ones_do_not_depend_on_those_after(tiny_model):
    model = tiny_model()
    images = model.sample(10, seed=1, batch_size=4)
    assert len(np.unique(images.reshape(10, -1), axis=0)) == 10
    np.testing.assert_array_equal(images[:8], model.sample(8, seed=1, batch_size=4))


def test_weights_survive_a_file(tiny_model, binary_images, tmp_path):
    for fields in ({"model": "vae", "prior": "mog"}, {"model": "hvae", "prior": "vampprior_data", "weighted": True}):
        model, other = tiny_model(seed=1, **fields), tiny_model(seed=2, **fields)
        model.save_weights(tmp_path / "model.weights.h5")
        other.load_weights(tmp_path / "model.weights.h5")
        np.testing.assert_array_equal(model.elbo(binary_images), other.elbo(binary_images))
        np.testing.assert_array_equal(model.sample(3), other.sample(3))


def test_weights_of_a_compiled_model_are_those_of_any(tiny_model, binary_images):
    compiled, other, fitted = (tiny_model(seed=seed, model="vae") for seed in (1, 2, 3))
    for model in (compiled, fitted):
        model.compile("adam", jit_compile=False)
    compiled.fit(binary_images, verbose=0)
    for model in (other, fitted):
        model_weights.from_bytes(model, model_weights.to_bytes(compiled))
        np.testing.assert_array_equal(model.sample(3), compiled.sample(3))


# === The prior in the model ===


def spread_posterior(model):
    """Makes q(z|u_k) depend strongly on k, so that the prior is nothing like N(0, I)."""
    head = model.prior_encoder.get_layer("mean")
    head.kernel.assign(30 * head.kernel)
    return model


@pytest.mark.parametrize("kind", ["vae", "hvae", "topdown_hvae"])
def test_samples_come_from_the_prior(tiny_model, monkeypatch, kind):
    model = spread_posterior(tiny_model(model=kind, weighted=True))
    model.prior_layer.logits.assign(np.linspace(-1, 1, 6))
    monkeypatch.setattr(model, "decode", lambda z, noise, seed: z)
    n = 4000
    z = model.sample(n, seed=1)
    prior = model.prior()
    mean, covariance = prior.mean().numpy(), prior.covariance().numpy()
    assert np.diag(covariance).max() > 4 or np.abs(mean).max() > 2  # far from N(0, I)
    assert (np.abs(z.mean(0) - mean) < 5 * np.sqrt(np.diag(covariance) / n)).all()
    np.testing.assert_allclose(np.cov(z.T), covariance, atol=0.1 * np.abs(covariance).max())
    nearest = prior.component_log_probs(z).numpy().argmax(1)
    assert set(nearest) == set(range(6))
    assert nearest[:6].tolist() != list(range(6))  # a random component for each sample, not the first n in turn


def test_samples_of_one_component_come_from_it(tiny_model, monkeypatch):
    model = spread_posterior(tiny_model())
    monkeypatch.setattr(model, "decode", lambda z, noise, seed: z)
    z = model.sample(2000, seed=1, component=3)
    q = model.q_z2(model.pseudo_inputs[3:4])  # the component is the posterior of its pseudo-input
    standard_errors = (z.mean(0) - q.mean()[0]) / (q.stddev()[0] / np.sqrt(2000))
    assert np.abs(standard_errors).max() < 5
    np.testing.assert_allclose(z.std(0), q.stddev()[0], rtol=0.1)


def test_lower_layers_are_drawn_from_their_conditional(tiny_model):
    model = tiny_model()
    z2 = tf.zeros([2, 2])
    noise = {"z1": tf.constant([[0.0] * 3, [2.0] * 3])}
    p_z1 = model.p_z1(z2)
    by_hand = model.p_x(p_z1.mean() + p_z1.stddev() * noise["z1"], z2).mean()
    np.testing.assert_allclose(model.decode(z2, noise), by_hand, atol=1e-6)
    np.testing.assert_allclose(model.decode(z2)[0], by_hand[0], atol=1e-6)  # without noise: the mean


@pytest.mark.parametrize("kind", ["vae", "hvae"])
def test_every_weight_gets_a_gradient(tiny_model, binary_images, kind):
    model = tiny_model(model=kind, weighted=True)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(model.elbo_terms(binary_images, model.draw_noise(7, tf.constant([1, 2]))).log_weight)
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        assert gradient is not None and np.abs(gradient).max() > 0, variable.path


def test_pseudo_inputs_are_the_models(tiny_model):
    assert tiny_model().pseudo_inputs.shape == (6, 4, 5, 1)
    with pytest.raises(AttributeError, match="pseudo_inputs"):
        _ = tiny_model(prior="standard").pseudo_inputs


# === Errors ===


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 5, 4, 1)), r"images must have shape \[B, 4, 5, 1\], got \(2, 5, 4, 1\)"),
        (np.zeros((4, 5)), r"images must have shape \[B, 4, 5, 1\]"),
        (np.zeros((2, 20)), r"images must have shape \[B, 4, 5, 1\]"),
        (np.full((2, 4, 5, 1), 255, np.uint8), "integer images must be 0 or 1"),
        (np.full((2, 4, 5, 1), 1.5), r"lie in \[0, 1\]"),
        (np.full((2, 4, 5, 1), -1), r"lie in \[0, 1\]"),
        (np.full((2, 4, 5, 1), np.nan), "hold no NaN"),
    ],
)
def test_bad_images(tiny_model, x, message):
    model = tiny_model(model="vae", prior="standard")
    for method in (model.elbo, model.encode, model.reconstruct, model.log_likelihood):
        with pytest.raises(ValueError, match=message):
            method(x)


def test_images_of_other_types_are_taken(tiny_model, binary_images):
    model = tiny_model(model="vae", prior="standard")
    expected = model.elbo(binary_images)
    for x in (
        binary_images.astype(bool),
        binary_images.astype(np.uint8),
        binary_images.astype(np.float64),
        binary_images[..., 0],
        binary_images.tolist(),
    ):
        np.testing.assert_array_equal(model.elbo(x), expected)


def test_bad_arguments(tiny_model, binary_images):
    model = tiny_model()
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        model.sample(0)
    for component in (-1, 6):
        with pytest.raises(ValueError, match=rf"component must be in \[0, 6\), got {component}"):
            model.sample(1, component=component)
    with pytest.raises(ValueError, match="the prior StandardNormal has no components: it is no mixture"):
        tiny_model(prior="standard").sample(1, component=0)
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        model.log_likelihood(binary_images, num_samples=0)


def _networks(decoder_shape, shape=(4, 4, 2)):
    x, z = keras.Input(shape), keras.Input((5,))
    h = keras.layers.Flatten()(x)
    encoder = keras.Model(x, [keras.layers.Dense(5)(h), keras.layers.Dense(5)(h)])
    units = int(np.prod(decoder_shape))
    return encoder, keras.Model(z, keras.layers.Reshape(decoder_shape)(keras.layers.Dense(units)(z)))


@pytest.mark.parametrize(
    ("decoder_shape", "prior", "likelihood", "message"),
    [
        ((4, 4, 1), priors.VampPrior(3, (4, 4, 2)), "bernoulli", r"p_x gives \[\(4, 4, 1\)\] .* takes \[\(4, 4, 2\)\]"),
        ((1, 1, 1), priors.VampPrior(3, (4, 4, 2)), "bernoulli", "p_x gives"),
        ((32,), priors.VampPrior(3, (4, 4, 2)), "bernoulli", "p_x gives"),
        ((4, 4, 2), priors.VampPrior(3, (4, 4, 2)), "discretized_logistic", "p_x gives"),
        ((4, 4, 2), priors.StandardNormal(1), "bernoulli", "over 1 latents, and the encoder has 5"),
        ((4, 4, 2), priors.MixtureOfGaussians(3, 4), "bernoulli", "over 4 latents, and the encoder has 5"),
        ((4, 4, 2), priors.VampPrior(3, (4, 4, 1)), "bernoulli", r"pseudo-inputs have the shape \(4, 4, 1\)"),
    ],
)
def test_networks_that_do_not_fit_together_are_refused(decoder_shape, prior, likelihood, message):
    q_z, p_x = _networks(decoder_shape)
    with pytest.raises(InvalidValue, match=message):
        models.VAE(q_z=q_z, p_x=p_x, prior=prior, likelihood=likelihood)


def test_a_subclass_may_make_another_use_of_its_decoder():
    class Tiled(models.VAE):
        def p_x(self, z, training=False):
            logits = keras.ops.tile(self.p_x_network(z), (1, 1, 1, 2))
            return distributions.image_likelihood(self.likelihood, logits)

    q_z, p_x = _networks((4, 4, 1))
    model = Tiled(q_z=q_z, p_x=p_x, prior=priors.StandardNormal(5), likelihood="bernoulli")
    assert model.sample(2).shape == (2, 4, 4, 2)


def test_unknown_likelihoods_and_priors_without_their_encoder_are_refused(tiny_model):
    q_z, p_x = _networks((4, 4, 2))
    with pytest.raises(InvalidValue, match="likelihood='bernouli' is unknown; the valid values are: bernoulli"):
        models.VAE(q_z=q_z, p_x=p_x, prior=priors.StandardNormal(5), likelihood="bernouli")
    deep = tiny_model(model="deep_vae", prior="standard")
    with pytest.raises(InvalidValue, match=r"needs an encoder q\(z2\|x\)"):
        models.DeepVAE(**deep.networks(), prior=priors.VampPrior(3, (4, 5, 1)), likelihood="bernoulli")


def test_more_samples_than_can_be_counted(tiny_model, binary_images):
    with pytest.raises(InvalidValue, match="may be at most 2147483647"):
        tiny_model().log_likelihood(binary_images, num_samples=3 * 10**9)


def test_what_are_no_networks_of_a_vae_is_refused():
    prior = priors.StandardNormal(5)
    q_z, p_x = _networks((4, 4, 2))
    for wrong in (keras.Model(q_z.input, [*q_z.output, q_z.output[0]]), keras.Model(q_z.input, q_z.output[0])):
        with pytest.raises(InvalidValue, match="q_z must be a functional Keras model with two outputs"):
            models.VAE(q_z=wrong, p_x=p_x, prior=prior, likelihood="bernoulli")
    unbuilt = keras.Sequential([keras.layers.Dense(32), keras.layers.Reshape((4, 4, 2))])
    with pytest.raises(InvalidValue, match="p_x is not built"):
        models.VAE(q_z=q_z, p_x=unbuilt, prior=prior, likelihood="bernoulli")
    q_z, p_x = _networks((4, 4), (4, 4))
    with pytest.raises(InvalidValue, match=r"takes \(4, 4\): give it a channel axis"):
        models.VAE(q_z=q_z, p_x=p_x, prior=prior, likelihood="bernoulli")


@pytest.mark.parametrize(("kind", "factor"), [("hvae", "p_z1"), ("deep_vae", "p_z1"), ("topdown_hvae", "p_layers")])
def test_p_and_q_of_a_latent_are_over_as_many(tiny_model, kind, factor):
    model = tiny_model(model=kind, prior="mog")
    parts = model.networks()
    network = parts[factor][0] if isinstance(parts[factor], list) else parts[factor]
    x = keras.Input(network.input.shape[1:])
    narrow = keras.Model(x, [keras.layers.Dense(1)(x), keras.layers.Dense(1)(x)])
    parts[factor] = [narrow, *parts[factor][1:]] if isinstance(parts[factor], list) else narrow
    with pytest.raises(InvalidValue, match="is over 1 latents, and q over"):
        type(model)(**parts, prior=model.prior_layer, likelihood="bernoulli")


def test_a_likelihood_of_ones_own_on_vectors(tmp_path):
    class Normal(models.VAE):
        def p_x(self, z, training=False):
            return tfd.Independent(tfd.Normal(self.p_x_network(z, training=training), 1.0), 1)

    q_z, p_x = _networks((6,), (6,))
    model = Normal(q_z=q_z, p_x=p_x, prior=priors.VampPrior(3, (6,), bounds=None), likelihood="normal")
    x = np.random.default_rng(0).normal(3.0, 2.0, (9, 6)).astype(np.float32)
    model.compile("adam", jit_compile=False)
    model.fit(x, verbose=0)
    assert (
        model.sample(2).shape == (2, 6) and model.reconstruct(x).shape == model.predict(x, verbose=0).shape == x.shape
    )
    assert np.isfinite(model.log_likelihood(x, 5, jit_compile=False)).all() and model.encode(x)["z"][0].shape == (9, 5)
    with pytest.raises(InvalidValue, match=r"must have shape \[B, 6\]"):
        model.elbo(x[:, :5])
    with pytest.raises(InvalidValue, match="NaN or infinities"):
        model.elbo(np.full_like(x, np.nan))


def test_export_of_keras(tiny_model, binary_images, tmp_path):
    model = tiny_model()
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(binary_images), model.reconstruct(binary_images), rtol=1e-5)


def test_every_name_has_its_title_and_its_making():
    assert set(config.MODELS) == set(config.MODEL_TITLES) == set(build._BUILDERS)
    assert set(config.PRIORS) == set(config.PRIOR_TITLES) == set(card.PRIOR_DESCRIPTIONS)
    tiny = {"image_shape": (4, 4, 1), "num_components": 2}
    kinds = [type(build.create_prior(ModelConfig(prior=name, **tiny), 0)) for name in config.PRIORS]
    assert len(set(kinds)) == len(kinds)
